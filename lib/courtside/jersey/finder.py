"""Where on a torso a number stands, found by a small network: where to read, and which crops are worth it.

The network was trained on rendered torsos (``minicourt.finder``), from which it learns where numbers are and
how they are turned rather than which they are: the reader says that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

__all__ = [
    "ANSWERS",
    "CELL_PX",
    "INPUT_PX",
    "USUAL_PX",
    "WEIGHTS",
    "NumberNet",
    "Place",
    "find_numbers",
    "framed",
    "places",
    "to_pictures",
]

WEIGHTS = Path(__file__).parent / "finder.safetensors"

INPUT_PX, CELL_PX = 112, 4
"""The network sees squares of this side, and answers for cells of this one."""

USUAL_PX = 20.0
"""Heights are told as the logarithm of what they are over this, in pixels of the network's picture."""

ANSWERS = {"here": 1, "height": 1, "width": 1, "tilt": 1, "first": 10, "second": 11}
"""What the network says of a cell: whether a number's middle is here (logit), the logarithms of its height
and of its width over its height, its tilt in radians, and its digits (logits; the second's last is none)."""

_SCALE = 128 / 180  # of the network's picture to a torso, of which it sees the middle
_AT_ONCE = 64
_MOST_KNOWN = 20_000
_LEAST, _MOST = 0.02, 2
_REACH = 3  # cells to each side of a peak that belong to it
_APART = 0.5  # of a number's height: what lies nearer is the same number


@dataclass(frozen=True, slots=True)
class Place:
    """Where a number may stand: the middle ``x``, ``y``, width and height in pixels of the torso, ``tilt`` in
    radians clockwise, and the ``chance`` that a number is there, 0 to 1."""

    x: float
    y: float
    wide: float
    high: float
    tilt: float
    chance: float


