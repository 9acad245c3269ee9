"""transformers' own SAM 3 video loop with our NMS and components: what the engine is compared with."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import Sam3VideoModel, Sam3VideoProcessor
from transformers.models.sam3_video import modeling_sam3_video as modeling

from courtside import masks

__all__ = ["Shown", "follow", "mask_kernel", "session_of"]


@dataclass(frozen=True)
class Shown:
    """One frame as transformers' processor shows it; ids count from 0, masks are bool (N, H, W).

    ``boxes`` float32 (N, 4) are xyxy, the far corner behind the last pixel.
    """

    frame: int
    object_ids: list[int]
    scores: list[float]
    tracker_scores: list[float]
    masks: np.ndarray
    boxes: np.ndarray


class _MaskKernel:
    """What transformers would download as the kernel ``cv-utils``, done by ``courtside.masks``."""

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
def mask_kernel() -> Iterator[None]:
    """Lend transformers our NMS and connected components, which it skips without its own kernel."""
    before = modeling.cv_utils_kernel
    modeling.cv_utils_kernel = _MaskKernel
    try:
        yield
    finally:
        modeling.cv_utils_kernel = before


def session_of(
    model: Sam3VideoModel,
    frames: Mapping[int, torch.Tensor],
    prompts: Sequence[tuple[torch.Tensor, torch.Tensor]],
    height: int,
    width: int,
) -> modeling.Sam3VideoInferenceSession:
    """A session over preprocessed frames by number, with tokenized prompts (ids and mask, int64 [1, T])."""
    session = modeling.Sam3VideoInferenceSession(
        video_height=height,
        video_width=width,
        inference_device=model.device,
        inference_state_device=model.device,
        video_storage_device=model.device,
        dtype=model.dtype,
    )
    for number, (ids, mask) in enumerate(prompts):
        prompt = session.add_prompt(str(number))
        session.prompt_input_ids[prompt] = ids.to(model.device)
        session.prompt_attention_masks[prompt] = mask.to(model.device)
    session.processed_frames = frames
    return session


def follow(
    model: Sam3VideoModel,
    session: modeling.Sam3VideoInferenceSession,
    *,
    start: int | None = None,
    reverse: bool = False,
) -> Iterator[Shown]:
    """Each frame of ``session`` as the loop and its processor give it.

    ``start`` is by default the first frame or, in ``reverse``, behind the last: then it begins before it.
    """
    show = Sam3VideoProcessor.__new__(Sam3VideoProcessor)
    if start is None:
        start = len(session.processed_frames) if reverse else 0
    outputs = model.propagate_in_video_iterator(session, start_frame_idx=start, reverse=reverse)
    while True:
        with mask_kernel():
            output = next(outputs, None)
        if output is None:
            return
        shown = show.postprocess_outputs(session, output)
        numbers = shown["object_ids"].tolist()
        # The loop's last step makes masks give up what they share: some are empty only then.
        whole = [index for index, mask in enumerate(shown["masks"]) if mask.any()]
        yield Shown(
            output.frame_idx,
            [numbers[index] for index in whole],
            [float(shown["scores"][index]) for index in whole],
            [float(output.obj_id_to_tracker_score.get(numbers[index], 0.0)) for index in whole],
            shown["masks"][whole].cpu().numpy(),
            shown["boxes"][whole].cpu().numpy() + np.float32([0, 0, 1, 1]),
        )
