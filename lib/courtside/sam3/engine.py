"""SAM 3 over a video of any length: one frame at a time, all objects together, nothing kept for nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np
import torch
from torch.nn.functional import interpolate

from courtside import masks as mask_tools
from courtside.errors import DeviceError
from courtside.sam3.association import (
    Match,
    Rules,
    Track,
    associate,
    judge,
    keep_apart,
    suppress,
    tidy,
)
from courtside.sam3.memory import Limits, Memory
from courtside.sam3.network import Features, Network, Propagated, Proposals, detect_all, overlaps
from courtside.sam3.speed import EXACT, Speed
from courtside.types import BoundingBox

__all__ = ["Engine", "FrameMasks", "State", "at_size", "full_size"]

_SURE = 10.0  # logit of an object's being there where a person showed it


@dataclass(frozen=True, slots=True)
class FrameMasks:
    """The objects of one frame, by ascending ``object_id`` (from 1).

    ``masks`` are logits (h, w) on the model's mask grid. ``scores`` are the detector's when the object
    was found, ``tracker_scores`` the tracker's in this frame, both in [0, 1]. ``prompts`` counts from 0.
    """

    frame: int
    object_ids: tuple[int, ...] = ()
    prompts: tuple[int, ...] = ()
    scores: tuple[float, ...] = ()
    tracker_scores: tuple[float, ...] = ()
    masks: tuple[torch.Tensor, ...] = ()

    def without(self, object_ids: set[int]) -> FrameMasks:
        """The same frame, the objects ``object_ids`` left out."""
        kept = [i for i, number in enumerate(self.object_ids) if number not in object_ids]
        if len(kept) == len(self.object_ids):
            return self
        columns = (self.object_ids, self.prompts, self.scores, self.tracker_scores, self.masks)
        return FrameMasks(self.frame, *(tuple(column[i] for i in kept) for column in columns))


@dataclass(slots=True)
class State:
    """All that following a video carries from one frame to the next: plain numbers and tensors.

    ``waiting`` are frames whose objects hotstart may still take back. Ids rise and are never used again.
    ``stepped`` counts the frames gone through.
    """

    reverse: bool = False
    next_id: int = 1
    stepped: int = 0
    tracks: list[Track] = field(default_factory=list)
    waiting: list[FrameMasks] = field(default_factory=list)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors held."""
        shown = {mask.untyped_storage().data_ptr(): mask for frame in self.waiting for mask in frame.masks}
        return sum(mask.untyped_storage().nbytes() for mask in shown.values()) + sum(
            track.memory.nbytes for track in self.tracks
        )


