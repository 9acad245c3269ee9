"""Training the finder of numbers (:mod:`courtside.jersey.finder`) on rendered torsos, each seen once.

Step k uses the same torsos whatever happened before it, so a run that was killed goes on as if nothing had
been. Rendering takes about as long as learning, so other cores render ahead.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from courtside.files import whole
from courtside.jersey.crop import SIDE_PX
from courtside.jersey.finder import (
    ANSWERS,
    CELL_PX,
    INPUT_PX,
    USUAL_PX,
    NumberNet,
    framed,
    places,
    to_pictures,
)
from minicourt.card import forget_after
from minicourt.torsos import RenderedTorso, render_torsos

__all__ = ["FinderTrainer", "draw_targets", "finder_loss", "held_out", "learning_rate"]

STEPS = 5000
SAVE_EVERY, LOG_EVERY = 250, 50
_BATCH, _FILMS = 32, 4
_RATE, _WARMUP, _FLOOR = 2.5e-3, 200, 0.02
_CELLS = INPUT_PX // CELL_PX
_NONE = 10  # the second digit of a number of one
_SMOOTHING = 0.03
_WEIGHTS = {"here": 2.0, "height": 0.5, "width": 0.5, "tilt": 1.0, "first": 0.7, "second": 0.7}
_HIT = 0.5  # of a number's height: what is found within this of its middle is right


def draw_targets(torso: RenderedTorso, matrix: np.ndarray) -> np.ndarray:
    """What the network should say of each cell, float32 (cells, cells, 6): whether the number's middle is
    here (1, or 0, or -1 around it, where it is not asked), the logarithms of height and of width over height,
    the tilt, and the digits. ``matrix`` is the map (2, 3) from the torso to the network's picture.
    """
    targets = np.zeros((_CELLS, _CELLS, 6), np.float32)
    if torso.place is None:
        return targets
    x, y, wide, high, tilt = torso.place
    x, y = matrix @ (x, y, 1)
    scale = matrix[0, 0]
    middles = (np.arange(_CELLS) + 0.5) * CELL_PX
    right, down = np.meshgrid(middles - x, middles - y)
    away = np.maximum(np.abs(right) / (0.16 * wide * scale + 2), np.abs(down) / (0.2 * high * scale + 2))
    targets[away < 2, 0] = -1
    first, second = int(torso.number[0]), int(torso.number[1]) if len(torso.number) > 1 else _NONE
    shape = math.log(high * scale / USUAL_PX), math.log(wide / high), tilt
    targets[away < 1] = (1, *shape, first, second)
    return targets


def finder_loss(said: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The loss of answers (n, cells, cells, 25), and its parts by name.

    Focal loss (Lin et al. 2017, gamma 2) for where numbers are, by their number of cells; in these cells the
    mean error of height, width and tilt, and cross-entropy for the digits.
    """
    here, first, second = said[..., 0], said[..., 4:14], said[..., 14:]
    there = targets[..., 0] == 1
    count = there.sum().clamp(min=1)
    cross = F.binary_cross_entropy_with_logits(here, there.float(), reduction="none")
    focal = cross * (1 - torch.exp(-cross)) ** 2 * torch.where(there, 0.6, 0.4)
    wanted = targets[there]
    errors = (said[there][:, 1:4] - wanted[:, 1:4]).abs().sum(0) / count
    digits = [
        F.cross_entropy(
            logits[there], wanted[:, 4 + place].long(), label_smoothing=_SMOOTHING, reduction="sum"
        )
        for place, logits in enumerate((first, second))
    ]
    values = [focal[targets[..., 0] >= 0].sum() / count, *errors, *(digit / count for digit in digits)]
    parts = dict(zip(ANSWERS, values, strict=True))
    return sum(_WEIGHTS[name] * part for name, part in parts.items()), parts


