"""SAM 3's detector on each frame alone: what tracking by detection links, and linking it by masks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from tqdm import tqdm

from courtside.device import Device, choose_device
from courtside.errors import DeviceError, SettingError
from courtside.sam3 import weights
from courtside.sam3.association import Rules
from courtside.sam3.engine import FrameMasks
from courtside.sam3.network import Network, Proposals, detect_all, overlaps
from courtside.sam3.tracker import check_texts, encode_texts, prepared, to_detections, warn_of_nothing
from courtside.types import FrameDetections

if TYPE_CHECKING:
    from courtside.video import Video

__all__ = ["FrameDetector", "FrameFinds", "Sam3Associate"]


@dataclass(frozen=True, slots=True)
class FrameFinds:
    """What was found in frame ``frame``: ``found`` as the model gives it, and the prompt of each, int [N]."""

    frame: int
    found: Proposals
    prompts: np.ndarray

    def boxes(self, video: Video) -> np.ndarray:
        """Corners in pixels of ``video``, float32 [N, 4]."""
        shares = self.found.boxes.float().cpu().numpy().clip(0, 1)
        return shares * np.array([video.width, video.height] * 2, np.float32)

    @property
    def scores(self) -> np.ndarray:
        """Float32 [N] in 0..1."""
        return self.found.scores.float().cpu().numpy()


class FrameDetector:
    """Finds what fits text prompts in each frame by itself, with the weights that SAM 3 tracks with.

    ``model`` and ``device`` are as in :class:`courtside.sam3.Sam3Tracker`. Detections that score at most
    ``least_score`` (None for the model's own ``score_threshold_detection``) are dropped, and of two masks of
    a prompt that overlap by more than the model's ``det_nms_thresh`` the better stays.
    """

    def __init__(self, model: str | Path, device: str = "auto", *, least_score: float | None = None) -> None:
        self._source, self._wanted, self._least_score = str(model), device, least_score
        self._loaded: tuple[Any, Any, Device] | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """The model, what is dropped and, once it is loaded, the device with the reason."""
        said: dict[str, Any] = {"model": self._source, "device": self._wanted}
        if self._loaded is not None:
            model, _, device = self._loaded
            said |= device.settings()
            said |= {"least_score": self._least(model), "det_nms_thresh": model.det_nms_thresh}
        return said

    def _least(self, model: Any) -> float:
        return model.score_threshold_detection if self._least_score is None else self._least_score

    def load(self) -> Any:
        """The model, loaded the first time. Raises :class:`ModelError` where it can't be had."""
        if self._loaded is None:
            self._loaded = weights.load(self._source, choose_device(self._wanted))
        return self._loaded[0]

    def find(self, video: Video, prompts: Sequence[str]) -> Iterator[FrameFinds]:
        """What each frame of ``video`` holds, in order. Raises :class:`SettingError` for prompts that can't
        work, at once, and :class:`DeviceError` when memory runs out.
        """
        texts, model = check_texts(prompts), self.load()
        _, processor, device = self._loaded
        encoded = encode_texts(processor.tokenizer, texts, model.config.detector_config.text_config)
        return self._find(video, Network(model, video.frame_count), encoded, processor, device)

    def _find(
        self, video: Video, network: Network, encoded: list, processor: Any, device: Device
    ) -> Iterator[FrameFinds]:
        least = self._least(network.model)
        try:
            with torch.inference_mode():
                asked = [network.prompt(ids, mask) for ids, mask in encoded]
            every = range(video.frame_count)
            for number, pixels in prepared(video, processor.video_processor, device, every):
                with torch.inference_mode():
                    seen = network.embed(pixels)
                    found = detect_all(network, seen, asked, least, network.model.det_nms_thresh)
                yield FrameFinds(number, *found)
        except torch.OutOfMemoryError as error:
            raise DeviceError(
                f"{device.device} ran out of memory while detecting: use fewer prompts, or --device cpu"
            ) from error


@dataclass(slots=True)
class _Linked:
    """A track so far: its last mask, bool (h, w), in which frame, and its score when it was found."""

    object_id: int
    prompt: int
    score: float
    mask: torch.Tensor
    frame: int = field(default=0)


class Sam3Associate:
    """SAM 3 without its memory: detect in each frame, then associate by the overlap of masks.

    A detection goes on with the track of its prompt whose last mask it overlaps most, of all pairs
    together (Hungarian), from the model's own ``assoc_iou_thresh``; one that fits none starts a track from
    ``new_det_thresh``. A track that nothing fitted for more than ``lost_track_buffer`` frames ends. It shows
    what the memory of the tracker ``sam3`` is worth on the same detections.
    """

    name = "sam3-associate"
    takes_prompts = True
    resumable = False

    def __init__(
        self, model: str | Path = "facebook/sam3", device: str = "auto", *, lost_track_buffer: int = 30
    ) -> None:
        whole = isinstance(lost_track_buffer, int) and not isinstance(lost_track_buffer, bool)
        if not whole or lost_track_buffer < 0:
            raise SettingError(
                f"the tracker {self.name} needs a whole number from 0 as lost_track_buffer, not"
                f" {lost_track_buffer!r}"
            )
        self._buffer = lost_track_buffer
        self._detector = FrameDetector(model, device)

    @property
    def settings(self) -> dict[str, Any]:
        return self._detector.settings | {"lost_track_buffer": self._buffer}

    def track(
        self, video: Video, prompts: Sequence[str] = (), *, progress: bool = True
    ) -> Iterator[FrameDetections]:
        """See :meth:`courtside.trackers.Tracker.track`; every detection has its mask.

        Raises what :meth:`FrameDetector.find` raises.
        """
        texts, model = check_texts(prompts), self._detector.load()
        return self._track(video, texts, self._detector.find(video, texts), Rules.of(model), progress)

    def _track(
        self, video: Video, texts: list[str], finds: Iterator[FrameFinds], rules: Rules, progress: bool
    ) -> Iterator[FrameDetections]:
        tracks: list[_Linked] = []
        next_id = 1
        options = {} if progress else {"disable": True}
        for seen in tqdm(finds, desc=self.name, total=video.frame_count, unit="frame", **options):
            tracks = [track for track in tracks if seen.frame - track.frame <= self._buffer + 1]
            inside, scores = seen.found.masks > 0, seen.scores
            owners: dict[int, _Linked] = {}
            if tracks and len(scores):
                ious = overlaps(inside, torch.stack([track.mask for track in tracks]))
                ious[seen.prompts[:, None] != np.array([track.prompt for track in tracks])[None]] = 0
                for index, place in zip(*linear_sum_assignment(-ious), strict=True):
                    if ious[index, place] >= rules.assoc_iou_thresh and ious[index, place] > 0:
                        owners[int(index)] = tracks[place]
            for index in range(len(scores)):
                track = owners.get(index)
                if track is not None:
                    track.mask, track.frame = inside[index], seen.frame
                elif scores[index] >= rules.new_det_thresh:
                    prompt, score = int(seen.prompts[index]), float(scores[index])
                    owners[index] = _Linked(next_id, prompt, score, inside[index], seen.frame)
                    tracks.append(owners[index])
                    next_id += 1
            shown = sorted(owners.items(), key=lambda each: each[1].object_id)
            here = [float(scores[index]) for index, _ in shown]
            yield to_detections(
                FrameMasks(
                    seen.frame,
                    tuple(track.object_id for _, track in shown),
                    tuple(track.prompt for _, track in shown),
                    tuple(here),
                    tuple(here),
                    tuple(seen.found.masks[index] for index, _ in shown),
                ),
                video,
                texts,
                rules,
            )
        if next_id == 1:
            warn_of_nothing(video, texts, stacklevel=2)
