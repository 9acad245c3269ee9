"""One video's scores against its labels, several videos' scores combined, and the protocol of both."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Literal

import numpy as np
import pandas as pd

from courtside import tables
from courtside.errors import LabelsError, SettingError
from courtside.labels import Labels
from courtside.scoring.clear import SWITCH_COUNTING
from courtside.scoring.counts import METRICS, Counts, count, metrics_of, trackeval_of
from courtside.scoring.events import log_events
from courtside.scoring.frames import Comparison, compare
from courtside.scoring.hota import HOTA_THRESHOLDS
from courtside.scoring.jerseys import MERGED_METRICS, combine_jerseys, score_jerseys

__all__ = ["Scores", "combine", "score"]


@dataclass(frozen=True, eq=False)
class Scores:
    """Metrics, in total and per prompt, the protocol beside them, and the log of errors.

    ``metrics`` and each value of ``per_prompt`` have the keys of ``METRICS``; None is undefined, never
    bad or good. ``protocol`` says how they were made and carries the counts, so that scores read back
    from a file can be combined as well. ``events`` obeys ``tables.EVENTS``; it belongs to one video
    and is empty for combined scores.
    """

    metrics: dict[str, Any]
    per_prompt: dict[str, dict[str, Any]]
    protocol: dict[str, Any]
    events: pd.DataFrame

    def to_json(self) -> dict[str, Any]:
        """``metrics``, ``per_prompt`` and ``protocol``, JSON-safe without NaN or infinity."""
        return {"metrics": self.metrics, "per_prompt": self.per_prompt, "protocol": self.protocol}

    @classmethod
    def from_json(cls, content: Mapping[str, Any], events: pd.DataFrame | None = None) -> Scores:
        """The reverse of :meth:`to_json`; events are stored apart."""
        return cls(
            metrics=content["metrics"],
            per_prompt=content["per_prompt"],
            protocol=content["protocol"],
            events=tables.empty(tables.EVENTS) if events is None else events,
        )


def score(
    detections: pd.DataFrame,
    labels: Labels,
    *,
    times_s: np.ndarray,
    match: Literal["box", "mask"] = "box",
    threshold: float = 0.5,
    prompts: Sequence[str] | None = None,
    players: pd.DataFrame | None = None,
) -> Scores:
    """Score tracks, ``tables.PLAYER_DETECTIONS``, against hand labels of the same video.

    ``times_s``, float64 [labels.frame_count], are the video's presentation times. ``match`` compares
    boxes or masks, and pairs match at an IoU of ``threshold`` or more, in (0, 1]; HOTA averages over
    its own thresholds. ``prompts`` are the run's, so that one that found nothing is scored too;
    by default those in ``detections``. ``players``, the run's ``tables.PLAYERS``, tells how sure each number
    is, so that this is judged too.

    Only labelled frames are scored. With prompts, each prompt's tracks are scored against the objects
    it means, and ``metrics`` has all of these tracks against all of these objects: an object that two
    prompts mean should be found once, its second track is a false positive (``prompts_overlap`` in the
    protocol says that this can happen). A prompt missing from prompts.json has no ground truth: its
    metrics are None and its tracks stay out of the total. Without prompts all labelled objects are
    required. Ignored labels: see ``frames.Comparison.select``.

    Raises :class:`LabelsError` when tracks, labels and times are not of one video, :class:`SettingError`
    for a bad ``match`` or ``threshold`` or masks that are not there, :class:`TableError` for a bad table.
    """
    if match not in ("box", "mask"):
        raise SettingError(f"match is {match!r}; choose 'box' or 'mask'")
    if not 0 < threshold <= 1:
        raise SettingError(f"the IoU threshold is {threshold}; choose one above 0 and up to 1, usually 0.5")
    tables.check(detections, tables.PLAYER_DETECTIONS, "the tracks to score")
    start_s, end_s = _frame_times(np.asarray(times_s, np.float64), labels)
    if len(detections) and detections["frame"].max() >= labels.frame_count:
        raise LabelsError(
            f"tracks reach frame {detections['frame'].max()}, but the labels in {labels.folder} end with "
            f"frame {labels.frame_count - 1} (from 0); use the labels of the tracked video"
        )
    comparison = compare(detections, labels, match)
    texts = list(dict.fromkeys([*(prompts or ()), *detections["prompt"].dropna()]))
    meant = {prompt: labels.objects_of(prompt) for prompt in texts}
    known = {prompt: objects for prompt, objects in meant.items() if objects is not None}

    def counted(objects: set[int], chosen: list[str | None] | None) -> tuple[Counts, pd.DataFrame]:
        return count(comparison.select(objects, chosen, threshold), start_s, end_s, threshold)

    counts, log = None, None
    if known or not texts:
        everyone = {int(one) for one in labels.ground_truth["object_id"].unique()}
        counts, log = counted(set().union(*known.values()) if texts else everyone, [*known, None])
    prompt_counts = {
        prompt: None if objects is None else counted(objects, [prompt])[0]
        for prompt, objects in meant.items()
    }
    events = tables.empty(tables.EVENTS)
    if log is not None:
        track_prompts = detections.dropna(subset="prompt").drop_duplicates("tracking_id")
        times = (comparison.numbers, start_s, end_s)
        events = log_events(
            log,
            *times,
            dict(zip(track_prompts["tracking_id"], track_prompts["prompt"], strict=True)),
            _owners(known),
        )
    sequence = {
        "name": labels.name,
        "labels_sha256": labels.sha256,
        "frames_scored": len(labels.labelled_frames),
        "frames_unlabelled": labels.frame_count - len(labels.labelled_frames),
        "frames_lost_from_video": labels.lost_frames,
        "labels_in_unlabelled_frames": _outside(labels.ground_truth, labels.labelled_frames),
        "predictions_in_unlabelled_frames": _outside(detections, labels.labelled_frames),
        "predictions_of_unlabelled_prompts": _of_prompts(comparison, set(meant) - set(known)),
        "prompts_overlap": sum(map(len, known.values())) > len(set().union(*known.values())),
    }
    settings = {"match": match, "iou_threshold": float(threshold)}
    jerseys, merged = None, None
    if counts is not None and detections["player_id"].notna().any():
        scored = (set().union(*known.values()) if texts else everyone, [*known, None], threshold)
        merged = counts
        pairs = detections[["player_id", "tracking_id"]].drop_duplicates()
        if pairs["player_id"].duplicated().any() or pairs["tracking_id"].duplicated().any():
            # What is no player's is left out.
            detections = detections.dropna(subset="player_id")
            detections = detections.assign(tracking_id=detections["player_id"].factorize()[0] + 1)
            comparison = compare(detections, labels, match)
            merged, _ = count(comparison.select(*scored), start_s, end_s, threshold)
        jerseys = score_jerseys(comparison.select(*scored), threshold, detections, labels.roster, players)
    return _assemble(settings, [sequence], counts, prompt_counts, events, jerseys, merged)


def combine(scores: Sequence[Scores]) -> Scores:
    """The scores of several videos as one, by summing their counts; objects and tracks stay distinct.

    A video without tracks adds its misses and one without labels its false positives, though alone
    either has no metrics. A prompt is summed over the videos whose labels know it. Raises
    :class:`SettingError` for an empty list, or when IoU threshold or box and mask differ.
    """
    if not scores:
        raise SettingError("there are no scores to combine; give at least one labelled run")
    names = ("match", "iou_threshold")
    settings = {name: scores[0].protocol[name] for name in names}
    for one in scores:
        other = {name: one.protocol[name] for name in names}
        if other != settings:
            raise SettingError(
                f"scores made with {settings} and with {other} cannot be combined; score all runs with the "
                "same match and threshold"
            )
    prompts = dict.fromkeys(prompt for one in scores for prompt in one.protocol["prompts"])

    def total(parts: list[dict[str, Any] | None]) -> Counts | None:
        counts = [Counts.from_json(part) for part in parts if part is not None]
        return sum(counts[1:], counts[0]) if counts else None

    return _assemble(
        settings,
        [sequence for one in scores for sequence in one.protocol["sequences"]],
        total([one.protocol["counts"] for one in scores]),
        {
            prompt: total([one.protocol["prompts"].get(prompt, {}).get("counts") for one in scores])
            for prompt in prompts
        },
        tables.empty(tables.EVENTS),
        combine_jerseys([one.protocol.get("jerseys") for one in scores]),
        total([one.protocol.get("merged_counts") for one in scores]),
    )


def _frame_times(times_s: np.ndarray, labels: Labels) -> tuple[np.ndarray, np.ndarray]:
    """When each labelled frame appears and ends, float64 [F], out of the times of the video's frames."""
    if times_s.shape != (labels.frame_count,):
        raise LabelsError(
            f"the labels in {labels.folder} are for {labels.frame_count} frames, but the video has "
            f"{len(times_s)}; use the labels of the tracked video"
        )
    last = float(np.median(np.diff(times_s))) if len(times_s) > 1 else 1 / labels.fps
    ends_s = np.append(times_s[1:], times_s[-1] + last)
    return times_s[labels.labelled_frames], ends_s[labels.labelled_frames]