class _Batches(Dataset):
    """Batch k, rendered by whoever asks for it."""

    def __init__(self, seed: int, start: int, stop: int) -> None:
        self._seed, self._start, self._stop = seed, start, stop

    def __len__(self) -> int:
        return self._stop - self._start

    def __getitem__(self, place: int) -> tuple[torch.Tensor, torch.Tensor]:
        if place >= len(self):
            raise IndexError(place)
        cv2.setNumThreads(1)
        rng = np.random.default_rng([self._seed, 1, self._start + place])
        torsos = [each for _ in range(_BATCH // _FILMS) for each in render_torsos(rng, _FILMS)]
        pictures, targets = zip(*(_varied(rng, torso) for torso in torsos), strict=True)
        return to_pictures(pictures), torch.from_numpy(np.stack(targets))


def _varied(rng: np.random.Generator, torso: RenderedTorso) -> tuple[np.ndarray, np.ndarray]:
    """The network's picture of a torso, a little off and in other colours, and its targets."""
    picture, matrix = framed(torso.image, rng.normal(0, 4, 2), float(np.exp(rng.normal(0, 0.1))))
    picture = picture.astype(np.float32)
    if rng.random() < 0.5:
        picture = picture[..., rng.permutation(3)]
    if rng.random() < 0.2:
        picture = 255 - picture
    if rng.random() < 0.15:
        picture = np.repeat(picture.mean(axis=2, keepdims=True), 3, axis=2)
    picture = (picture / 255) ** np.exp(rng.normal(0, 0.25)) * 255
    if rng.random() < 0.4:
        picture = picture + rng.normal(0, rng.uniform(0, 8), picture.shape)
    return picture, draw_targets(torso, matrix)


def learning_rate(step: int, steps: int) -> float:
    """Linear warm-up, then a cosine down to a fiftieth of the peak.

    >>> [round(learning_rate(step, 10_000), 5) for step in (0, 5_000, 10_000)]
    [1e-05, 0.00128, 5e-05]
    """
    cosine = _FLOOR + (1 - _FLOOR) * 0.5 * (1 + math.cos(math.pi * step / max(1, steps)))
    return _RATE * min(1.0, (step + 1) / _WARMUP) * cosine


class FinderTrainer:
    """Training in ``folder``: ``finder.pt`` is all that is needed to go on, ``finder.jsonl`` the curves."""

    def __init__(self, folder: str | Path, *, steps: int = STEPS, seed: int = 0, device: str = "cpu") -> None:
        self.folder, self.steps, self.seed = Path(folder), steps, seed
        self.device = torch.device(device)
        self.folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(seed)
        self.network = NumberNet().to(self.device, memory_format=torch.channels_last)
        self.average = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=1.0, weight_decay=0.03)
        self.step = 0
        if self._state.is_file():
            state = torch.load(self._state, map_location=self.device, weights_only=True)
            self.network.load_state_dict(state["network"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.average, self.step = state["average"], state["step"]

    @property
    def _state(self) -> Path:
        return self.folder / "finder.pt"

    def train_step(self, pictures: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
        """One step of AdamW, and of the running average of the weights. The loss and its parts by name."""
        self.network.train()
        pictures = pictures.to(self.device, memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type != "mps"):
            said = self.network(pictures)
        loss, parts = finder_loss(said.float(), targets.to(self.device))
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 3.0)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, self.steps)
        self.optimizer.step()
        self.step += 1
        with torch.no_grad():
            for name, value in self.network.state_dict().items():
                if value.is_floating_point():
                    self.average[name].lerp_(value, max(0.003, 1 / (self.step + 1)))
                else:
                    self.average[name].copy_(value)
        return {"loss": loss.item()} | {name: part.item() for name, part in parts.items()}

    def run(self, until: int | None = None) -> None:
        """Train to the end (or to step ``until``), saving every 250 steps."""
        stop = min(self.steps, until or self.steps)
        workers = max(0, min(6, (os.cpu_count() or 1) - 1))
        # A forked process would wait for ever for threads that OpenCV had in this one.
        batches = DataLoader(
            _Batches(self.seed, self.step, stop),
            batch_size=None,
            num_workers=workers,
            multiprocessing_context="spawn" if workers else None,
        )
        curves = self.folder / "finder.jsonl"
        forget_after(curves, self.step)
        logs: list[dict[str, float]] = []
        bar = tqdm(batches, total=stop, initial=self.step, desc="finder", unit="step")
        for pictures, targets in bar:
            logs.append(self.train_step(pictures, targets))
            if self.step % LOG_EVERY == 0:
                means = {name: round(float(np.mean([log[name] for log in logs])), 4) for name in logs[0]}
                with open(curves, "a") as file:
                    file.write(json.dumps({"step": self.step} | means) + "\n")
                bar.set_postfix(loss=means["loss"])
                logs = []
            if self.step % SAVE_EVERY == 0 or self.step == stop:
                self.save()

    def save(self) -> None:
        """Write the state; a kill while writing leaves the previous one."""
        state = {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average,
            "step": self.step,
        }
        with whole(self._state) as part:
            torch.save(state, part)

    def averaged(self) -> NumberNet:
        """The network with the running average of its weights, on the CPU."""
        network = NumberNet()
        network.load_state_dict({name: value.cpu() for name, value in self.average.items()})
        return network.eval().to(memory_format=torch.channels_last)

    def export(self, path: Path) -> None:
        """Write the averaged weights as Courtside reads them, in half precision."""
        weights = self.averaged().state_dict()
        halves = {n: value.half() if value.is_floating_point() else value for n, value in weights.items()}
        with whole(path) as part:
            save_file({name: value.contiguous() for name, value in halves.items()}, part)


def held_out(network: NumberNet, torsos: int = 1000) -> dict[str, float]:
    """How well unseen rendered torsos are understood: the shares of numbers found (with an even chance or
    more, within half their height), of torsos without one where one is seen, and of those found whose digits
    are right, and the mean error of the tilt in degrees.
    """
    found = numbers = alarms = plain = right = 0
    tilts: list[float] = []
    for index in range(torsos):
        [torso] = render_torsos(np.random.default_rng([2, index]))
        with torch.inference_mode():
            said = network(to_pictures([framed(torso.image)[0]]))[0].numpy()
        sure = [place for place in places(said, SIDE_PX) if place.chance >= 0.5]
        if torso.place is None:
            plain += 1
            alarms += bool(sure)
            continue
        numbers += 1
        x, y, _, high, tilt = torso.place
        near = [place for place in sure if math.hypot(place.x - x, place.y - y) <= _HIT * high]
        if near:
            found += 1
            tilts.append(abs(math.degrees(near[0].tilt - tilt)))
            cell = said[np.unravel_index(said[..., 0].argmax(), said.shape[:2])]
            digits = f"{cell[4:14].argmax()}", f"{cell[14:].argmax()}"
            right += torso.number == (digits[0] if digits[1] == f"{_NONE}" else "".join(digits))
    return {
        "found": found / max(1, numbers),
        "false": alarms / max(1, plain),
        "read": right / max(1, found),
        "tilt_degrees": float(np.mean(tilts)) if tilts else float("nan"),
    }