class Engine:
    """Follows what fits ``prompts`` with one ``Sam3VideoModel`` (its weights may be shared with others).

    ``frame_count`` is the length of the video. ``rules`` are the model's own by default. ``batch`` is how
    many objects are computed together; it is halved when memory runs out, and then the memories of objects
    move to the CPU. ``turn`` is as in :class:`courtside.sam3.memory.Limits`; of ``speed``, all but the stride
    concerns the engine.
    """

    def __init__(
        self,
        model: Any,
        prompts: Sequence[tuple[torch.Tensor, torch.Tensor]],
        frame_count: int,
        *,
        rules: Rules | None = None,
        batch: int | None = None,
        reverse: bool = False,
        turn: int | None = None,
        speed: Speed = EXACT,
    ) -> None:
        self.network = Network(model, frame_count)
        self.rules = Rules.of(model) if rules is None else rules
        tracker = self.network.tracker
        self.limits = Limits(
            speed.conditioning or tracker.config.max_cond_frame_num,
            speed.frames or tracker.num_maskmem,
            self.network.pointers,
            self.rules.every_pointer,
            self.rules.memory_selection,
            turn,
        )
        self.batch = batch or (4 if self.network.device.type == "cpu" else 64)
        self.state = State(reverse)
        self._dormant = speed.dormant
        self._home = self.network.device
        with torch.inference_mode():
            self._prompts = [self.network.prompt(ids, mask) for ids, mask in prompts]

    def run(self, frames: Iterable[tuple[int, torch.Tensor]]) -> Iterator[FrameMasks]:
        """Yield the objects of each frame, in the order of ``frames``, which run backward if the state does.

        ``frames`` gives numbers and pixels, (3, side, side) in the model's number format. Results come
        ``hotstart_delay`` frames late, without the objects that hotstart has taken back until then. Raises
        :class:`DeviceError` when memory runs out with one object at a time.
        """
        for number, pixels in frames:
            self.step(number, pixels)
            if len(self.state.waiting) >= max(1, self.rules.hotstart_delay):
                yield self.state.waiting.pop(0)
        while self.state.waiting:
            yield self.state.waiting.pop(0)

    @torch.inference_mode()
    def step(self, number: int, pixels: torch.Tensor) -> None:
        """Go on by one frame; its objects are added to the state's ``waiting``."""
        state, rules, tracks = self.state, self.rules, self.state.tracks
        features = self.network.features(pixels.to(self.network.device, self.network.dtype))
        found, found_by = detect_all(
            self.network,
            features.embeddings,
            self._prompts,
            rules.score_threshold_detection,
            rules.det_nms_thresh,
        )
        scores = found.scores.float().cpu().numpy()
        follows = np.array([track.prompt for track in tracks], int)[None]
        same_prompt = (found_by[:, None] == follows) | (follows < 0)

        def matched(raw: Propagated) -> tuple[torch.Tensor, Match]:
            masks = tidy(raw.masks, rules.fill_hole_area)
            visible = (masks > 0).flatten(1).any(1).cpu().numpy()
            ious = overlaps(found.masks > 0, masks > 0)
            return masks, associate(ious, same_prompt, scores, visible, rules)

        asleep = [index for index, track in enumerate(tracks) if self._is_asleep(track, number)]
        raw = self._absent(len(tracks))
        self._propagate(raw, features, number, [i for i in range(len(tracks)) if i not in asleep])
        masks, match = matched(raw)
        if asleep and match.new:
            # Somebody new may be somebody who comes back.
            self._propagate(raw, features, number, asleep)
            asleep = []
            masks, match = matched(raw)
        removed, hidden = judge(tracks, match, number, state.reverse, rules)
        confirmed = self._confirmed(number, match, raw.scores)
        doubtful = self._doubtful(number, raw.ious, confirmed)
        if tracks:
            masks = suppress(masks, tracks, removed, hidden, raw.scores, number, state.reverse, rules)
            for track, there in zip(tracks, (masks > 0).flatten(1).any(1).tolist(), strict=True):
                track.unseen = 0 if there else track.unseen + 1
            self._remember(features, number, masks, raw, found, confirmed, removed, asleep, bool(match.new))
        born = self._begin(features, number, found, found_by, scores, match.new)

        shown = self._show(number, masks, raw, found, match, confirmed, removed, born)
        state.tracks = [track for track in tracks if track.object_id not in removed] + born
        state.waiting.append(shown.without(hidden | doubtful))
        state.stepped += 1
        if removed and rules.hotstart_delay > 0:
            state.waiting = [frame.without(removed) for frame in state.waiting]
        for track in state.tracks:
            track.memory.prune(number, state.reverse, self.limits)
        self._bring_home()

    def _is_asleep(self, track: Track, number: int) -> bool:
        return self._dormant is not None and track.unseen >= self._dormant and number not in track.given

    def _absent(self, count: int) -> Propagated:
        """``count`` objects that are nowhere to be seen."""
        network = self.network
        side, width = network.mask_side, network.tracker.hidden_dim
        like = {"dtype": network.dtype, "device": network.device}
        return Propagated(
            torch.full((count, side, side), -_SURE, **like),
            torch.full((count,), -_SURE, **like),
            torch.zeros(count, width, **like),
            torch.zeros(count, **like),
        )

    def _propagate(self, result: Propagated, features: Features, number: int, chosen: Iterable[int]) -> None:
        """Put the ``chosen`` objects in the new frame into ``result``, computed in groups of equal memory."""
        tracks, network = self.state.tracks, self.network
        recalls = {
            index: tracks[index].memory.recall(number, self.state.reverse, self.limits) for index in chosen
        }
        groups: dict[tuple[int, int], list[int]] = {}
        for index, recall in recalls.items():
            groups.setdefault(recall.size, []).append(index)
        for group in groups.values():

            def work(part: list[int]) -> None:
                some = network.propagate(features, [recalls[index] for index in part])
                result.masks[part], result.scores[part] = some.masks, some.scores
                result.pointers[part], result.ious[part] = some.pointers, some.ious

            self._in_batches(work, group, number)
        for index in recalls:
            given = tracks[index].given.get(number)
            if given is not None:
                result.masks[index], result.scores[index] = given, _SURE

    def _confirmed(self, number: int, match: Match, scores: torch.Tensor) -> dict[int, int]:
        """Tracks (by index) that this frame reconditions, with the detection that confirms each."""
        every = self.rules.recondition_every_nth_frame
        if every <= 0 or number % every or not match.confirmed:
            return {}
        sure = (scores > self.rules.high_conf_thresh).cpu().numpy()
        return {index: found for index, found in match.confirmed.items() if sure[index]}

    def _doubtful(self, number: int, ious: torch.Tensor, confirmed: Collection[int]) -> set[int]:
        """Ids of the tracks whose masks, of predicted ``ious``, are too poor to be shown.

        What a detection confirms, or a person has shown in this frame, is no prediction of the tracker's.
        """
        if self.rules.pred_iou_thresh <= 0:
            return set()
        return {
            track.object_id
            for index, (track, iou) in enumerate(zip(self.state.tracks, ious.tolist(), strict=True))
            if iou < self.rules.pred_iou_thresh and index not in confirmed and number not in track.given
        }

    def _remember(
        self,
        features: Features,
        number: int,
        masks: torch.Tensor,
        raw: Propagated,
        found: Proposals,
        confirmed: dict[int, int],
        removed: set[int],
        asleep: Collection[int],
        births: bool,
    ) -> None:
        """Encode what each track is to remember of this frame; confirmed ones as a conditioning frame."""
        tracks = self.state.tracks
        if not self.rules.recondition_on_trk_masks and confirmed:
            masks = masks.clone()
            for index, other in confirmed.items():
                mask = found.masks[other]
                masks[index] = (mask >= 0.5) if self.rules.boolean_reconditioning else mask
        settled = keep_apart(masks, [track.prompt for track in tracks])
        there = (settled > 0).flatten(1).any(1)
        kept = [
            index
            for index, track in enumerate(tracks)
            if track.object_id not in removed and number not in track.given and index not in asleep
        ]
        sure = torch.where(raw.scores > 0, raw.scores.sigmoid() * 2 - 1, 0.0)
        qualities = (sure * raw.ious).clamp(0, 1).tolist()
        rewritten = []
        if births and self.rules.births_rewrite_memories:
            rewritten = [index for index in kept if index not in confirmed]
            kept = [index for index in kept if index in confirmed]

        def store(part: list[int], memories: torch.Tensor) -> None:
            for index, features_of_one in zip(part, memories, strict=True):
                bank = tracks[index].memory
                frames = bank.conditioning if index in confirmed else bank.tracked
                frames[number] = Memory.of(features_of_one, raw.pointers[index], qualities[index])

        def work(part: list[int]) -> None:
            store(part, self.network.encode(features, settled[part][:, None], there[part], sure=False))

        def rewrite(part: list[int]) -> None:
            large = self.network.enlarge(raw.masks[part])
            store(part, self.network.encode(features, large, raw.scores[part] > 0, sure=True))

        self._in_batches(work, kept, number)
        self._in_batches(rewrite, rewritten, number)

    def _begin(
        self,
        features: Features,
        number: int,
        found: Proposals,
        found_by: np.ndarray,
        scores: np.ndarray,
        new: list[int],
    ) -> list[Track]:
        """New tracks of the detections ``new``, with this frame as their conditioning frame."""
        taken = {track.object_id for track in self.state.tracks if track.kept}
        free = (number for number in count(self.state.next_id) if number not in taken)
        born = {
            index: Track(
                object_id=next(free),
                prompt=int(found_by[index]),
                score=float(scores[index]),
                first_frame=number,
                keep_alive=self.rules.init_trk_keep_alive,
            )
            for index in new
        }

        def work(part: list[int]) -> None:
            inside = found.masks[part] >= 0.5
            masks, pointers = self.network.begin(features, inside)
            memories = self.network.encode(features, masks, inside.flatten(1).any(1), sure=True)
            for index, memory, pointer in zip(part, memories, pointers, strict=True):
                born[index].memory.conditioning[number] = Memory.of(memory, pointer)

        self._in_batches(work, new, number)
        self.state.next_id = next(free)
        return list(born.values())

    def _show(
        self,
        number: int,
        masks: torch.Tensor,
        raw: Propagated,
        found: Proposals,
        match: Match,
        confirmed: dict[int, int],
        removed: set[int],
        born: list[Track],
    ) -> FrameMasks:
        """What this frame shows: tracks as settled, confirmed ones and new ones as detected."""
        tracks = self.state.tracks
        stay = [index for index, track in enumerate(tracks) if track.object_id not in removed]
        likely = raw.scores.sigmoid().tolist()
        of = stay
        if removed and self.rules.shifted_after_removal:
            of = list(range(len(stay)))
        shown = [
            (tracks[index], found.masks[confirmed[index]] if index in confirmed else masks[at], likely[at])
            for index, at in zip(stay, of, strict=True)
        ]
        begun = tidy(found.masks[match.new], self.rules.fill_hole_area)
        shown += [(track, mask, track.score) for track, mask in zip(born, begun, strict=True)]
        if removed and self.rules.shifted_after_removal:
            # The scores of the last tracks, left over by the shift, land on the first new ones.
            late = range(len(stay), min(len(likely), len(shown)))
            for at in late:
                shown[at] = (*shown[at][:2], likely[at])
        return FrameMasks(
            number,
            tuple(track.object_id for track, _, _ in shown),
            tuple(track.prompt for track, _, _ in shown),
            tuple(track.score for track, _, _ in shown),
            tuple(score for _, _, score in shown),
            tuple(mask for _, mask, _ in shown),
        )

    def _in_batches(self, work: Callable[[list[int]], None], indices: list[int], number: int) -> None:
        """Do ``work`` for all ``indices`` in batches, smaller ones when memory runs out."""
        start = 0
        while start < len(indices):
            part = indices[start : start + self.batch]
            try:
                work(part)
                start += len(part)
            except torch.OutOfMemoryError as error:
                if len(part) > 1:
                    self.batch = len(part) // 2
                elif self._home.type != "cpu":
                    self._home = torch.device("cpu")
                else:
                    raise DeviceError(
                        f"{self.network.device} ran out of memory in frame {number} with one object at a"
                        " time: use fewer prompts, or --device cpu"
                    ) from error
                self._bring_home()
                if self.network.device.type == "cuda":
                    torch.cuda.empty_cache()

    def _bring_home(self) -> None:
        """Keep memories where they are to be kept: from the moment that the device was full, on the CPU."""
        if self._home != self.network.device:
            for track in self.state.tracks:
                track.memory.move_to(self._home)


