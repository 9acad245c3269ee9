"""The tracker ``sam3``: transformers' own video loop, fed frame by frame from our decoder."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm import tqdm
from transformers.models.sam3_video import modeling_sam3_video as modeling

from courtside import masks
from courtside.device import Device, choose_device
from courtside.errors import DeviceError, SettingError
from courtside.sam3 import weights
from courtside.types import Detection, FrameDetections

if TYPE_CHECKING:
    from courtside.video import Video

__all__ = ["Sam3Tracker"]


class Sam3Tracker:
    """Follows everything that fits one of several text prompts, with masks.

    ``model`` is a ``Sam3VideoModel`` folder or a name on the hub, ``device`` as in
    :func:`courtside.device.choose_device`. The model's own settings (thresholds, hotstart, hole
    filling) are used as its ``config.json`` has them. Weights load once, when tracking first begins.

    Known defects of transformers' loop that stay in the result: in a frame in which hotstart removes an
    object, each later object shows the mask of the one before it (``build_outputs`` pairs ids after the
    removal with masks from before it), and memory grows with the length of the video.
    """

    name = "sam3"
    takes_prompts = True

    def __init__(self, model: str | Path = "facebook/sam3", device: str = "auto") -> None:
        self._source, self._wanted = str(model), device
        self._loaded: tuple[Any, Any, Device] | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """The model and, once it is loaded, its tracking settings and the device with the reason."""
        said: dict[str, Any] = {"model": self._source, "device": self._wanted}
        if self._loaded is not None:
            model, _, device = self._loaded
            said |= {"device": str(device.device), "dtype": str(device.dtype).removeprefix("torch.")}
            said |= {"device_reason": device.reason}
            own = sorted(vars(model).keys() & model.config.to_dict().keys())
            said |= {key: getattr(model, key) for key in own if isinstance(getattr(model, key), (int, float))}
        return said

    def track(
        self, video: Video, prompts: Sequence[str] = (), *, progress: bool = True
    ) -> Iterator[FrameDetections]:
        """Yield each frame's detections, in order, with masks of the frame's size.

        ``class_id`` is the prompt's position and ``class_name`` its text; ``confidence`` is the
        detector's score when the object was found; ``bbox`` is the tightest around the mask. Frames
        come ``hotstart_delay`` frames late, so that an object that turns out to be false or a
        duplicate within that time appears in none of them. Raises :class:`SettingError` for prompts
        that can't work, :class:`ModelError` where the weights can't be loaded and
        :class:`DeviceError` when memory runs out.
        """
        texts = _check_texts(prompts)
        if self._loaded is None:
            self._loaded = weights.load(self._source, choose_device(self._wanted))
        model, processor, device = self._loaded
        encoded = _encode(processor.tokenizer, texts, model.config.detector_config.text_config)
        return self._track(video, texts, encoded, model, processor, device, progress)

    def _track(
        self,
        video: Video,
        texts: list[str],
        encoded: list[Any],
        model: Any,
        processor: Any,
        device: Device,
        progress: bool,
    ) -> Iterator[FrameDetections]:
        session = modeling.Sam3VideoInferenceSession(
            video_height=video.height,
            video_width=video.width,
            inference_device=device.device,
            inference_state_device=device.device,
            video_storage_device=device.device,
            dtype=device.dtype,
        )
        for text, tokens in zip(texts, encoded, strict=True):
            prompt_id = session.add_prompt(text)
            session.prompt_input_ids[prompt_id] = tokens["input_ids"].to(device.device)
            session.prompt_attention_masks[prompt_id] = tokens["attention_mask"].to(device.device)
        session.processed_frames = _Frames(video, processor.video_processor, device)
        outputs = model.propagate_in_video_iterator(session)
        found, count = False, 0
        options = {} if progress else {"disable": True}
        with tqdm(total=video.frame_count, desc=self.name, unit="frame", **options) as bar:
            while (output := self._next(outputs, count, device)) is not None:
                frame = _to_detections(output, session, processor, video, texts)
                found |= bool(frame.detections)
                count += 1
                bar.update()
                yield frame
        if not found:
            named = ", ".join(map(repr, texts))
            warnings.warn(f"no players found in {video.name}: nothing fits {named}", stacklevel=2)

    def _next(self, outputs: Iterator[Any], count: int, device: Device) -> Any:
        try:
            with _mask_kernel():
                return next(outputs, None)
        except torch.OutOfMemoryError as error:
            raise DeviceError(
                f"{device.device} ran out of memory after frame {count}: track a shorter clip, use fewer"
                " prompts, or --device cpu"
            ) from error


def _check_texts(prompts: Sequence[str]) -> list[str]:
    if isinstance(prompts, str):
        raise SettingError(f"prompts must be a list of texts, not the single text {prompts!r}")
    texts = [str(prompt).strip() for prompt in prompts]
    if not texts:
        raise SettingError('the tracker sam3 needs to know what to follow: --prompt "player in white"')
    if "" in texts:
        raise SettingError('a prompt is empty: say what to follow, such as --prompt "player in white"')
    return texts


def _encode(tokenizer: Any, texts: list[str], text_config: Any) -> list[Any]:
    """Each text as padded token ids and attention mask, int64 [1, limit]."""
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
        encoded.append(tokens)
    return encoded


class _Frames:
    """Preprocessed frames that are decoded on demand; only the last one is kept.

    Stands in for the session's dictionary of all frames, whose length also tells the loop that it may
    look ahead and so take back objects that hotstart finds to be false.
    """

    def __init__(self, video: Video, processor: Any, device: Device) -> None:
        self._video, self._processor, self._device = video, processor, device
        self._upcoming, self._position = iter(video.frames()), 0
        self._last: tuple[int, torch.Tensor] | None = None

    def __len__(self) -> int:
        return self._video.frame_count

    def __getitem__(self, index: int) -> torch.Tensor:
        if self._last is None or self._last[0] != index:
            if index == self._position:
                image = next(self._upcoming).image
                self._position += 1
            else:
                image = self._video.frame(index)
            self._last = index, self._prepare(image)
        return self._last[1]

    def _prepare(self, image: np.ndarray) -> torch.Tensor:
        """Pixels (3, side, side) in the model's number format."""
        clip = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
        prepared = self._processor(videos=[clip], device=self._device.device, return_tensors="pt")
        return prepared.pixel_values_videos[0, 0].to(self._device.device, self._device.dtype)


