"""Who may be on the court: the teams and their numbers, from a CSV file."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

from courtside.errors import RosterError

__all__ = ["Roster", "read_roster"]

_HEADER = "team,jersey_number"


@dataclass(frozen=True, slots=True)
class Roster:
    """The numbers of each team, in the order of the file; ``unnumbered`` counts rows without a number."""

    teams: dict[str, tuple[str, ...]]
    unnumbered: int = 0

    def numbers(self, team: str | None) -> tuple[str, ...]:
        """The numbers of ``team``, or of all teams where it is None or not in the roster.

        >>> Roster({"home": ("4", "00"), "away": ("4",)}).numbers(None)
        ('4', '00')
        """
        if team in self.teams:
            return self.teams[team]
        return tuple(dict.fromkeys(number for numbers in self.teams.values() for number in numbers))


def read_roster(path: str | Path) -> Roster:
    """The roster in a CSV file with the columns ``team`` and ``jersey_number`` (or ``number``); others are
    not read, so that a ``roster.csv`` of labels serves as well.

    A number is one or two digits, and "0" is not "00"; a row without one is a player whose number nobody
    knows. Raises :class:`RosterError` naming file, line and fix: the file or a column is missing, a row
    has no team, a number is something else, or occurs twice in a team.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        said = getattr(error, "strerror", None) or "it is not text in UTF-8"
        raise RosterError(f"the roster {path} cannot be read ({said}): give a CSV file {_HEADER}") from error
    reader = csv.reader(text.splitlines())
    header = [name.strip().lower() for name in next(reader, [])]
    places = []
    for names in (("team",), ("jersey_number", "number")):
        place = next((header.index(name) for name in names if name in header), None)
        if place is None:
            raise RosterError(f"{path}, line 1: no column {names[0]}; write the header {_HEADER}")
        places.append(place)
    lines: dict[tuple[str, str], int] = {}
    teams: dict[str, tuple[str, ...]] = {}
    unnumbered = 0
    for fields in reader:
        where = f"{path}, line {reader.line_num}"
        if not any(field.strip() for field in fields):
            continue
        if len(fields) != len(header):
            raise RosterError(f"{where}: {len(fields)} columns instead of {len(header)}; write {_HEADER}")
        team, number = (fields[place].strip() for place in places)
        if not team:
            raise RosterError(f"{where}: no team; name one, the same for all of its players")
        teams.setdefault(team, ())
        if not number:
            unnumbered += 1
            continue
        if not re.fullmatch(r"[0-9]{1,2}", number):
            raise RosterError(f"{where}: jersey number {number!r}; write one or two digits, or nothing")
        if (team, number) in lines:
            raise RosterError(
                f"{where}: {team} has number {number} twice (line {lines[team, number]}); correct one of them"
            )
        lines[team, number] = reader.line_num
        teams[team] = (*teams[team], number)
    if not teams:
        raise RosterError(f"{path} lists nobody; write a row {_HEADER} for each player")
    return Roster(teams, unnumbered)