def full_size(
    shown: FrameMasks, height: int, width: int, whole_overlaps: bool
) -> tuple[list[int], np.ndarray, list[BoundingBox]]:
    """Masks at the size of the video: positions in ``shown``, bool (N, height, width), and N boxes.

    Objects without a pixel are left out. A pixel that several objects of one prompt claim belongs to the one
    whose logit is highest there or, with ``whole_overlaps``, whose tracker score is; of equal ones to the
    first. A box is the tightest around its mask or, with ``whole_overlaps``, around all that its object
    claims, as in transformers' loop. Without, objects are left out as well that :func:`keep_apart` takes for
    covered.
    """
    logits = shown.masks
    if logits and not whole_overlaps:
        logits = keep_apart(torch.stack(logits), shown.prompts)
    inside = [index for index, mask in enumerate(logits) if mask.max() > 0]
    if whole_overlaps:
        inside.sort(key=lambda index: -shown.tracker_scores[index])
    owners = {prompt: np.full((height, width), -1, np.int32) for prompt in set(shown.prompts)}
    highest = {prompt: np.zeros((height, width), np.float32) for prompt in owners}
    # A mask at a time, and only where it is, stays in the processor's cache.
    parts: dict[int, tuple[slice, slice]] = {}
    claims: dict[int, np.ndarray] = {}
    for index in inside:
        parts[index] = there = _reach(logits[index], height, width)
        large = _enlarged(logits[index], height, width)[there]
        owner, best = owners[shown.prompts[index]][there], highest[shown.prompts[index]][there]
        wins = large > best
        if whole_overlaps:
            claims[index] = large > 0
            wins &= owner < 0
        owner[wins] = index
        np.maximum(best, large, out=best)
    own = {index: owners[shown.prompts[index]][there] == index for index, there in parts.items()}
    kept = sorted(index for index, mask in own.items() if mask.any())
    around = claims if whole_overlaps else own
    masks, boxes = np.zeros((len(kept), height, width), bool), []
    for mask, index in zip(masks, kept, strict=True):
        rows, columns = parts[index]
        mask[rows, columns] = own[index]
        boxes.append(mask_tools.mask_to_box(around[index], (columns.start, rows.start)))
    return kept, masks, boxes


def _reach(logits: torch.Tensor, height: int, width: int) -> tuple[slice, slice]:
    """The rows and columns at the size of the video in which a mask can be: those that a pixel on the model's
    grid has a share in."""
    reach = []
    for axis, size in enumerate((height, width)):
        some = torch.nonzero((logits > 0).any(1 - axis))
        step = size / logits.shape[axis]
        first, last = (int(some[at]) for at in (0, -1))
        reach.append(slice(max(0, int((first - 0.5) * step) - 1), int((last + 1.5) * step) + 1))
    return reach[0], reach[1]


def at_size(logits: torch.Tensor, height: int, width: int) -> np.ndarray:
    """A mask, bool (height, width), from its logits (h, w) on the model's mask grid."""
    return _enlarged(logits, height, width) > 0


def _enlarged(logits: torch.Tensor, height: int, width: int) -> np.ndarray:
    # Interpolating bfloat16 logits would make the outline of a mask coarse.
    large = interpolate(logits[None, None].float(), size=(height, width), mode="bilinear")[0, 0]
    return large.cpu().numpy()
