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
    """

    conditioning: int
    frames: int
    pointers: int
    every_pointer: bool = False


@dataclass(slots=True)
class Memory:
    """One frame of one object.

    ``features`` are the memory encoder's, bfloat16 (H * W, channels), or None once no later frame can
    read them; ``pointer`` is the object's token of the mask decoder, (hidden,).
    """

    features: torch.Tensor | None
    pointer: torch.Tensor

    @classmethod
    def of(cls, features: torch.Tensor, pointer: torch.Tensor) -> Memory:
        """Copies, since a view would keep the batch of all objects alive."""
        return cls(features.clone(memory_format=torch.contiguous_format), pointer.clone())


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
        for ago in range(limits.frames - 1, 0, -1):
            memory = self.tracked.get(frame - ahead * ago) or others.get(frame - ahead * ago)
            if memory is not None:
                features.append((ago, memory.features))
        pointed = self.conditioning if limits.every_pointer else chosen
        pointers = [
            ((frame - at) * ahead, memory.pointer)
            for at, memory in pointed.items()
            if (frame - at) * ahead >= 0
        ]
        for ago in range(1, limits.pointers):
            memory = self.tracked.get(frame - ahead * ago)
            if memory is None and not limits.every_pointer:
                memory = others.get(frame - ahead * ago)
            if memory is not None:
                pointers.append((ago, memory.pointer))
        return Recall(features, pointers)

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

        def trim(memories: dict[int, Memory], old: Iterator[int]) -> None:
            for at in old:
                ago = (frame - at) * ahead + 1
                if ago >= limits.frames:
                    memories[at].features = None
                if ago >= limits.pointers and not (limits.every_pointer and memories is self.conditioning):
                    del memories[at]

        trim(self.tracked, iter([at for at in self.tracked if (frame - at) * ahead >= 0]))
        if limits.conditioning != -1:
            # Frames still to come all stay: a correction may stand anywhere in the video.
            past = sorted((at for at in self.conditioning if (frame - at) * ahead >= 0), reverse=not reverse)
            trim(self.conditioning, iter(past[limits.conditioning :]))

    def move_to(self, device: torch.device) -> None:
        for memory in (*self.conditioning.values(), *self.tracked.values()):
            memory.features = None if memory.features is None else memory.features.to(device)

    @property
    def nbytes(self) -> int:
        """Bytes of the storages that are held, which for a view is more than its own."""
        held = [*self.conditioning.values(), *self.tracked.values()]
        tensors = [tensor for memory in held for tensor in (memory.features, memory.pointer)]
        return sum(tensor.untyped_storage().nbytes() for tensor in tensors if tensor is not None)
