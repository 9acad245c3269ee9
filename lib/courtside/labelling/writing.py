"""What is derived from edits: a folder of labels as everybody reads them, or a corrected run."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from courtside import tables, watch
from courtside.errors import LabelsError, RunError
from courtside.files import whole
from courtside.folder import STAGES, Run, describe_video, record
from courtside.labelling.edits import EditLog
from courtside.labelling.identities import Draft
from courtside.settings import Settings
from courtside.video import Video

__all__ = ["as_detections", "write_labels", "write_run"]

EDITED = "edited"
"""The class of a track that no prompt found."""


def write_labels(draft: Draft, video: Video, folder: Path) -> None:
    """Write ``gt/gt.txt`` and all that lies beside it, of the frames that are marked as labelled.

    Files appear one after the other, each whole. Raises :class:`LabelsError` while no frame is marked.
    """
    if not draft.labelled.any():
        raise LabelsError(
            f"no frame of {video.name} is marked as labelled yet, so there is nothing to write to {folder}:"
            " mark those that you have looked at"
        )
    rows = draft.present
    rows = rows[draft.labelled[rows["frame"]]].sort_values(["frame", "object_id"], kind="stable")
    objects = set(rows["object_id"].tolist())
    contents = {
        "gt/gt.txt": "".join(map(_line, rows.itertuples(index=False))),
        "seqinfo.ini": (
            f"[Sequence]\nname={Path(video.name).stem}\nframeRate={video.fps:.6g}\n"
            f"seqLength={video.frame_count}\nimWidth={video.width}\nimHeight={video.height}\n"
        ),
        "labelled_frames.txt": "".join(f"{frame + 1}\n" for frame in np.flatnonzero(draft.labelled)),
        "masks.json": _masks(rows, video),
        "roster.csv": _roster(draft, objects),
        "prompts.json": _prompts(draft, objects),
    }
    (folder / "gt").mkdir(parents=True, exist_ok=True)
    parts = {name: folder / f"{name}.part" for name, text in contents.items() if text is not None}
    try:
        for name, part in parts.items():
            part.write_text(contents[name], encoding="utf-8")
        for name in contents:
            if name in parts:
                parts[name].replace(folder / name)
            else:
                (folder / name).unlink(missing_ok=True)
    except BaseException:
        for part in parts.values():
            part.unlink(missing_ok=True)
        raise


def as_detections(draft: Draft, video: Video) -> pd.DataFrame:
    """Everybody who is neither deleted nor ignored, as ``tables.PLAYER_DETECTIONS``.

    Tracks have the ids of the objects; where one of those is 0, all are higher by one.
    """
    rows = draft.present
    rows = rows[~rows["ignored"]].sort_values(["frame", "object_id"], kind="stable")
    prompts = {one: person.prompts[0] for one, person in draft.people.items() if person.prompts}
    texts = list(dict.fromkeys(prompts.values()))
    said = rows["object_id"].map(prompts).astype(object)
    said = said.where(said.notna(), None)
    table = pd.DataFrame(
        {
            "video": video.name,
            "frame": rows["frame"],
            "time_s": video.times_s[rows["frame"]],
            "tracking_id": rows["object_id"] + int((rows["object_id"] == 0).any()),
            "prompt": said,
            "class_id": [len(texts) if one is None else texts.index(one) for one in said],
            "class_name": [EDITED if one is None else one for one in said],
            "confidence": rows["confidence"].fillna(1.0).clip(0, 1),
            **{name: rows[name] for name in ("x1", "y1", "x2", "y2", "mask_rle")},
            "jersey_number": None,
            "player_id": None,
        }
    ).reset_index(drop=True)
    schema = tables.PLAYER_DETECTIONS
    return tables.check(tables.typed(table, schema), schema, "the edited tracks")


def write_run(draft: Draft, video: Video, facts: dict[str, Any], log: EditLog, out: Path) -> Path:
    """Write the corrected tracks as the run folder ``out``; its other stages are made as for any run."""
    run = Run(out)
    edits = run.session_path / "edits.jsonl"
    if run.config_path.exists() and not edits.exists():
        raise RunError(f"{run.folder} holds a run that is no correction: choose another folder")
    run.session_path.mkdir(parents=True, exist_ok=True)
    table = as_detections(draft, video)
    settings = Settings(video=video.path, out=run.folder, prompts=tuple(table["prompt"].dropna().unique()))
    with whole(run.detections_path) as part:
        table.to_parquet(part, index=False)
    # Says what made these tracks, so that nobody makes them anew.
    if log.path.exists():
        shutil.copyfile(log.path, edits)
    else:
        edits.touch()
    run.write_config(
        settings,
        {"video": describe_video(video, facts["video"]["sha256"])},
        tracker={"name": "edited", "start": facts["start"], "edits": len(log)},
        device={"device": "none", "dtype": None, "reason": "tracks were corrected by hand"},
    )
    done = {"state": "done", "finished": watch.now(), "outputs": [run.detections_path.name]}
    stages = {stage: record({"why": "the tracks were corrected"}) for stage in STAGES}
    stages["track"] = record(done | {"fingerprint": run.session_fingerprint()})
    watch.write_json(run.status_path, {"stages": stages})
    return run.folder


def _line(row: Any) -> str:
    box = ",".join(f"{value:.2f}" for value in (row.x1, row.y1, row.x2 - row.x1, row.y2 - row.y1))
    seen = -1 if np.isnan(row.visibility) else f"{row.visibility:g}"
    return f"{row.frame + 1},{row.object_id},{box},{int(not row.ignored)},1,{seen}\n"


def _masks(rows: pd.DataFrame, video: Video) -> str | None:
    masked = rows.dropna(subset="mask_rle")
    if masked.empty:
        return None
    frames: dict[str, dict[str, str]] = {}
    for frame, object_id, rle in masked[["frame", "object_id", "mask_rle"]].itertuples(
        index=False, name=None
    ):
        frames.setdefault(str(frame + 1), {})[str(object_id)] = rle
    return json.dumps({"height": video.height, "width": video.width, "frames": frames}) + "\n"


def _roster(draft: Draft, objects: set[int]) -> str | None:
    known = {
        one: (person.team or "", person.jersey_number or "", person.name or "")
        for one, person in sorted(draft.people.items())
        if one in objects and (person.team or person.jersey_number or person.name)
    }
    if not known:
        return None
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["object_id", "team", "jersey_number", "name"])
    writer.writerows((one, *said) for one, said in known.items())
    return file.getvalue()


def _prompts(draft: Draft, objects: set[int]) -> str | None:
    means: dict[str, list[int]] = {prompt: [] for prompt in draft.prompts}
    for one in sorted(objects & draft.people.keys()):
        for prompt in draft.people[one].prompts:
            means[prompt].append(one)
    return json.dumps(means, indent=1) + "\n" if means else None
