"""Counts that sum over sequences, and the metrics made from the sums."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import pandas as pd

from courtside.scoring.clear import correspond
from courtside.scoring.frames import ScoredFrames, ratio
from courtside.scoring.hota import hota_counts, trackeval_counts
from courtside.scoring.jerseys import JERSEY_METRICS, JERSEY_RATES, MERGED_METRICS
from courtside.scoring.product import REENTRY_GAPS, product_counts

__all__ = ["METRICS", "Counts", "count", "metrics_of", "trackeval_of"]

METRICS = {
    "mota": "1 - (misses + false positives + switches) / true boxes; can be negative",
    "motp_iou": "mean IoU of the matched boxes",
    "idf1": "2 IDTP / (true boxes + predicted boxes), one track an object and one object a track",
    "idp": "IDTP / predicted boxes",
    "idr": "IDTP / true boxes",
    "hota": "sqrt(DetA * AssA), averaged over the IoU thresholds 0.05 to 0.95",
    "deta": "true positives / (true positives + misses + false positives), averaged over the same thresholds",
    "assa": "mean overlap in time of the track and the object of each true positive, averaged likewise",
    "precision": "matched boxes / predicted boxes",
    "recall": "matched boxes / true boxes",
    "num_switches": "times an object's match changes to another track",
    "num_fragmentations": "times an object is followed again after frames in which it was missed",
    "mostly_tracked": "objects matched in 80 % or more of their boxes",
    "mostly_lost": "objects matched in less than 20 % of their boxes",
    "predicted_tracks": "different track ids in the scored frames, without boxes on ignored labels",
    "true_objects": "different labelled objects in the scored frames",
    "fragments_per_object": "mean number of different tracks on an object, over the objects matched at all",
    "purity": "share of the matched boxes that are on the object their track matches most",
    "longest_correct_run_s": "longest time that one track follows an object unbroken, mean over objects",
    "reentry_recovery": "returns into view that get their old track back, by seconds out of view",
    **JERSEY_METRICS,
    **JERSEY_RATES,
    **MERGED_METRICS,
}
"""Each metric's definition in one sentence. Sequences are combined by summing the counts first."""


