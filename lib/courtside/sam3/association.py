"""Which detections are which tracks, which tracks are false, which give way: the rules of SAM 3's loop."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from courtside import masks as mask_tools
from courtside.sam3.memory import MemoryBank
from courtside.sam3.network import overlaps

__all__ = ["Match", "Rules", "Track", "associate", "judge", "keep_apart", "suppress", "tidy"]

_HIDDEN = -10.0  # logit of a mask that gives way
_LEAST_SHARE = 0.3  # of its pixels that a mask must win against the others
_ALWAYS_OCCLUDED = 100_000


@dataclass(frozen=True, slots=True)
class Rules:
    """The model's tracking settings, by their names in ``config.json``, and switches of ours.

    ``memory_selection`` is the least quality of a remembered frame, None where the latest frames are
    remembered, good or not: ``mf_threshold`` of a tracker whose ``config.json`` has ``use_memory_selection``,
    as Meta's code names them. ``whole_overlaps``: all that two masks share goes to the object with the higher
    tracker score, as transformers has it; not so where ``config.json`` has ``non_overlap_masks_for_output``,
    as Meta's code names it: then each pixel goes to the object whose logit is highest there, and who loses
    most of a mask to others isn't shown, as nothing of it is remembered. ``many_to_one``: a detection is of
    every track that it overlaps, as transformers has it; not so where ``config.json`` has
    ``o2o_matching_masklets_enable``, as Meta's code names it: then they are matched one to one, and a track
    with a detection of its own is nobody's double, nor is it corrected by another one.

    The switches give back behaviour of transformers' loop that we hold to be wrong, so that the rest can
    be compared with it. ``every_pointer``: the pointers of all earlier conditioning frames are read, not
    only those of the frames whose memory is read, so memory grows. ``births_rewrite_memories``: in a frame
    in which an object is born all others are computed twice, and remember the tracker's raw mask instead
    of the one that was settled. ``shifted_after_removal``: in a frame in which hotstart removes an object,
    each later object shows the mask and score of the one before it. ``boolean_reconditioning``: where
    detections correct tracks, 0 and 1 are written in place of the detection's logits.
    ``hidden_count_as_seen``: a track that isn't shown, since nothing fits its mask, counts as seen all the
    same, so the mask of one that rightly had none gives way to it. ``equals_stay``: of two masks that overlap
    and were occluded equally long ago both stay, and go on as two tracks of one object.
    """

    score_threshold_detection: float
    det_nms_thresh: float
    new_det_thresh: float
    assoc_iou_thresh: float
    trk_assoc_iou_thresh: float
    high_conf_thresh: float
    high_iou_thresh: float
    recondition_on_trk_masks: bool
    recondition_every_nth_frame: int
    hotstart_delay: int
    hotstart_unmatch_thresh: int
    hotstart_dup_thresh: int
    suppress_unmatched_only_within_hotstart: bool
    init_trk_keep_alive: int
    max_trk_keep_alive: int
    min_trk_keep_alive: int
    decrease_trk_keep_alive_for_empty_masklets: bool
    suppress_overlapping_based_on_recent_occlusion_threshold: float
    fill_hole_area: int
    max_num_objects: int
    every_pointer: bool = False
    births_rewrite_memories: bool = False
    shifted_after_removal: bool = False
    boolean_reconditioning: bool = False
    hidden_count_as_seen: bool = False
    equals_stay: bool = False
    memory_selection: float | None = None
    whole_overlaps: bool = True
    many_to_one: bool = True
    pred_iou_thresh: float = 0.0

    @classmethod
    def of(cls, model: Any, stock: bool = False) -> Rules:
        """The settings of a ``Sam3VideoModel``; ``stock`` gives what transformers' loop does with it."""
        own = {each.name: getattr(model, each.name) for each in fields(cls) if each.default is MISSING}
        switches = [each.name for each in fields(cls) if each.default is False]
        tracker = model.tracker_model.config

        def asks(name: str) -> Any:
            """What ``config.json`` asks for that transformers doesn't know, if anything."""
            return not stock and getattr(tracker, name, False)

        return cls(
            **own,
            **dict.fromkeys(switches, stock),
            memory_selection=tracker.mf_threshold if asks("use_memory_selection") else None,
            whole_overlaps=not asks("non_overlap_masks_for_output"),
            many_to_one=not asks("o2o_matching_masklets_enable"),
            pred_iou_thresh=float(asks("pred_iou_thresh")),
        )


