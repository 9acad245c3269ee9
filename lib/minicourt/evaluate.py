"""Measure a tiny SAM 3 on rendered clips it never saw, through Courtside's own tracker and scores.

Each clip is tracked by ``--tracker sam3`` with "basketball player", and its beginning with prompts of every
kind at once. Beside it run ByteTrack, BoT-SORT and association by masks on what the same model detects frame
by frame, which shows what its memory is worth.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.optimize import linear_sum_assignment
from tqdm import tqdm

from courtside import run, scoring, tables
from courtside.files import detection_rows
from courtside.labels import Labels, read_labels
from courtside.masks import rle_iou
from courtside.sam3 import FrameDetector, Sam3Associate
from courtside.scoring.counts import Counts, metrics_of
from courtside.scoring.frames import box_iou
from courtside.scoring.product import REENTRY_GAPS
from courtside.settings import Settings
from courtside.trackers import LEAST_SCORE, DetectionTracker
from courtside.types import FrameDetections
from courtside.video import Video
from minicourt.clip import render_clip
from minicourt.palette import JERSEY_NAMES

__all__ = [
    "EVERYONE",
    "NOTHING",
    "Figures",
    "as_table",
    "counts_of",
    "describe",
    "evaluate",
    "mask_ious",
    "prompts_for",
    "table",
]

EVERYONE, REFEREE, NOTHING = "basketball player", "referee", "dog"
OTHER_WORDS = (
    "the team in {}",
    "guy wearing {}",
    "{} jerseys",
    "the {} team",
    "kids in {}",
    "players wearing {}",
)
_IN_COLOR = "player in {}"
_LINKERS = ("bytetrack", "botsort")
BASELINES = ("sam3-associate", *_LINKERS)


@dataclass(slots=True)
class Figures:
    """What one clip gave: ``counts`` of each prompt by tracker, and what counts do not hold.

    ``mask_ious`` are of players matched at box IoU 0.5; ``false_frames`` of ``empty_frames`` show something
    for a prompt that fits nobody.
    """

    level: str
    seed: int
    counts: dict[str, dict[str, Counts]]
    mask_ious: list[float]
    false_frames: int
    empty_frames: int


def prompts_for(folder: Path) -> tuple[list[str], list[str]]:
    """The prompts to try on a clip, "basketball player" first, and those of them that fit nobody."""
    meaning = json.loads((folder / "prompts.json").read_text())
    colors = [_IN_COLOR.format(name) for name in (*JERSEY_NAMES, "dark", "light")]
    worn = [text for text in colors if meaning[text]]
    absent = [text for text in colors[: len(JERSEY_NAMES)] if not meaning[text]]
    nobody = [absent[sum(folder.name.encode()) % len(absent)], NOTHING]
    return [EVERYONE, *worn, REFEREE, *nobody], nobody


def evaluate(
    model: str | Path,
    clips: Iterable[tuple[str, int]],
    *,
    videos: Path,
    runs: Path,
    frames: int = 150,
    prompted: int = 50,
    processes: int = 1,
) -> list[Figures]:
    """Render what is missing under ``videos``, track what changed under ``runs``, and measure.

    Clips have ``frames`` frames, the first ``prompted`` of which are tracked with all the other prompts:
    each of these costs about as much as "basketball player". So many ``processes`` take a clip at a time.
    """
    measure = partial(_measure, model, Path(videos), Path(runs), frames, min(prompted, frames))
    clips = list(clips)
    bar = partial(tqdm, desc="clips", total=len(clips), unit="clip")
    if processes == 1:
        return list(bar(map(measure, clips)))
    with ProcessPoolExecutor(
        processes, multiprocessing.get_context("spawn"), torch.set_num_threads, (1,)
    ) as pool:
        return list(bar(pool.map(measure, clips)))


def _measure(
    model: str | Path, videos: Path, runs: Path, frames: int, prompted: int, clip: tuple[str, int]
) -> Figures:
    level, seed = clip
    whole, start = (_rendered(videos, level, seed, length) for length in (frames, prompted))
    texts, absent = prompts_for(start)
    meant = next(text for text in texts if text.startswith(_IN_COLOR.format("")))
    other = OTHER_WORDS[seed % len(OTHER_WORDS)].format(meant.rsplit(" ", 1)[1])

    video = Video(whole / "video.mp4")
    labels = read_labels(whole, video)
    followed = _follow(model, whole, runs, (EVERYONE,))
    counts = {"sam3": counts_of(followed, labels, video, [EVERYONE])}
    for name, tracked in _baselines(model, video):
        counts[name] = counts_of(tracked, labels, video, [EVERYONE])

    first = Video(start / "video.mp4")
    first_labels = read_labels(start, first)
    said = _follow(model, start, runs, (*texts[1:], other))
    is_other = said["prompt"] == other
    counts["sam3"] |= counts_of(said[~is_other], first_labels, first, texts[1:])
    # The labels know the plain words only.
    in_plain_words = said[is_other].assign(prompt=meant)
    counts["sam3"][other] = counts_of(in_plain_words, first_labels, first, [meant])[meant]
    shown = said[said["prompt"].isin([text for text in absent if not first_labels.objects_of(text)])]
    return Figures(
        level=level,
        seed=seed,
        counts=counts,
        mask_ious=mask_ious(followed, labels),
        false_frames=len(shown[["prompt", "frame"]].drop_duplicates()),
        empty_frames=len(absent) * first.frame_count,
    )


def _rendered(videos: Path, level: str, seed: int, frames: int) -> Path:
    folder = videos / f"{level}-{seed}-{frames}"
    if not folder.is_dir():
        render_clip(folder, level=level, seed=seed, frames=frames, progress=False)
    return folder


def _follow(model: str | Path, clip: Path, runs: Path, prompts: tuple[str, ...]) -> pd.DataFrame:
    settings = Settings(
        video=clip / "video.mp4", out=runs / clip.name, prompts=prompts, model=str(model), labels=clip
    )
    return run.execute(settings, stages=("track",), progress=False).detections()


def _baselines(model: str | Path, video: Video) -> Iterator[tuple[str, pd.DataFrame]]:
    """Trackers without memory by name, with their tracks."""
    yield "sam3-associate", as_table(Sam3Associate(model).track(video, [EVERYONE], progress=False), video)
    parts = []
    for found in FrameDetector(model, least_score=LEAST_SCORE).find(video, [EVERYONE]):
        boxes = pd.DataFrame(found.boxes(video), columns=["x1", "y1", "x2", "y2"])
        parts.append(boxes.assign(frame=found.frame, confidence=found.scores))
    boxes = pd.concat(parts, ignore_index=True)[list(tables.DETECTIONS.columns)]
    boxes = tables.typed(boxes, tables.DETECTIONS)
    for name in _LINKERS:
        tracked = DetectionTracker(name, boxes).track(video, progress=False)
        yield name, as_table(tracked, video)


def as_table(frames: Iterable[FrameDetections], video: Video) -> pd.DataFrame:
    """Tracked frames as the table ``PLAYER_DETECTIONS``, for the prompt "basketball player"."""
    rows = [row for frame in frames for row in detection_rows(frame, video.name, [EVERYONE])]
    table = pd.DataFrame(rows, columns=list(tables.PLAYER_DETECTIONS.columns)).assign(prompt=EVERYONE)
    return tables.typed(table, tables.PLAYER_DETECTIONS)


def counts_of(detections: pd.DataFrame, labels: Labels, video: Video, texts: list[str]) -> dict[str, Counts]:
    """What the score of each text counts, without texts that mean nothing in these labels."""
    scores = scoring.score(detections, labels, times_s=video.times_s, prompts=texts)
    kept = {text: scores.protocol["prompts"][text]["counts"] for text in texts}
    return {text: Counts.from_json(counts) for text, counts in kept.items() if counts is not None}


def mask_ious(detections: pd.DataFrame, labels: Labels) -> list[float]:
    """Mask IoU of each true player matched to a track at box IoU 0.5, frame by frame."""
    wanted = labels.objects_of(EVERYONE)
    truth = labels.ground_truth
    truth = truth[truth["object_id"].isin(wanted) & ~truth["ignored"]]
    corners = ["x1", "y1", "x2", "y2"]
    by_frame = dict(list(detections.groupby("frame")))
    ious = []
    for frame, here in truth.groupby("frame"):
        own = by_frame.get(frame)
        if own is None:
            continue
        overlap = box_iou(here[corners].to_numpy(), own[corners].to_numpy())
        for a, b in zip(*linear_sum_assignment(-overlap), strict=True):
            if overlap[a, b] >= 0.5:
                pair = [here["mask_rle"].iloc[a]], [own["mask_rle"].iloc[b]]
                ious.append(float(rle_iou(*pair, labels.height, labels.width)[0, 0]))
    return ious


def _sum(figures: list[Figures], tracker: str, chosen) -> Counts | None:
    parts = [c for one in figures for text, c in one.counts.get(tracker, {}).items() if chosen(text)]
    total = None
    for part in parts:
        total = part if total is None else total + part
    return total


def table(figures: list[Figures]) -> dict[str, dict[str, float | None]]:
    """The figures that a model card needs, pooled over clips by summing counts."""
    plain = [one for one in figures if one.level in ("easy", "game")]
    hard = [one for one in figures if one.level not in ("easy", "game")]
    result: dict[str, dict[str, float | None]] = {}
    for name, group in (("easy, game", plain), ("crowd, reentry, lookalike", hard)):
        for tracker in ("sam3", *BASELINES):
            total = _sum(group, tracker, lambda text: text == EVERYONE)
            if total is None:
                continue
            metrics = metrics_of(total)
            row = {
                key: metrics[key] for key in ("mota", "idf1", "hota", "precision", "recall", "num_switches")
            }
            row["tracks_per_player"] = total.predicted_tracks / max(1, total.true_objects)
            row["reentry_recovered"], row["reentry_total"] = _reentries(total)
            result[f"{EVERYONE}: {name}: {tracker}"] = row
    colors = (*JERSEY_NAMES, "dark", "light")
    others = {words.format(color) for words in OTHER_WORDS for color in colors}
    for name, chosen in (
        ("player in a colour", lambda text: text.startswith(_IN_COLOR.format(""))),
        ("a team in other words", lambda text: text in others),
        (REFEREE, lambda text: text == REFEREE),
    ):
        total = _sum(figures, "sam3", chosen)
        if total is not None:
            result[name] = {
                "precision": total.matches / max(1, total.predicted_boxes),
                "recall": total.matches / max(1, total.true_boxes),
            }
    ious = [value for one in figures for value in one.mask_ious]
    result["masks of matched players"] = {"iou": float(np.mean(ious)) if ious else None, "masks": len(ious)}
    empty = sum(one.empty_frames for one in figures)
    false = sum(one.false_frames for one in figures)
    result["a prompt that fits nobody"] = {"frames_with_something": false / max(1, empty)}
    return result


def _reentries(total: Counts) -> tuple[int, int]:
    """Returns after 1 to 5 s that got their id back, and all of them."""
    at = list(REENTRY_GAPS).index("1-5 s")
    return total.reentry_recovered[at], total.reentry_total[at]


def describe(rows: dict[str, dict[str, float | None]]) -> str:
    """The table as Markdown: a line for each group, with its figures by name."""
    lines = ["| measured | figures |", "|---|---|"]
    for name, row in rows.items():
        shown = [
            f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}"
            for key, value in row.items()
        ]
        lines.append(f"| {name} | {', '.join(shown)} |")
    return "\n".join(lines)