class NumberNet(nn.Module):
    """A U-shaped convolutional network of 650,000 weights that gives ``ANSWERS`` for each cell."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(_convolve(3, 24, 5, 2), _convolve(24, 32))
        self.middle = nn.Sequential(_convolve(32, 64, 3, 2), _Residual(64))
        self.deep = nn.Sequential(_convolve(64, 96, 3, 2), _Residual(96), _Residual(96))
        self.up = nn.Conv2d(96, 64, 1)
        self.join = nn.Sequential(_Residual(64), _Residual(64))
        self.out = nn.Conv2d(64, sum(ANSWERS.values()), 1)
        nn.init.constant_(self.out.bias[:1], -3.0)  # most cells are no number's middle

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """From float32 (n, 3, INPUT_PX, INPUT_PX) to (n, cells, cells, 25)."""
        fine = self.middle(self.stem(pictures))
        coarse = self.up(self.deep(fine))
        fine = fine + F.interpolate(coarse, size=fine.shape[-2:], mode="bilinear", align_corners=False)
        return self.out(self.join(fine)).permute(0, 2, 3, 1)


def _convolve(inputs: int, outputs: int, size: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = _convolve(width, width)
        self.second = nn.Sequential(nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return F.relu(pixels + self.second(self.first(pixels)))


def framed(
    image: np.ndarray, off_px: Sequence[float] = (0.0, 0.0), zoom: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """The network's picture of a torso, uint8 (INPUT_PX, INPUT_PX, 3), and the affine map to it, (2, 3).

    It is the middle of the torso, moved by ``off_px`` and scaled by ``zoom`` where a training wants that.
    """
    scale, middle = _SCALE * zoom, np.array(image.shape[1::-1]) / 2
    shift = INPUT_PX / 2 - scale * middle + off_px
    matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    picture = cv2.warpAffine(image, matrix, (INPUT_PX, INPUT_PX), borderMode=cv2.BORDER_REPLICATE)
    return picture, matrix


def to_pictures(pictures: Sequence[np.ndarray]) -> torch.Tensor:
    """The network's input: of each picture its colours' mean is taken off, and their contrast made alike."""
    pixels = np.stack(pictures).astype(np.float32)
    spread = pixels.std(axis=(1, 2, 3), keepdims=True)
    pixels = (pixels - pixels.mean(axis=(1, 2), keepdims=True)) / (spread + 6)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


def places(said: np.ndarray, side: int) -> list[Place]:
    """Up to two places in a torso of ``side`` pixels, the likelier first, from answers (cells, cells, 25)."""
    chances = 1 / (1 + np.exp(-said[..., 0].astype(np.float64)))
    peaks = (chances == cv2.dilate(chances, np.ones((3, 3)))) & (chances >= _LEAST)
    found: list[Place] = []
    rows, columns = np.nonzero(peaks)
    for place in np.argsort(-chances[rows, columns], kind="stable"):
        row, column = int(rows[place]), int(columns[place])
        _, height, width, tilt = (float(value) for value in said[row, column, :4])
        high = USUAL_PX * np.exp(np.clip(height, -2, 2)) / _SCALE
        middle = _middle(chances, row, column)
        x, y = (((cell + 0.5) * CELL_PX - INPUT_PX / 2) / _SCALE + side / 2 for cell in middle)
        if all(max(abs(x - other.x), abs(y - other.y)) > _APART * other.high for other in found):
            wide = high * np.exp(np.clip(width, -2, 1.5))
            found.append(Place(x, y, float(wide), float(high), tilt, float(chances[row, column])))
        if len(found) == _MOST:
            break
    return found


def _middle(chances: np.ndarray, row: int, column: int) -> tuple[float, float]:
    """The column and row around which the chance of a number is high, where it is highest in one cell.

    All cells near a number's middle say it is here, each as surely as the next.
    """
    top, left = max(0, row - _REACH), max(0, column - _REACH)
    weights = chances[top : row + _REACH + 1, left : column + _REACH + 1] ** 4
    down, right = np.indices(weights.shape)
    return left + float((weights * right).sum() / weights.sum()), top + float(
        (weights * down).sum() / weights.sum()
    )


@cache
def _network() -> NumberNet:
    network = NumberNet()
    network.load_state_dict({name: value.float() for name, value in load_file(WEIGHTS).items()})
    network.eval()
    # A trained normalization is a scale and a shift, which a convolution can take up.
    for block in [each for each in network.modules() if isinstance(each, nn.Sequential)]:
        for place, (one, other) in enumerate(pairwise(block)):
            if isinstance(other, nn.BatchNorm2d):
                block[place], block[place + 1] = fuse_conv_bn_eval(one, other), nn.Identity()
    return network.to(memory_format=torch.channels_last)


def find_numbers(images: Sequence[np.ndarray]) -> list[list[Place]]:
    """For each torso, uint8 (SIDE_PX, SIDE_PX, 3) RGB, up to two places where its number may stand.

    The likelier comes first; none is given where the chance is below 2 %. It runs on the CPU, 8 ms a torso.
    Torsos are looked at when they are chosen and again when they are read: the latest answers are kept.
    """
    keys = [hashlib.blake2b(np.ascontiguousarray(image), digest_size=16).digest() for image in images]
    known = _known()
    new = [place for place, key in enumerate(keys) if key not in known]
    found: dict[bytes, list[Place]] = {key: known[key] for key in keys if key in known}
    for first in range(0, len(new), _AT_ONCE):
        some = new[first : first + _AT_ONCE]
        pictures = to_pictures([framed(images[place])[0] for place in some])
        with torch.inference_mode():
            answers = _network()(pictures).numpy()
        found |= {keys[at]: places(said, len(images[at])) for said, at in zip(answers, some, strict=True)}
    if len(known) > _MOST_KNOWN:
        known.clear()
    known |= found
    return [list(found[key]) for key in keys]


@cache
def _known() -> dict[bytes, list[Place]]:
    return {}
