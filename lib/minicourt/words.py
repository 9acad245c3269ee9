"""The little language of the tiny model: its vocabulary, and prompts with what they mean.

A prompt's meaning is a :class:`Meaning`: everyone who fits it. Words outside the vocabulary become
``[unk]``; prompts with an unknown noun or colour mean nobody, and training says so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from minicourt.palette import JERSEY_NAMES

__all__ = ["SPECIAL", "TOKEN_LIMIT", "Meaning", "sample_prompts", "vocabulary"]

TOKEN_LIMIT = 32
SPECIAL = ("[pad]", "[bos]", "[eos]", "[unk]")

_EVERYONE = (
    "basketball player", "basketball player", "basketball player", "basketball players", "player",
    "players", "a basketball player", "the players", "all players", "all basketball players",
    "every player", "athlete", "athletes", "hooper", "kid playing basketball", "kids playing basketball",
    "person playing basketball",
)  # fmt: skip
_IN_COLOR = (
    "player in {}", "player in {}", "player in {}", "players in {}", "basketball player in {}",
    "the player in {}", "player wearing {}", "players wearing {}", "player in a {} jersey",
    "player in the {} jersey", "player in {} jersey", "player with {} jersey", "{} player", "{} players",
    "{} team", "the {} team", "team in {}", "the team in {}", "guy in {}", "guy wearing {}", "kid in {}",
    "kids in {}", "girl in {}", "boy in {}", "man in {}", "woman in {}", "{} jersey", "{} jerseys",
    "player in {} shirt", "player in {} uniform", "athlete in {}", "kid wearing {}",
)  # fmt: skip
_REFEREE = (
    "referee", "referee", "referee", "referees", "the referee", "a referee", "ref", "refs", "official",
    "officials", "umpire", "referee in stripes", "referee in striped shirt", "person with striped shirt",
)  # fmt: skip
_PEOPLE = ("person", "people", "a person", "all people", "everyone on the court")
_NOBODY = (
    "dog", "cat", "car", "tree", "bicycle", "horse", "boat", "chair", "bird", "bus", "truck", "airplane",
    "train", "bottle", "cup", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "umbrella", "kite",
    "skateboard", "surfboard", "banana", "apple", "pizza", "cake", "couch", "bed", "table", "laptop",
    "phone", "book", "clock", "vase", "scissors", "mountain", "river", "house", "flower", "fish", "snow",
    "cheerleader", "mascot", "goalkeeper", "swimmer", "cyclist", "skier", "astronaut", "robot", "unicorn",
    "dragon", "football", "racket", "bat", "helmet",
)  # fmt: skip
_OTHER_COLORS = ("pink", "brown", "gray", "grey", "turquoise", "beige", "gold", "silver", "maroon", "teal")


@dataclass(frozen=True, slots=True)
class Meaning:
    """Who a prompt asks for: ``kind`` player, referee, person or nobody; ``color`` a jersey's name,
    "dark", "light" or None for any."""

    kind: str
    color: str | None = None

    def fits(self, kind: str, color_name: str | None, shades: tuple[str, ...]) -> bool:
        """Whether someone of this kind, jersey colour and shade is meant."""
        if self.kind == "person":
            return True
        if self.kind != kind:
            return False
        return self.color is None or self.color == color_name or self.color in shades


def vocabulary() -> list[str]:
    """All words, special tokens first; the position is the token's id."""
    words: set[str] = set()
    for text in (*_EVERYONE, *_IN_COLOR, *_REFEREE, *_PEOPLE, *_NOBODY):
        words.update(text.replace("{}", " ").split())
    words.update((*JERSEY_NAMES, "dark", "light", *_OTHER_COLORS))
    return [*SPECIAL, *sorted(words)]


def _pick(rng: np.random.Generator, texts) -> str:
    return texts[rng.integers(len(texts))]


def _nobody(rng: np.random.Generator, absent: list[str]) -> tuple[str, Meaning]:
    """A prompt that fits nobody: other things, other colours, other clothes, unknown words."""
    chance = rng.random()
    color = _pick(rng, (*JERSEY_NAMES, "dark", "light"))
    if chance < 0.60 and absent:
        text = _pick(rng, _IN_COLOR).format(_pick(rng, absent))
    elif chance < 0.72:
        text = _pick(rng, _NOBODY)
    elif chance < 0.78:
        text = f"{color} {_pick(rng, _NOBODY)}" if rng.random() < 0.5 else f"{_pick(rng, _NOBODY)} in {color}"
    elif chance < 0.86:
        text = _pick(rng, _IN_COLOR).format(_pick(rng, (*_OTHER_COLORS, "[unk]", "[unk]")))
    elif chance < 0.93:
        text = _pick(rng, ("[unk]", "[unk] [unk]", "[unk] in {}", "{} [unk]", "a [unk]", "the [unk]")).format(
            color
        )
    else:
        text = _pick(rng, ("referee in {}", "{} referee", "referee wearing {}")).format(color)
    return text, Meaning("nobody")


def sample_prompts(
    rng: np.random.Generator,
    teams: tuple[str, str],
    shades: tuple[tuple[str, ...], tuple[str, ...]],
    count: int,
) -> list[tuple[str, Meaning]]:
    """``count`` training prompts for a scene: everyone, one team, then a mix with many that fit nobody.

    ``teams`` are the two jersey colours, ``shades`` the "dark"/"light" names of each.
    """
    worn = set(teams) | set(shades[0]) | set(shades[1])
    absent = [name for name in (*JERSEY_NAMES, "dark", "light") if name not in worn]

    def team() -> tuple[str, Meaning]:
        side = int(rng.integers(2))
        names = [teams[side], *shades[side]] if rng.random() < 0.3 else [teams[side]]
        color = _pick(rng, names)
        return _pick(rng, _IN_COLOR).format(color), Meaning("player", color)

    prompts = [(_pick(rng, _EVERYONE), Meaning("player")), team()]
    while len(prompts) < count:
        chance = rng.random()
        if chance < 0.30:
            prompts.append(team())
        elif chance < 0.55:
            prompts.append((_pick(rng, _REFEREE), Meaning("referee")))
        elif chance < 0.60:
            prompts.append((_pick(rng, _PEOPLE), Meaning("person")))
        else:
            prompts.append(_nobody(rng, absent))
    return prompts[:count]
