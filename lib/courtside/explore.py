"""What text prompts find in single frames, to be seen before anything is followed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from courtside import masks as mask_tools
from courtside.device import Device, choose_device
from courtside.errors import SettingError
from courtside.report.proxy import PROXY_SIDE, fit_size
from courtside.run import Run, Settings, execute
from courtside.sam3 import weights
from courtside.sam3.engine import at_size
from courtside.sam3.network import Embeddings, Network, Prompt, detect_all
from courtside.sam3.tracker import check_texts, encode_texts, prepared
from courtside.settings import DEFAULT_MODEL
from courtside.video import Video

__all__ = ["LEAST_SCORE", "Answer", "PromptExplorer"]

LEAST_SCORE = 0.05
"""What scores less is not kept."""

_FRAMES_KEPT = 2  # the features of one frame of the full model take over 100 MB


@dataclass(frozen=True, eq=False)
class Answer:
    """What ``prompt`` finds in ``frame``, the surest first, duplicates left out.

    ``scores`` float64 [n] in [0, 1], ``boxes`` float64 [n, 4] xyxy in pixels of the frame, and ``masks`` COCO
    run-length strings of masks of ``size``, (width, height). All that scores over :data:`LEAST_SCORE` is
    there, so a threshold only chooses.
    """

    frame: int
    prompt: str
    scores: np.ndarray
    boxes: np.ndarray
    masks: tuple[str, ...]
    size: tuple[int, int]

    def count(self, threshold: float) -> int:
        """How many score at least ``threshold``."""
        return int((self.scores >= threshold).sum())

    def above(self, threshold: float) -> Answer:
        """Those that score at least ``threshold``."""
        kept = self.count(threshold)
        return Answer(
            self.frame, self.prompt, self.scores[:kept], self.boxes[:kept], self.masks[:kept], self.size
        )


class PromptExplorer:
    """Asks one ``Sam3VideoModel`` about frames of ``video``, and remembers its answers.

    The vision features of a frame are computed once for all prompts, a prompt's text features once for all
    frames, and an answer once. ``model`` is a folder, a name on the hub, or what
    :func:`courtside.sam3.load` returned. ``threshold`` is the model's own, from which on it would begin a
    track. Raises what loading the model and opening the video raise.
    """

    def __init__(
        self,
        video: str | Path | Video,
        *,
        model: str | Path | tuple[Any, Any, Device] = DEFAULT_MODEL,
        device: str = "auto",
    ) -> None:
        self.video = video if isinstance(video, Video) else Video(video)
        loaded = model if isinstance(model, tuple) else weights.load(model, choose_device(device))
        self._model, self._processor, self.device = loaded
        self._source = self._model.config._name_or_path if isinstance(model, tuple) else str(model)
        self._network = Network(self._model, self.video.frame_count)
        self.threshold = float(self._model.new_det_thresh)
        self.size = fit_size(self.video.width, self.video.height, PROXY_SIDE)
        self._embeddings: OrderedDict[int, Embeddings] = OrderedDict()
        self._prompts: dict[str, Prompt] = {}
        self._answers: dict[tuple[int, str], Answer] = {}

    def ask(self, frame: int, prompt: str) -> Answer:
        """What ``prompt`` finds in ``frame``.

        Raises :class:`SettingError` for a frame that is not there, and a prompt that is empty or too long.
        """
        if not 0 <= frame < self.video.frame_count:
            raise SettingError(
                f"{self.video.name} has no frame {frame}: its last is {self.video.frame_count - 1}"
            )
        [text] = check_texts([prompt])
        if (frame, text) not in self._answers:
            self._answers[frame, text] = self._ask(frame, text)
        return self._answers[frame, text]

    def known(self, frame: int, prompt: str) -> Answer | None:
        """The answer, where it was asked for before."""
        return self._answers.get((frame, prompt.strip()))

    def sampled(self, count: int = 8) -> list[int]:
        """``count`` frames evenly spread over the video, or as many as it has."""
        count = min(count, self.video.frame_count)
        return [int((place + 0.5) * self.video.frame_count / count) for place in range(count)]

    def strip(self, prompts: Sequence[str], count: int = 8, *, progress: bool = True) -> list[Answer]:
        """What each prompt finds in each of :meth:`sampled` frames, frame by frame."""
        asked = [(frame, prompt) for frame in self.sampled(count) for prompt in prompts]
        return [self.ask(*each) for each in tqdm(asked, "asking", unit="answer", disable=not progress)]

    def table(
        self,
        prompts: Sequence[str],
        count: int = 8,
        threshold: float | None = None,
        *,
        progress: bool = True,
    ) -> pd.DataFrame:
        """The strip in numbers: ``frame``, ``prompt``, how many were ``found``, and their ``mean_score``."""
        threshold = self.threshold if threshold is None else threshold
        rows = []
        for answer in self.strip(prompts, count, progress=progress):
            sure = answer.above(threshold).scores
            rows.append((answer.frame, answer.prompt, len(sure), sure.mean() if len(sure) else np.nan))
        return pd.DataFrame(rows, columns=["frame", "prompt", "found", "mean_score"])

    def settings(self, prompts: Sequence[str], out: str | Path) -> Settings:
        """The settings of a run that follows ``prompts`` through the video with this model."""
        return Settings(
            video=self.video.path,
            out=Path(out),
            prompts=tuple(check_texts(prompts)),
            model=self._source,
            device=str(self.device.device),
        )

    def track(
        self,
        prompts: Sequence[str],
        out: str | Path,
        *,
        stages: Sequence[str] = ("track",),
        progress: bool = True,
    ) -> Run:
        """Follow ``prompts`` through the video: a run in the folder ``out``, or what is left of it to do."""
        return execute(self.settings(prompts, out), stages=stages, progress=progress)

    @torch.inference_mode()
    def _ask(self, frame: int, text: str) -> Answer:
        prompt, embeddings = self._prompt(text), self._embeddings_of(frame)
        # A threshold afterwards gives what it would give before: nobody gives way to one less sure.
        found, _ = detect_all(self._network, embeddings, [prompt], LEAST_SCORE, self._model.det_nms_thresh)
        scores, order = found.scores.float().sort(descending=True, stable=True)
        width, height = self.size
        shown, boxes, rles = [], [], []
        scale = np.array([self.video.width / width, self.video.height / height] * 2)
        for place, logits in enumerate(found.masks[order]):
            mask = at_size(logits, height, width)
            box = mask_tools.mask_to_box(mask)
            if box is not None:
                shown.append(place)
                boxes.append(np.array(box.to_xyxy()) * scale)
                rles.append(mask_tools.encode_rle(mask))
        return Answer(
            frame,
            text,
            scores.cpu().numpy()[shown].astype(np.float64),
            np.array(boxes, np.float64).reshape(-1, 4),
            tuple(rles),
            self.size,
        )

    def _prompt(self, text: str) -> Prompt:
        if text not in self._prompts:
            config = self._model.config.detector_config.text_config
            [encoded] = encode_texts(self._processor.tokenizer, [text], config)
            self._prompts[text] = self._network.prompt(*encoded)
        return self._prompts[text]

    def _embeddings_of(self, frame: int) -> Embeddings:
        if frame not in self._embeddings:
            processor = self._processor.video_processor
            [(_, pixels)] = prepared(self.video, processor, self.device, range(frame, frame + 1))
            self._embeddings[frame] = self._network.embed(pixels)
            if len(self._embeddings) > _FRAMES_KEPT:
                self._embeddings.popitem(last=False)
        self._embeddings.move_to_end(frame)
        return self._embeddings[frame]
