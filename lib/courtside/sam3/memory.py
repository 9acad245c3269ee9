"""What SAM 3 remembers of one object: bounded, and pruned to what a later frame can still read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch

__all__ = ["Limits", "Memory", "MemoryBank", "Recall"]


@dataclass(frozen=True, slots=True)
class Limits:
    """How far back a frame reads.

    ``conditioning`` frames at most are read, the closest in time (-1: all). Other frames are read back to
    ``frames - 1`` ago, their pointers to ``pointers - 1`` ago. ``every_pointer`` reads the pointers of
    all earlier conditioning frames, however many, which then can never be dropped.

    With a ``least_quality``, as many of the latest frames of a higher quality are read instead, however
    long ago they were, and always the one before: SAM 3's own memory selection (``use_memory_selection`` and
    ``mf_threshold`` in Meta's code), here for each object by itself. ``turn`` is a frame from which the video
    will be followed the other way, too, so that what is read there is kept.
    """

    conditioning: int
    frames: int
    pointers: int
    every_pointer: bool = False
    least_quality: float | None = None
    turn: int | None = None


@dataclass(slots=True)
class Memory:
    """One frame of one object.

    ``features`` are the memory encoder's, bfloat16 (H * W, channels), or None once no later frame can
    read them; ``pointer`` is the object's token of the mask decoder, (hidden,). ``quality`` in [0, 1] is
    the tracker's estimate of its mask's IoU, times how sure it is that the object is there.
    """

    features: torch.Tensor | None
    pointer: torch.Tensor
    quality: float = 0.0

    @classmethod
    def of(cls, features: torch.Tensor, pointer: torch.Tensor, quality: float = 0.0) -> Memory:
        """Copies, since a view would keep the batch of all objects alive."""
        return cls(features.clone(memory_format=torch.contiguous_format), pointer.clone(), quality)


@dataclass(frozen=True, slots=True)
class Recall:
    """What one frame reads of one object: features and pointers with how many frames ago they are from.

    Conditioning frames count as 0 frames ago among ``features`` but not among ``pointers``.
    """

    features: list[tuple[int, torch.Tensor]]
    pointers: list[tuple[int, torch.Tensor]]

    @property
    def size(self) -> tuple[int, int]:
        """Objects with equal sizes can be computed together."""
        return len(self.features), len(self.pointers)


@dataclass(slots=True)
class MemoryBank:
    """The memories of one object by frame number: ``conditioning`` frames, and others that were tracked."""

    conditioning: dict[int, Memory] = field(default_factory=dict)
    tracked: dict[int, Memory] = field(default_factory=dict)

    def recall(self, frame: int, reverse: bool, limits: Limits) -> Recall:
        """What ``frame`` reads; ``reverse`` when the video is followed backward."""
        ahead = -1 if reverse else 1
        chosen, others = self._choose(frame, limits.conditioning)
        features = [(0, memory.features) for memory in chosen.values()]
        for ago, at in self._read(frame, ahead, limits, range(limits.frames - 1, 0, -1), last=True):
            memory = self.tracked.get(at) or others.get(at)
            if memory is not None:
                features.append((ago, memory.features))
        pointed = self.conditioning if limits.every_pointer else chosen
        pointers = [
            ((frame - at) * ahead, memory.pointer)
            for at, memory in pointed.items()
            if (frame - at) * ahead >= 0
        ]
        for ago, at in self._read(frame, ahead, limits, range(1, limits.pointers), last=False):
            memory = self.tracked.get(at)
            if memory is None and not limits.every_pointer:
                memory = others.get(at)
            if memory is not None:
                pointers.append((ago, memory.pointer))
        return Recall(features, pointers)

    def _read(
        self, frame: int, ahead: int, limits: Limits, places: range, last: bool
    ) -> Iterator[tuple[int, int]]:
        """How long ago each frame at one of ``places`` counts as, and its number.

        Of selected frames, Meta's code reads the pointers of all but the oldest.
        """
        if limits.least_quality is None:
            yield from ((ago, frame - ahead * ago) for ago in places)
            return
        good = self._good(frame, ahead, limits)[: limits.pointers - 1]
        before = frame - ahead
        if before not in good:
            good.insert(0, before)
        yield from ((place, good[place - 1]) for place in places if place < len(good) + last)

    def _good(self, frame: int, ahead: int, limits: Limits) -> list[int]:
        """Tracked frames before ``frame`` of a quality to be selected, the latest first."""
        good = [
            at
            for at, memory in self.tracked.items()
            if memory.quality > limits.least_quality and (frame - at) * ahead > 0
        ]
        return sorted(good, key=lambda at: (frame - at) * ahead)

    def _choose(self, frame: int, limit: int) -> tuple[dict[int, Memory], dict[int, Memory]]:
        """The conditioning frames to read, and the others: the closest on each side, then the closest."""
        if limit == -1 or len(self.conditioning) <= limit:
            return self.conditioning, {}
        before = max((at for at in self.conditioning if at < frame), default=None)
        after = min((at for at in self.conditioning if at >= frame), default=None)
        chosen = [at for at in (before, after) if at is not None]
        rest = sorted((at for at in self.conditioning if at not in chosen), key=lambda at: abs(at - frame))
        chosen += rest[: limit - len(chosen)]
        others = {at: memory for at, memory in self.conditioning.items() if at not in chosen}
        return {at: self.conditioning[at] for at in chosen}, others

    def prune(self, frame: int, reverse: bool, limits: Limits) -> None:
        """Drop what no frame after ``frame``, in the direction of tracking, can read."""
        ahead = -1 if reverse else 1
        good: list[list[int]] = []
        if limits.least_quality is not None:
            good.append(self._good(frame + ahead, ahead, limits))
            if limits.turn is not None:
                good.append(self._good(limits.turn - ahead, -ahead, limits))
        seen = {at for each in good for at in each[: limits.frames - 1]}
        pointed = {at for each in good for at in each[: limits.pointers - 1]}

        def trim(memories: dict[int, Memory], old: list[int]) -> None:
            for at in old:
                ago = (frame - at) * ahead + 1
                if limits.turn is not None:
                    # The other way, this is how long after the turn it was.
                    ago = min(ago, (at - limits.turn) * ahead + 1)
                if ago >= limits.frames and at not in seen:
                    memories[at].features = None
                if (
                    ago >= limits.pointers
                    and at not in pointed
                    and not (limits.every_pointer and memories is self.conditioning)
                ):
                    del memories[at]

        trim(self.tracked, [at for at in self.tracked if (frame - at) * ahead >= 0])
        if limits.conditioning != -1:
            # Frames still to come all stay: a correction may stand anywhere in the video.
            past = sorted((at for at in self.conditioning if (frame - at) * ahead >= 0), reverse=not reverse)
            first = past[-limits.conditioning :] if limits.turn is not None else []
            trim(self.conditioning, [at for at in past[limits.conditioning :] if at not in first])

    def move_to(self, device: torch.device) -> None:
        for memory in (*self.conditioning.values(), *self.tracked.values()):
            memory.features = None if memory.features is None else memory.features.to(device)

    @property
    def nbytes(self) -> int:
        """Bytes of the storages that are held, which for a view is more than its own."""
        held = [*self.conditioning.values(), *self.tracked.values()]
        tensors = [tensor for memory in held for tensor in (memory.features, memory.pointer)]
        return sum(tensor.untyped_storage().nbytes() for tensor in tensors if tensor is not None)