def _to_detections(
    output: Any, session: Any, processor: Any, video: Video, texts: list[str]
) -> FrameDetections:
    # Interpolating bfloat16 logits would make the outline of a mask coarse.
    output.obj_id_to_mask = {key: mask.float() for key, mask in output.obj_id_to_mask.items()}
    shown = processor.postprocess_outputs(session, output)
    detections = []
    for number, score, mask in zip(
        shown["object_ids"].tolist(), shown["scores"].tolist(), shown["masks"].cpu().numpy(), strict=True
    ):
        # The loop's own boxes are older than its last step, in which masks give up what they share.
        box = masks.mask_to_box(mask)
        if box is None:
            continue
        prompt_id = session.obj_id_to_prompt_id[number]
        detections.append(
            Detection(
                bbox=box,
                confidence=min(max(float(score), 0.0), 1.0),
                class_id=prompt_id,
                class_name=texts[prompt_id],
                tracking_id=number + 1,
                mask=mask,
            )
        )
    return FrameDetections(output.frame_idx, float(video.times_s[output.frame_idx]), tuple(detections))


class _MaskKernel:
    """What transformers would download as the kernel ``cv-utils``, done by :mod:`courtside.masks`."""

    @staticmethod
    def generic_nms(
        ious: torch.Tensor, scores: torch.Tensor, iou_threshold: float, use_iou_matrix: bool = True
    ) -> torch.Tensor:
        kept = masks.nms(ious.float().cpu().numpy(), scores.float().cpu().numpy(), iou_threshold)
        return torch.from_numpy(kept).to(ious.device)

    @staticmethod
    def cc_2d(mask: torch.Tensor, get_counts: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
        labels, areas = masks.connected_components(mask.cpu().numpy())
        return torch.from_numpy(labels).to(mask.device), torch.from_numpy(areas).to(mask.device)


@contextlib.contextmanager
def _mask_kernel() -> Iterator[None]:
    """Lend transformers our NMS and connected components, which it skips without its own kernel."""
    before = modeling.cv_utils_kernel
    modeling.cv_utils_kernel = _MaskKernel
    try:
        yield
    finally:
        modeling.cv_utils_kernel = before
