"""What labelling begins with: the tracks of a run, labels made elsewhere, or nothing; copied once."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from courtside.errors import LabelsError
from courtside.files import whole
from courtside.folder import Run
from courtside.labelling.identities import Draft, Person, empty_rows, settled
from courtside.players import Tracklet, own_ids, owners, tracklets_of
from courtside.video import Video
from courtside.watch import write_json

__all__ = ["FACTS", "begin", "read"]

FACTS = "origin.json"
"""The file that says of which video labels are, and what they began with."""

_TRACKS = "origin.parquet"
_EXPORTS = (".xml", ".zip", ".json", ".txt")


def begin(folder: Path, video: Video, sha256: str, start: str | Path | None, labels: Path) -> None:
    """Copy the tracks of ``start``, a run or labels, into ``folder``; those in ``labels`` by default.

    Raises :class:`LabelsError` where they are of another video.
    """
    if start is None and any((labels / name).exists() for name in ("gt/gt.txt", "seqinfo.ini")):
        start = labels
    if start is None:
        draft = Draft(empty_rows(), np.zeros(video.frame_count, bool))
    elif (Path(start) / "config.json").is_file():
        draft = _of_run(Run(start), video, sha256)
    else:
        draft = _of_labels(Path(start), video)
    with whole(folder / _TRACKS) as part:
        draft.rows.to_parquet(part, index=False)
    size = {"width": video.width, "height": video.height, "frame_count": video.frame_count}
    facts = {
        "video": {"name": video.name, "sha256": sha256, **size},
        "start": None if start is None else Path(start).name,
        "people": {str(one): asdict(person) for one, person in draft.people.items()},
        "labelled": np.flatnonzero(draft.labelled).tolist(),
        "prompts": draft.prompts,
    }
    # Written last: where it is, everything is.
    write_json(folder / FACTS, facts)


def read(folder: Path, video: Video, sha256: str) -> tuple[Draft, dict[str, Any]]:
    """What labelling began with, and the facts about it; raises :class:`LabelsError` for another video."""
    path = folder / FACTS
    try:
        facts = json.loads(path.read_text())
        held = facts["video"]
        if held["sha256"] != sha256:
            raise LabelsError(
                f"{folder.parent} holds labels of another video ({held['name']}, {held['frame_count']}"
                f" frames, not {video.path}): choose another folder"
            )
        rows = settled(pd.read_parquet(folder / _TRACKS))
        people = {int(one): Person(**_tupled(said)) for one, said in facts["people"].items()}
        labelled = np.zeros(video.frame_count, bool)
        labelled[facts["labelled"]] = True
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise LabelsError(
            f"{path} or what it names can't be read ({error}): get {folder} back from a copy"
        ) from error
    return Draft(rows, labelled, people, tuple(facts["prompts"])), facts


def _of_run(run: Run, video: Video, sha256: str) -> Draft:
    held = run.config()["inputs"]["video"]
    if held["sha256"] != sha256:
        raise LabelsError(
            f"{run.folder} holds the run of another video ({held['path']}, not {video.path}): name the run of"
            " this one"
        )
    table = run.detections()
    rows = table.rename(columns={"tracking_id": "object_id"}).assign(
        ignored=False, visibility=np.nan, deleted=False
    )
    people: dict[int, Person] = {}
    for one, own in table.dropna(subset="prompt").groupby("tracking_id")["prompt"]:
        people[int(one)] = Person(prompts=tuple(own.unique().tolist()))
    if run.status()["read"]["state"] == "done":
        # Who a track went on with is somebody else; what another lent for a moment is not.
        whose = [
            (part, track, player)
            for player in run.players().itertuples()
            for part, track in _with_tracks(tracklets_of(player))
        ]
        firsts: dict[tuple[str, int], Tracklet] = {}
        for part, track, player in whose:
            firsts.setdefault((player.player_id, track), part)
        ids = dict(zip(firsts, own_ids([*firsts.values()]), strict=True))
        of_parts = [ids[player.player_id, track] for _, track, player in whose]
        parts = [part for part, _, _ in whose]
        places = owners(parts, rows["object_id"].to_numpy(), rows["frame"].to_numpy())
        rows = rows.assign(object_id=np.array(of_parts, np.int64)[places])[places >= 0]
        for one, (_, track, player) in zip(of_parts, whose, strict=True):
            said = [None if pd.isna(each) else str(each) for each in (player.team, player.jersey_number)]
            prompts = people.get(track, Person()).prompts
            people[one] = Person(None, *said, prompts=prompts)
    texts = [*run.settings().prompts, *table["prompt"].dropna().unique()]
    labelled = np.zeros(video.frame_count, bool)
    return Draft(settled(rows), labelled, people, tuple(dict.fromkeys(texts)))


def _with_tracks(parts: list[Tracklet]) -> list[tuple[Tracklet, int]]:
    """Each of a player's parts, in order of time, with its track, or the one that goes on around it."""
    tracks = [part.tracking_id for part in parts]
    for place in range(1, len(parts) - 1):
        if tracks[place - 1] == tracks[place + 1]:
            tracks[place] = tracks[place - 1]
    return list(zip(parts, tracks, strict=True))


def _of_labels(path: Path, video: Video) -> Draft:
    from courtside.labels import read_labels

    labels = read_labels(path, video)
    rows = labels.ground_truth.assign(confidence=1.0, deleted=False)
    people: dict[int, Person] = {}
    if labels.roster is not None:
        for row in labels.roster.itertuples():
            said = [None if pd.isna(each) else str(each) for each in (row.team, row.jersey_number)]
            people[int(row.object_id)] = Person(None, *said)
    for prompt, objects in (labels.prompts or {}).items():
        for one in objects:
            person = people.get(one, Person())
            people[one] = Person(person.name, person.team, person.jersey_number, (*person.prompts, prompt))
    labelled = np.zeros(video.frame_count, bool)
    labelled[labels.labelled_frames] = True
    return Draft(settled(rows), labelled, people, tuple(labels.prompts or ()))


def _tupled(said: dict[str, Any]) -> dict[str, Any]:
    return said | {"prompts": tuple(said["prompts"])}