@dataclass(slots=True)
class Track:
    """One object: where it came from, what the rules must know of it, and its memory.

    ``unmatched`` counts the frames in which no detection fitted; ``doubles`` those in which this track fitted
    the same detection as an earlier one, by that one's id, while hotstart may still remove it.
    ``last_occluded`` is -1 for never and None before the first frame after its birth. ``unseen`` counts the
    frames without a mask since the last with one. ``prompt`` is -1 where no text but a click found it. A
    ``kept`` object is a person's own and never taken back; ``given`` are mask logits (h, w) of frames in
    which a person showed it.
    """

    object_id: int
    prompt: int
    score: float
    first_frame: int
    keep_alive: int
    unmatched: int = 0
    doubles: dict[int, int] = field(default_factory=dict)
    last_occluded: int | None = None
    unseen: int = 0
    kept: bool = False
    given: dict[int, torch.Tensor] = field(default_factory=dict)
    memory: MemoryBank = field(default_factory=MemoryBank)


@dataclass(frozen=True, slots=True)
class Match:
    """How detections (by index) and tracks (by index) of one frame fit.

    ``new`` detections start tracks; ``tracks_of`` lists each detection's tracks; ``unmatched`` tracks have
    a mask that no detection fits, ``empty`` ones have no mask; ``confirmed`` gives for a track the sure
    detection that fits it best.
    """

    new: list[int]
    tracks_of: list[list[int]]
    unmatched: list[int]
    empty: list[int]
    confirmed: dict[int, int]


def associate(
    ious: np.ndarray, same_prompt: np.ndarray, scores: np.ndarray, visible: np.ndarray, rules: Rules
) -> Match:
    """Match detections with tracks.

    ``ious`` float [D, T] and ``same_prompt`` bool [D, T] are of each pair, ``scores`` float [D] of the
    detections, ``visible`` bool [T] says which tracks have a mask.
    """
    detections, tracks = ious.shape
    if tracks == 0:
        return _limited(Match(list(range(detections)), [], [], [], {}), scores, tracks, rules)
    empty = np.flatnonzero(~visible).tolist()
    if detections == 0:
        return Match([], [], np.flatnonzero(visible).tolist(), empty, {})
    ious = np.where(same_prompt, ious, np.float32(0))
    unmatched = visible & ~(ious >= rules.trk_assoc_iou_thresh).any(axis=0)
    fits = ious >= rules.assoc_iou_thresh
    new = (scores >= rules.new_det_thresh) & ~fits.any(axis=1)
    own = np.ones_like(fits) if rules.many_to_one else _one_to_one(ious, fits)
    best = np.where(own, ious, 0)
    sure = (scores >= rules.high_conf_thresh) & ~new & (best.max(axis=1) >= rules.high_iou_thresh)
    confirmed = {int(best[index].argmax()): int(index) for index in np.flatnonzero(sure)}
    match = Match(
        np.flatnonzero(new).tolist(),
        [np.flatnonzero(row).tolist() for row in fits & (own | ~own.any(axis=0))],
        np.flatnonzero(unmatched).tolist(),
        empty,
        confirmed,
    )
    return _limited(match, scores, tracks, rules)


def _one_to_one(ious: np.ndarray, fits: np.ndarray) -> np.ndarray:
    """The pairs, bool [D, T], of those that fit in which each is once at most, at the greatest total IoU."""
    pairs = np.zeros_like(fits)
    pairs[linear_sum_assignment(np.where(fits, ious, 0), maximize=True)] = True
    return pairs & fits


def _limited(match: Match, scores: np.ndarray, tracks: int, rules: Rules) -> Match:
    """No more new objects than the model may follow: those of the highest scores."""
    room = max(0, rules.max_num_objects - tracks)
    if len(match.new) <= room:
        return match
    best = np.argsort(-scores[match.new], kind="stable")[:room]
    new = [match.new[index] for index in best]
    return Match(new, match.tracks_of, match.unmatched, match.empty, match.confirmed)


def judge(
    tracks: Sequence[Track], match: Match, frame: int, reverse: bool, rules: Rules
) -> tuple[set[int], set[int]]:
    """Count matches and misses; returns the ids that hotstart removes and those to hide in this frame.

    Hotstart removes a track that in its first ``hotstart_delay`` frames was unmatched, or doubled an
    earlier track, too often.
    """
    removed, hidden = set(), set()
    for index in {index for found in match.tracks_of for index in found}:
        tracks[index].keep_alive = min(rules.max_trk_keep_alive, tracks[index].keep_alive + 1)
    for index in match.unmatched:
        tracks[index].unmatched += 1
        tracks[index].keep_alive = max(rules.min_trk_keep_alive, tracks[index].keep_alive - 1)
    if rules.decrease_trk_keep_alive_for_empty_masklets:
        for index in match.empty:
            tracks[index].keep_alive = max(rules.min_trk_keep_alive, tracks[index].keep_alive - 1)
    for track in tracks:
        if track.kept:
            continue
        if track.unmatched >= max(1, rules.hotstart_unmatch_thresh) and _is_young(
            track, frame, reverse, rules
        ):
            removed.add(track.object_id)
        elif (
            track.unmatched > 0
            and track.keep_alive <= 0
            and not rules.suppress_unmatched_only_within_hotstart
        ):
            hidden.add(track.object_id)
    for found in match.tracks_of:
        if len(found) < 2:
            continue
        eldest = max if reverse else min
        first = tracks[eldest(found, key=lambda index: tracks[index].first_frame)]
        for index in found:
            track = tracks[index]
            if track is not first:
                track.doubles[first.object_id] = track.doubles.get(first.object_id, 0) + 1
    for track in tracks:
        if not _is_young(track, frame, reverse, rules):
            track.doubles.clear()
        elif not track.kept and any(count >= rules.hotstart_dup_thresh for count in track.doubles.values()):
            removed.add(track.object_id)
    return removed, hidden