def _owners(known: Mapping[str, set[int]]) -> dict[int, str]:
    """The prompt of each object that exactly one prompt means."""
    pairs = [(object_id, prompt) for prompt, objects in known.items() for object_id in objects]
    several = {
        object_id for object_id, _ in pairs if sum(object_id in objects for objects in known.values()) > 1
    }
    return {object_id: prompt for object_id, prompt in pairs if object_id not in several}


def _outside(table: pd.DataFrame, frames: np.ndarray) -> int:
    return int((~table["frame"].isin(frames)).sum())


def _of_prompts(comparison: Comparison, prompts: set[str]) -> int:
    return sum(text in prompts for texts in comparison.prompts for text in texts)


def _assemble(
    settings: dict[str, Any],
    sequences: list[dict[str, Any]],
    counts: Counts | None,
    prompt_counts: dict[str, Counts | None],
    events: pd.DataFrame,
    jerseys: dict[str, Any] | None,
    merged: Counts | None,
) -> Scores:
    """Metrics and protocol out of the counts."""
    hashes = [sequence["labels_sha256"] for sequence in sequences]
    summed = (
        "frames_scored", "frames_unlabelled", "frames_lost_from_video", "labels_in_unlabelled_frames",
        "predictions_in_unlabelled_frames", "predictions_of_unlabelled_prompts",
    )  # fmt: skip
    protocol = {
        **settings,
        "hota_iou_thresholds": list(HOTA_THRESHOLDS),
        "labels_sha256": hashes[0]
        if len(hashes) == 1
        else hashlib.sha256("".join(hashes).encode()).hexdigest(),
        **{name: sum(sequence[name] for sequence in sequences) for name in summed},
        **_described(counts),
        "prompts_overlap": any(sequence["prompts_overlap"] for sequence in sequences),
        "switch_counting": SWITCH_COUNTING,
        "definitions": dict(METRICS),
        "libraries": {
            name: version(name)
            for name in ("courtside", "motmetrics", "trackers", "numpy", "scipy", "pycocotools")
        },
        "sequences": sequences,
        "prompts": {
            prompt: {"labelled": one is not None, **_described(one)} for prompt, one in prompt_counts.items()
        },
    }
    per_prompt = {prompt: metrics_of(one) for prompt, one in prompt_counts.items()}
    protocol |= {"jerseys": jerseys, "merged_counts": None if merged is None else merged.to_json()}
    metrics = metrics_of(counts) | ({} if jerseys is None else jerseys["metrics"])
    metrics |= {name: metrics_of(merged)[name.removeprefix("merged_")] for name in MERGED_METRICS}
    return Scores(metrics=metrics, per_prompt=per_prompt, protocol=protocol, events=events)


def _described(counts: Counts | None) -> dict[str, Any]:
    """The counts a reader asks for first, TrackEval's figures, and all counts for combining."""
    content = None if counts is None else counts.to_json()
    names = (
        "true_objects", "true_boxes", "predicted_tracks", "predicted_boxes", "matches", "misses",
        "false_positives", "ignored_rows", "dropped_predictions",
    )  # fmt: skip
    first = {name: None if content is None else content[name] for name in names}
    return {**first, "trackeval": trackeval_of(counts), "counts": content}
