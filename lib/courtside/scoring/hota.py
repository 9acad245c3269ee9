"""HOTA, and switches as TrackEval counts them, through trackers' evaluation.

Its import takes longer than adding up the counts of many runs does, so only who measures frames waits for it.
"""

from __future__ import annotations

from courtside.scoring.frames import ScoredFrames

__all__ = ["HOTA_THRESHOLDS", "hota_counts", "trackeval_counts"]

HOTA_THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 20))
"""The IoU thresholds that HOTA averages over: 0.05 to 0.95."""


def hota_counts(frames: ScoredFrames) -> dict[str, tuple[float, ...]]:
    """Per threshold ``hota_tp``, ``hota_fn``, ``hota_fp`` and ``hota_association``, after Luiten et al. 2020.

    ``hota_association`` is the sum over true positives of the association IoU of their object and
    track, so all four sum over sequences: DetA = TP / (TP + FN + FP), AssA = association / TP,
    HOTA = sqrt(DetA * AssA), each averaged over the thresholds.
    """
    from trackers.eval import compute_hota_metrics

    found = compute_hota_metrics(frames.object_ids, frames.tracking_ids, frames.iou)
    columns = {
        "hota_tp": found["HOTA_TP_array"],
        "hota_fn": found["HOTA_FN_array"],
        "hota_fp": found["HOTA_FP_array"],
        "hota_association": found["AssA_array"] * found["HOTA_TP_array"],
    }
    return {name: tuple(float(value) for value in values) for name, values in columns.items()}


def trackeval_counts(frames: ScoredFrames, threshold: float) -> dict[str, int]:
    """Matches, misses, false positives, switches and fragmentations with TrackEval's semantics."""
    from trackers.eval import compute_clear_metrics

    found = compute_clear_metrics(frames.object_ids, frames.tracking_ids, frames.iou, threshold)
    names = {
        "trackeval_tp": "CLR_TP",
        "trackeval_fn": "CLR_FN",
        "trackeval_fp": "CLR_FP",
        "trackeval_switches": "IDSW",
        "trackeval_fragmentations": "Frag",
    }
    return {ours: int(found[theirs]) for ours, theirs in names.items()}