def _is_young(track: Track, frame: int, reverse: bool, rules: Rules) -> bool:
    age = track.first_frame - frame if reverse else frame - track.first_frame
    return age < rules.hotstart_delay


def suppress(
    masks: torch.Tensor,
    tracks: Sequence[Track],
    removed: set[int],
    hidden: set[int],
    scores: torch.Tensor,
    frame: int,
    reverse: bool,
    rules: Rules,
) -> torch.Tensor:
    """Mask logits (T, h, w) in which, of two that overlap, the one occluded more recently gives way.

    Of two that were occluded equally long ago it is the one with the lower of the tracker's ``scores``,
    float (T,). Notes in each track when it was last occluded, ``hidden`` or gave way.
    """
    threshold = rules.suppress_overlapping_based_on_recent_occlusion_threshold
    if threshold <= 0:
        return masks
    inside = masks > 0
    last = np.array(
        [
            (_ALWAYS_OCCLUDED if track.object_id in removed else -1)
            if track.last_occluded is None
            else track.last_occluded
            for track in tracks
        ]
    )
    likely = scores.float().cpu().numpy()
    gives_way = np.zeros(len(tracks), bool)
    for group in _groups([track.prompt for track in tracks]):
        if len(group) > 1:
            over = overlaps(inside[group], inside[group]) >= threshold
            np.fill_diagonal(over, False)
            here, other = last[group][:, None], last[group][None]
            later = (here < other if reverse else here > other) & (other > -1)
            if not rules.equals_stay:
                later |= (here == other) & (here > -1) & (likely[group][:, None] < likely[group][None])
            gives_way[group] = (over & later).any(axis=1)
    gone = ~inside.flatten(1).any(1).cpu().numpy() | gives_way
    if not rules.hidden_count_as_seen:
        gone |= np.array([track.object_id in hidden for track in tracks], bool)
    for track, was, is_gone in zip(tracks, last.tolist(), gone.tolist(), strict=True):
        track.last_occluded = frame if is_gone else was
    if not gives_way.any():
        return masks
    return torch.where(_flags(gives_way, masks)[:, None, None], _HIDDEN, masks)


def keep_apart(masks: torch.Tensor, prompts: Sequence[int]) -> torch.Tensor:
    """Mask logits (T, h, w) without the masks that lose most of their pixels to others of their prompt."""
    masks = masks.clone()
    for group in _groups(prompts):
        if len(group) > 1:
            own = masks[group]
            winner = own.argmax(0)
            wins = winner[None] == torch.arange(len(group), device=masks.device)[:, None, None]
            inside = own > 0
            share = (inside & wins).sum((1, 2)) / inside.sum((1, 2)).clamp(min=1.0)
            stays = (share >= _LEAST_SHARE)[:, None, None]
            masks[group] = torch.where(stays, own, own.clamp(max=_HIDDEN))
    return masks


def tidy(masks: torch.Tensor, max_area: int) -> torch.Tensor:
    """Mask logits (N, h, w) without holes and sprinkles of at most ``max_area`` pixels."""
    if max_area <= 0 or len(masks) == 0:
        return masks
    inside = (masks > 0).cpu().numpy()
    filled = mask_tools.fill_holes(inside, max_area)
    cleaned = mask_tools.remove_sprinkles(filled, max_area)
    masks = torch.where(_flags(filled & ~inside, masks), 0.1, masks)
    return torch.where(_flags(filled & ~cleaned, masks), -0.1, masks)


def _groups(prompts: Iterable[int]) -> list[list[int]]:
    """Indices of those of each prompt."""
    groups: dict[int, list[int]] = {}
    for index, prompt in enumerate(prompts):
        groups.setdefault(prompt, []).append(index)
    return list(groups.values())


def _flags(values: np.ndarray, like: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(values).to(like.device)