@dataclass(frozen=True)
class Counts:
    """What was counted in one sequence, or in several: ``a + b`` sums field by field.

    Boxes are counted in scored frames only, tracks after dropping those on ignored labels. The fields
    are described where they are counted: ``clear.clear_counts``, ``hota.hota_counts``,
    ``hota.trackeval_counts``, ``product.product_counts``.
    """

    frames_scored: int
    true_objects: int
    true_boxes: int
    predicted_tracks: int
    predicted_boxes: int
    ignored_rows: int
    dropped_predictions: int
    matches: int
    misses: int
    false_positives: int
    num_switches: int
    num_fragmentations: int
    iou_sum: float
    mostly_tracked: int
    partially_tracked: int
    mostly_lost: int
    idtp: int
    idfp: int
    idfn: int
    trackeval_tp: int
    trackeval_fn: int
    trackeval_fp: int
    trackeval_switches: int
    trackeval_fragmentations: int
    fragments: int
    followed_objects: int
    pure_boxes: int
    longest_run_sum_s: float
    reentry_recovered: tuple[int, ...]
    reentry_total: tuple[int, ...]
    hota_tp: tuple[float, ...]
    hota_fn: tuple[float, ...]
    hota_fp: tuple[float, ...]
    hota_association: tuple[float, ...]

    def __add__(self, other: Counts) -> Counts:
        def total(a: Any, b: Any) -> Any:
            return tuple(x + y for x, y in zip(a, b, strict=True)) if isinstance(a, tuple) else a + b

        names = [field.name for field in fields(self)]
        return Counts(**{name: total(getattr(self, name), getattr(other, name)) for name in names})

    def to_json(self) -> dict[str, Any]:
        """The fields, with lists for tuples."""
        return {
            name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Counts:
        """The reverse of :meth:`to_json`."""
        return cls(
            **{name: tuple(value) if isinstance(value, list) else value for name, value in content.items()}
        )

    @property
    def is_defined(self) -> bool:
        """Whether there is something to compare: at least one true and one predicted box."""
        return self.true_boxes > 0 and self.predicted_boxes > 0


def count(
    frames: ScoredFrames, start_s: np.ndarray, end_s: np.ndarray, threshold: float
) -> tuple[Counts, pd.DataFrame]:
    """All counts of ``frames``, and the correspondences of ``clear.correspond`` behind them."""
    clear, log = correspond(frames, threshold)
    objects, tracks = (
        np.concatenate([np.empty(0, np.int64), *ids]) for ids in (frames.object_ids, frames.tracking_ids)
    )
    counts = Counts(
        frames_scored=len(frames.numbers),
        true_objects=len(np.unique(objects)),
        true_boxes=len(objects),
        predicted_tracks=len(np.unique(tracks)),
        predicted_boxes=len(tracks),
        ignored_rows=frames.ignored_rows,
        dropped_predictions=frames.dropped_predictions,
        **clear,
        **trackeval_counts(frames, threshold),
        **product_counts(log, start_s, end_s),
        **hota_counts(frames),
    )
    return counts, log


def metrics_of(counts: Counts | None) -> dict[str, Any]:
    """The values of METRICS, JSON-safe: numbers, None where undefined, never NaN or infinite.

    Without a true or without a predicted box nothing can be judged: every metric is None, except the
    counts ``predicted_tracks`` and ``true_objects``. ``counts`` None says that nobody knows what was
    to be found: then these two are None as well. ``reentry_recovery`` maps each gap length to
    ``{"recovered": int, "total": int}``.
    """
    metrics: dict[str, Any] = dict.fromkeys(METRICS)
    if counts is None:
        return metrics
    metrics |= {"predicted_tracks": counts.predicted_tracks, "true_objects": counts.true_objects}
    if not counts.is_defined:
        return metrics
    tp, fn, fp, association = (
        np.array(values)
        for values in (counts.hota_tp, counts.hota_fn, counts.hota_fp, counts.hota_association)
    )
    deta, assa = tp / (tp + fn + fp), association / np.maximum(tp, 1)
    metrics |= {
        "mota": _mota(counts.misses, counts.false_positives, counts.num_switches, counts.true_boxes),
        "motp_iou": ratio(counts.iou_sum, counts.matches),
        "idf1": ratio(2 * counts.idtp, counts.true_boxes + counts.predicted_boxes),
        "idp": ratio(counts.idtp, counts.predicted_boxes),
        "idr": ratio(counts.idtp, counts.true_boxes),
        "hota": float(np.sqrt(deta * assa).mean()),
        "deta": float(deta.mean()),
        "assa": float(assa.mean()) if tp.any() else None,
        "precision": ratio(counts.matches, counts.predicted_boxes),
        "recall": ratio(counts.matches, counts.true_boxes),
        "num_switches": counts.num_switches,
        "num_fragmentations": counts.num_fragmentations,
        "mostly_tracked": counts.mostly_tracked,
        "mostly_lost": counts.mostly_lost,
        "fragments_per_object": ratio(counts.fragments, counts.followed_objects),
        "purity": ratio(counts.pure_boxes, counts.matches),
        "longest_correct_run_s": ratio(counts.longest_run_sum_s, counts.true_objects),
        "reentry_recovery": {
            name: {"recovered": recovered, "total": total}
            for name, recovered, total in zip(
                REENTRY_GAPS, counts.reentry_recovered, counts.reentry_total, strict=True
            )
        },
    }
    return metrics


def trackeval_of(counts: Counts | None) -> dict[str, Any]:
    """``num_switches``, ``num_fragmentations`` and ``mota`` with TrackEval's semantics, None as above."""
    if counts is None or not counts.is_defined:
        return dict.fromkeys(["num_switches", "num_fragmentations", "mota"])
    return {
        "num_switches": counts.trackeval_switches,
        "num_fragmentations": counts.trackeval_fragmentations,
        "mota": _mota(counts.trackeval_fn, counts.trackeval_fp, counts.trackeval_switches, counts.true_boxes),
    }


def _mota(misses: int, false_positives: int, switches: int, true_boxes: int) -> float:
    return 1 - (misses + false_positives + switches) / true_boxes
