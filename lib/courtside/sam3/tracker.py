"""The tracker ``sam3``: everything that fits a text prompt, followed by our engine."""

from __future__ import annotations

import dataclasses
import itertools
import statistics
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm import tqdm

from courtside.device import Device, choose_device
from courtside.errors import DeviceError, SettingError
from courtside.sam3 import weights
from courtside.sam3.association import Rules
from courtside.sam3.checkpoint import read_state, write_state
from courtside.sam3.engine import Engine, FrameMasks, full_size
from courtside.sam3.speed import SPEEDS, Speed, between, parse_duration
from courtside.settings import check_prompts
from courtside.types import Detection, FrameDetections

if TYPE_CHECKING:
    from courtside.video import Frame, Video

__all__ = ["CLICKED_NAME", "Following", "Sam3Tracker", "encode_texts", "prepared", "to_detections"]

CLICKED_NAME = "clicked"
"""The class of an object that was clicked and that no text found."""

_BACKWARD = 16  # frames held at once when they are wanted from the last to the first


class Sam3Tracker:
    """Follows everything that fits one of several text prompts, with masks.

    ``model`` is a ``Sam3VideoModel`` folder or a name on the hub, ``device`` as in
    :func:`courtside.device.choose_device`. The model's own settings (thresholds, hotstart, hole
    filling) are used as its ``config.json`` has them. Weights load once, when tracking first begins.
    Memory does not grow with the length of the video. With ``memory_selection``, say 0.01, the tracker
    remembers the latest frames of at least that quality rather than the latest frames, as SAM 3 can;
    without, it does as the model's ``config.json`` says.

    ``speed`` "fast" gives up exactness for time, as :data:`courtside.sam3.speed.SPEEDS` says; a
    :class:`courtside.sam3.speed.Speed` is taken as it is. With a ``time_budget``, in seconds or a text such
    as "5min", the first frames are timed on this machine, and as many frames are seen as fit into it.
    """

    name = "sam3"
    takes_prompts = True
    resumable = True

    def __init__(
        self,
        model: str | Path = "facebook/sam3",
        device: str = "auto",
        *,
        memory_selection: float | None = None,
        speed: str | Speed = "exact",
        time_budget: float | str | None = None,
    ) -> None:
        self._source, self._wanted = str(model), device
        if memory_selection is not None and not 0 <= memory_selection < 1:
            raise SettingError(f"memory_selection is {memory_selection}; it must lie between 0 and 1")
        if not isinstance(speed, Speed) and speed not in SPEEDS:
            raise SettingError(f"unknown speed {speed!r}: use one of {', '.join(SPEEDS)}")
        self._memory_selection = memory_selection
        self._speed = self._used = SPEEDS[speed] if isinstance(speed, str) else speed
        self._budget_s = None if time_budget is None else parse_duration(time_budget)
        self._loaded: tuple[Any, Any, Device] | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """The model and, once it is loaded, its tracking settings and the device with the reason."""
        said: dict[str, Any] = {"model": self._source, "device": self._wanted}
        said |= {"memory_selection": self._memory_selection, "time_budget_s": self._budget_s}
        said["speed"] = dataclasses.asdict(self._used)
        if self._loaded is not None:
            model, _, device = self._loaded
            rules = self._rules()
            asked = ("memory_selection", "whole_overlaps", "many_to_one", "pred_iou_thresh")
            said |= device.settings() | {key: getattr(rules, key) for key in asked}
            own = sorted(vars(model).keys() & model.config.to_dict().keys())
            said |= {key: getattr(model, key) for key in own if isinstance(getattr(model, key), (int, float))}
        return said

    def load(self) -> Any:
        """The model, loaded the first time. Raises :class:`ModelError` where it can't be had."""
        if self._loaded is None:
            self._loaded = weights.load(self._source, choose_device(self._wanted))
        return self._loaded[0]

    def track(
        self, video: Video, prompts: Sequence[str] = (), *, progress: bool = True, resume: Path | None = None
    ) -> Following:
        """Yield each frame's detections, in order, with masks of the frame's size.

        ``class_id`` is the prompt's position and ``class_name`` its text; ``confidence`` is the
        detector's score when the object was found; ``bbox`` is the box that
        :func:`courtside.sam3.engine.full_size` gives. Frames come ``hotstart_delay`` frames late, so that
        an object that turns out to be false or a duplicate within that time appears in none of them.
        ``resume`` is a file that :meth:`Following.save` wrote: what follows is what would have followed
        then. Raises :class:`SettingError` for prompts that can't work, :class:`ModelError` where the
        weights can't be loaded and :class:`DeviceError` when memory runs out.
        """
        texts = check_texts(prompts)
        self.load()
        model, processor, device = self._loaded
        encoded = encode_texts(processor.tokenizer, texts, model.config.detector_config.text_config)
        speed, state, more = self._speed, None, {}
        if resume is not None:
            state, more = read_state(resume, device.device)
            speed = dataclasses.replace(speed, stride=more["stride"])
        elif self._budget_s is not None:
            began = time.perf_counter()
            frame_s = _time_a_frame(
                self._engine(encoded, video, speed), video, processor.video_processor, device
            )
            left = self._budget_s - (time.perf_counter() - began)
            speed = speed.for_budget(left, frame_s, video.frame_count)
        self._used = speed
        engine = self._engine(encoded, video, speed)
        engine.state = state or engine.state
        seen = speed.seen(video.frame_count)
        pixels = prepared(video, processor.video_processor, device, seen[engine.state.stepped :])
        if speed.stride > 1:
            # To the tracker's memory the frames it sees are a video of their own.
            pixels = ((engine.state.stepped, each) for _, each in pixels)
        return Following(engine, video, texts, pixels, device, seen, progress, more)

    def _engine(self, encoded: list[Any], video: Video, speed: Speed) -> Engine:
        return Engine(self._loaded[0], encoded, video.frame_count, rules=self._rules(), speed=speed)

    def _rules(self) -> Rules:
        rules = Rules.of(self._loaded[0])
        if self._memory_selection is None:
            return rules
        return dataclasses.replace(rules, memory_selection=self._memory_selection)


def _time_a_frame(engine: Engine, video: Video, processor: Any, device: Device) -> float:
    """Seconds a frame takes, once there are objects: the median of up to 12 frames, or of 20 s."""
    took: list[float] = []
    began = time.perf_counter()
    pixels = prepared(video, processor, device, range(min(14, video.frame_count)))
    while time.perf_counter() - began < 20 or len(took) < 4:
        clock = time.perf_counter()
        number, frame = next(pixels, (None, None))
        if frame is None:
            break
        engine.step(number, frame)
        to_detections(engine.state.waiting[-1], video, [""] * 64, engine.rules)
        took.append(time.perf_counter() - clock)
    # The first two frames make the objects that the others follow.
    return statistics.median(took[2:] or took)


class Following(Iterator[FrameDetections]):
    """A video as it is followed: its frames, one by one, and :meth:`save` between any two of them.

    The engine goes through the frames ``seen``; the others lie between. ``more`` is what :meth:`save` wrote
    beside the engine's state.
    """

    def __init__(
        self,
        engine: Engine,
        video: Video,
        texts: list[str],
        pixels: Iterable[tuple[int, torch.Tensor]],
        device: Device,
        seen: Sequence[int],
        progress: bool,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        more = {"found": False, "held": 0, "given": 0} | dict(more or {})
        self._engine, self._video, self._texts = engine, video, texts
        self._device, self._seen, self._found = device, seen, more["found"]
        waiting = engine.state.waiting
        self._held = [waiting.pop(0) for _ in range(more["held"])]
        self._given = more["given"]
        done = engine.state.stepped - len(waiting)
        self._frames = self._run(engine.run(pixels), done)
        options = {} if progress else {"disable": True}
        self._total = abs(seen[-1] - seen[0]) + 1
        given = abs(seen[done - 1] - seen[0]) + 1 if done else 0
        every = f", 1 frame in {self._total / len(seen):.2g}" if len(seen) < self._total else ""
        self._bar = tqdm(
            total=self._total, initial=given, desc=Sam3Tracker.name + every, unit="frame", **options
        )

    def __next__(self) -> FrameDetections:
        try:
            frame = next(self._frames)
        except StopIteration:
            self._end()
            raise
        except torch.OutOfMemoryError as error:
            raise DeviceError(
                f"{self._device.device} ran out of memory after frame {self._engine.state.stepped}: use fewer"
                " prompts, or --device cpu"
            ) from error
        self._found |= bool(frame.detections)
        self._bar.update()
        return frame

    def _run(self, outputs: Iterator[FrameMasks], done: int) -> Iterator[FrameDetections]:
        """What the engine shows, and what lies between."""
        if len(self._held) == 2:
            # Stopped on the way from one to the other.
            outputs = itertools.chain([self._held.pop()], outputs)
            done -= 1
        last = self._detections(self._held[0], done - 1) if self._held else None
        for place, shown in enumerate(outputs, start=done):
            now = self._detections(shown, place)
            if len(self._seen) == self._total:
                yield now
                continue
            if last is not None:
                self._held = [self._held[0], shown]
                ahead = 1 if now.frame_number > last.frame_number else -1
                numbers = range(last.frame_number, now.frame_number, ahead)[1 + self._given :]
                for number in numbers:
                    self._given += 1
                    yield between(last, now, number, float(self._video.times_s[number]))
            self._held, self._given, last = [shown], 0, now
            yield now

    def _detections(self, shown: FrameMasks, place: int) -> FrameDetections:
        return to_detections(shown, self._video, self._texts, self._engine.rules, self._seen[place])

    def close(self) -> None:
        """Stop following."""
        self._frames.close()
        self._bar.close()

    def save(self, path: Path) -> None:
        """Write all that is needed to go on after the last frame that was given."""
        state = self._engine.state
        state = dataclasses.replace(state, waiting=[*self._held, *state.waiting])
        stride = (self._seen[-1] - self._seen[0]) / max(1, len(self._seen) - 1)
        more = {"held": len(self._held), "given": self._given, "stride": max(1.0, abs(stride))}
        write_state(path, state, found=self._found, **more)

    def _end(self) -> None:
        self._bar.close()
        if not self._found:
            warn_of_nothing(self._video, self._texts, stacklevel=3)


def warn_of_nothing(video: Video, texts: Sequence[str], stacklevel: int) -> None:
    """Warn that nothing was found in any frame, on behalf of the caller ``stacklevel`` calls above."""
    named = ", ".join(map(repr, texts))
    warnings.warn(f"no players found in {video.name}: nothing fits {named}", stacklevel=stacklevel + 1)


def check_texts(prompts: Sequence[str]) -> list[str]:
    texts = list(check_prompts(prompts))
    if not texts:
        raise SettingError('SAM 3 needs to know what to follow: --prompt "player in white"')
    return texts


def encode_texts(
    tokenizer: Any, texts: list[str], text_config: Any
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Each text as padded token ids and attention mask, int64 [1, limit] both.

    Raises :class:`SettingError` for a text that is too long, or the same as another to this tokenizer.
    """
    limit = min(text_config.max_position_embeddings, tokenizer.model_max_length)
    encoded, seen = [], {}
    for text in texts:
        tokens = tokenizer(text, padding="max_length", max_length=limit, return_tensors="pt")
        length = tokens["input_ids"].shape[1]
        if length > limit:
            raise SettingError(
                f"the prompt {text!r} is too long: it makes {length} tokens and this model takes {limit}"
            )
        # The tokenizer ignores case and spacing, so texts that differ may still be the same prompt.
        same = seen.setdefault(tuple(tokens["input_ids"][0].tolist()), text)
        if len(seen) <= len(encoded):
            raise SettingError(f"the prompts {same!r} and {text!r} are the same to this model: leave one out")
        encoded.append((tokens["input_ids"], tokens["attention_mask"]))
    return encoded


def prepared(
    video: Video, processor: Any, device: Device, numbers: Sequence[int]
) -> Iterator[tuple[int, torch.Tensor]]:
    """The frames ``numbers`` and their pixels (3, side, side) in the model's number format, decoded ahead.

    Numbers rise or fall throughout.
    """
    if len(numbers) == 0:
        return
    frames = _backward(video, numbers) if numbers[0] > numbers[-1] else video.frames_at(numbers)
    for index, _, image in frames:
        clip = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
        pixels = processor(videos=[clip], device=device.device, return_tensors="pt").pixel_values_videos
        yield index, pixels[0, 0].to(device.device, device.dtype)


def _backward(video: Video, numbers: Sequence[int]) -> Iterator[Frame]:
    """All frames from ``numbers[0]`` down: decoders only go forward, so a few at a time."""
    for first in range(0, len(numbers), _BACKWARD):
        some = numbers[first : first + _BACKWARD]
        yield from reversed(list(video.frames(some[-1], some[0] + 1)))


def to_detections(
    shown: FrameMasks, video: Video, texts: list[str], rules: Rules, number: int | None = None
) -> FrameDetections:
    """What the engine shows as boxes and masks at the size of ``video``, as its frame ``number``.

    ``number`` is by default the engine's own.
    """
    number = shown.frame if number is None else number
    kept, stack, boxes = full_size(shown, video.height, video.width, rules.whole_overlaps)
    detections = []
    for index, mask, box in zip(kept, stack, boxes, strict=True):
        detections.append(
            Detection(
                bbox=box,
                confidence=min(max(shown.scores[index], 0.0), 1.0),
                # What no text found counts behind the texts.
                class_id=shown.prompts[index] % (len(texts) + 1),
                class_name=[*texts, CLICKED_NAME][shown.prompts[index]],
                tracking_id=shown.object_ids[index],
                mask=mask,
            )
        )
    return FrameDetections(number, float(video.times_s[number]), tuple(detections))
