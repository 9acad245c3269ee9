"""Readers of numbers: torsos in, a distribution over what is written on each out."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import cv2
import numpy as np

from courtside.errors import ModelError, SettingError
from courtside.settings import READERS, SMOLVLM

if TYPE_CHECKING:
    from courtside.device import Device
    from courtside.jersey.finder import Place

__all__ = ["END", "READERS", "RapidOcr", "Reader", "Reading", "SmolVlm", "make_reader", "read_each"]

END = 10
"""The symbol that ends a number, after the digits 0 to 9."""

_SMOLVLM_KINDS = ("smolvlm", "idefics3")

# What is read around a place too, at each side and above and below, in heights of the place.
_MARGINS = ((0.05, 0.05), (0.1, 0.1), (0.1, 0.0))
_LEAST_STRIPE = 0.01  # of the probability that a 1 stands beside a digit: less is not looked at again
_LEAST_CHANCE = 0.1  # of a place that is read at all: less could say next to nothing
_WINDOW_PX = (64, 48)  # width, height
_BATCH = 64
# Measured on real torsos without the digits of each track's own number, drawn 40 % to their mean. What arms
# and stripes read as, "1", differs most from clip to clip, so it is held to be four times as frequent.
_FOLDS = np.array([0.010, 0.086, 0.020, 0.015, 0.015, 0.016, 0.010, 0.013, 0.008, 0.009])
_FOLDS_OF_TWO = 0.006
_GUESSES = 0.3  # how often a language model names a number where there is none
_ASKED_AT_ONCE = 8
_QUESTION = "What number is on the jersey? Answer with the digits only, or none."


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What a reader makes of one torso.

    ``digits`` is float64 (11, 11): the probability that the first symbol is the row and the second the
    column, each a digit or ``END``. So ``digits[END, END]`` is no number, ``digits[7, END]`` is "7",
    ``digits[0, 0]`` is "00"; the other cells of the row ``END`` are 0. What is missing to 1 is
    :attr:`abstention`: something else, or nothing that can be read. ``problem`` says why a crop could
    not be read; its digits are all 0.
    """

    digits: np.ndarray = field(repr=False)
    problem: str | None = None

    @property
    def abstention(self) -> float:
        """The probability, 0 to 1, left for what is no number."""
        return float(np.clip(1 - self.digits.sum(), 0, 1))

    @property
    def positions(self) -> np.ndarray:
        """Per position the probability of each digit and of END, float64 (2, 11)."""
        return np.stack([self.digits.sum(axis=1), self.digits.sum(axis=0)])

    @property
    def text(self) -> str:
        """The likeliest number, as written; empty where no number is likelier than each."""
        row, column = np.unravel_index(np.argmax(self.digits), self.digits.shape)
        return "".join(str(symbol) for symbol in (row, column) if symbol != END) if self.digits.any() else ""

    @property
    def confidence(self) -> float:
        """The probability of :attr:`text`."""
        return float(self.digits.max())


class Reader(Protocol):
    """What reads numbers. ``name`` is one of ``READERS``; ``settings`` are JSON-safe.

    ``noise`` is float64 (11, 11): what :meth:`read` gives on average for a torso without a legible
    number, so that a voter knows which digits the reader sees in folds and elbows.
    """

    name: str
    noise: np.ndarray

    @property
    def settings(self) -> dict[str, Any]: ...

    def read(self, images: Sequence[np.ndarray]) -> list[Reading]:
        """One reading for each torso, uint8 (SIDE_PX, SIDE_PX, 3) RGB.

        Raises :class:`ModelError` where the reader's weights are not to be had.
        """
        ...


def make_reader(name: str, *, model: str | Path | None = None, device: str = "auto") -> Reader:
    """The reader called ``name``, one of ``READERS``; its weights are loaded when it first reads.

    ``model`` and ``device`` are for ``smolvlm``: a folder or a name on the Hugging Face hub, and a device
    as in :func:`courtside.device.choose_device`. Raises :class:`SettingError` for an unknown name.

    >>> make_reader("rapidocr").settings["windows"]
    3
    """
    if name == "rapidocr":
        return RapidOcr()
    if name == "smolvlm":
        return SmolVlm(model or SMOLVLM, device)
    raise SettingError(f"unknown reader {name!r}: use one of {', '.join(READERS)}")


def read_each(reader: Reader, images: Sequence[np.ndarray]) -> list[Reading]:
    """As ``reader.read``, but a crop that the reader fails on becomes a reading with its ``problem``.

    Weights that can't be loaded still raise :class:`ModelError`: then no crop could be read.
    """
    if not images:
        return []
    try:
        return reader.read(images)
    except ModelError:
        raise
    except Exception as error:
        if len(images) == 1:
            said = (str(error).strip() or type(error).__name__).splitlines()[0]
            return [Reading(np.zeros((11, 11)), problem=said)]
    return [read_each(reader, [image])[0] for image in images]


class RapidOcr:
    """PP-OCR's text recogniser from the package ``rapidocr``, run by ONNX Runtime on windows of each torso.

    Windows of several sizes lie around each place where a number may stand, and are turned upright as it is
    (:func:`courtside.jersey.finder.find_numbers`). The reading of a torso is the chance of a number
    there times the mean over the windows of the probability of each string of at most two digits, summed
    over all of its alignments (CTC's forward algorithm); a second place counts where the first is none.
    Other strings are left to abstention. Where a "1" stands beside a digit, one more window, without any room
    around the place, tells it from a stripe of the jersey.
    """

    name = "rapidocr"

    def __init__(self) -> None:
        self._session: Any = None
        self._columns: list[int] = []

    @property
    def noise(self) -> np.ndarray:
        return _noise(_FOLDS, _FOLDS_OF_TWO)

    @property
    def settings(self) -> dict[str, Any]:
        return {"reader": self.name, "windows": len(_MARGINS)}

    def read(self, images: Sequence[np.ndarray]) -> list[Reading]:
        """See :meth:`Reader.read`."""
        from courtside.jersey.finder import find_numbers

        self._load()
        wanted = [
            (crop, place, chance)
            for crop, places in enumerate(find_numbers(images))
            for place, chance in _first_of(places)
            if chance >= _LEAST_CHANCE
        ]
        around = [_window(images[crop], place, *room) for crop, place, _ in wanted for room in _MARGINS]
        digits = self._strings(around).reshape(-1, len(_MARGINS), 11, 11).mean(axis=1)
        beside = np.flatnonzero(_ones_beside(digits) >= _LEAST_STRIPE)
        tight = [_window(images[wanted[place][0]], wanted[place][1], 0.0, 0.0) for place in beside]
        digits[beside] = _without_stripes(digits[beside], self._strings(tight))
        readings = np.zeros((len(images), 11, 11))
        for (crop, _, chance), said in zip(wanted, digits, strict=True):
            readings[crop] += chance * said
        return [Reading(reading) for reading in readings]

    def _strings(self, windows: Sequence[np.ndarray]) -> np.ndarray:
        """The probability of each string of up to two digits in each window, float64 [n, 11, 11]."""
        read = [
            ctc_digits(self._symbols(np.stack(windows[first : first + _BATCH])))
            for first in range(0, len(windows), _BATCH)
        ]
        return np.concatenate([np.zeros((0, 11, 11)), *read])

    def _symbols(self, batch: np.ndarray) -> np.ndarray:
        """Probabilities of the blank and the ten digits, float64 [n, time, 11]."""
        # The recogniser was trained on OpenCV's channel order, from -1 to 1.
        pixels = np.ascontiguousarray((batch[..., ::-1] / 127.5 - 1).transpose(0, 3, 1, 2), np.float32)
        (given,) = self._session.run(None, {self._session.get_inputs()[0].name: pixels})
        return given[:, :, self._columns].astype(np.float64)

    def _load(self) -> None:
        if self._session is not None:
            return
        model = find_recogniser()
        import onnxruntime

        options = onnxruntime.SessionOptions()
        # 0 takes all cores; ONNX Runtime does not look at this variable itself.
        options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "0").split(",")[0])
        try:
            session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
            characters = session.get_modelmeta().custom_metadata_map["character"].splitlines()
            # CTC's blank comes before the characters.
            self._columns = [0, *(characters.index(digit) + 1 for digit in "0123456789")]
        except Exception as error:
            said = str(error).strip().splitlines()[0][:200]
            raise ModelError(
                f"{model} is no text recogniser ({said}): pip install --force-reinstall rapidocr"
            ) from error
        self._session = session


def find_recogniser() -> Path:
    """The recogniser's file in the installed package; :class:`ModelError` says how to get it."""
    fix = "run make setup, or pip install rapidocr onnxruntime"
    for package in ("rapidocr", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise ModelError(
                f"the reader rapidocr needs the package {package}, which is not installed: {fix}"
            )
    # Importing the package would configure logging and load more than the one file needed.
    folder = Path(importlib.util.find_spec("rapidocr").origin).parent / "models"
    found = sorted(folder.glob("*_rec_*.onnx"))
    if not found:
        raise ModelError(f"the package rapidocr has no recogniser in {folder}: {fix}")
    return found[-1]


def ctc_digits(symbols: np.ndarray) -> np.ndarray:
    """The probability of each string of up to two digits, float64 [n, 11, 11] as in :class:`Reading`.

    ``symbols``, float64 [n, time, 11], are the probabilities of blank and the digits 0 to 9 at each step.
    The forward algorithm of Graves et al. (2006) for all 111 strings at once: a string's probability is
    the sum over its alignments, in which a digit may last several steps and blanks may stand anywhere,
    and must stand between two equal digits.

    >>> sure = np.zeros((1, 3, 11)); sure[0, [0, 1, 2], [3, 0, 3]] = 1
    >>> ctc_digits(sure)[0, 2, 2] == 1, ctc_digits(sure[:, :1])[0, 2, END] == 1
    (np.True_, np.True_)
    """
    count = len(symbols)
    differ = 1 - np.eye(10)
    nothing = np.ones(count)
    one, after_one = np.zeros((count, 10)), np.zeros((count, 10))
    two, after_two = np.zeros((count, 10, 10)), np.zeros((count, 10, 10))
    for step in range(symbols.shape[1]):
        blank, digit = symbols[:, step, 0], symbols[:, step, 1:]
        begin = after_one[:, :, None] + one[:, :, None] * differ
        after_two = (two + after_two) * blank[:, None, None]
        two = (two + begin) * digit[:, None, :]
        after_one = (one + after_one) * blank[:, None]
        one = (one + nothing[:, None]) * digit
        nothing = nothing * blank
    digits = np.zeros((count, 11, 11))
    digits[:, :10, :10] = two + after_two
    digits[:, :10, END] = one + after_one
    digits[:, END, END] = nothing
    return digits


def _noise(one: np.ndarray, two: float) -> np.ndarray:
    """Noise, float64 (11, 11), where single digits come up as in ``one`` [10] and pairs ``two`` in all."""
    share = one / one.sum()
    noise = np.zeros((11, 11))
    noise[:10, END] = one
    noise[:10, :10] = two * (0.5 * np.outer(share, share) + 0.5 / 100)
    return noise


def _ones_beside(digits: np.ndarray) -> np.ndarray:
    """The probability, float64 [n], that a "1" stands beside another digit in readings (n, 11, 11)."""
    return digits[:, 1, :10].sum(axis=1) + digits[:, :10, 1].sum(axis=1) - 2 * digits[:, 1, 1]


def _without_stripes(digits: np.ndarray, tight: np.ndarray) -> np.ndarray:
    """Readings (n, 11, 11) in which a "1" beside a digit counts only if it stands within the place itself.

    A stripe of the jersey or an arm beside a number reads as a "1". What of "12" or "21" is "2" alone to the
    ``tight`` readings, of windows without margins, is given to "2".
    """
    alone = tight[:, :10, END]
    digits = digits.copy()
    for pairs in (digits[:, 1, :10], digits[:, :10, 1]):
        moved = pairs * alone
        moved[:, 1] = 0  # of "11" each half may be the stripe
        pairs -= moved
        digits[:, :10, END] += moved
    return digits


def _first_of(places: Sequence[Place]) -> Iterator[tuple[Place, float]]:
    """Each place with the chance that a number is there and at none of those before it."""
    left = 1.0
    for place in places:
        yield place, left * place.chance
        left *= 1 - place.chance


def _window(image: np.ndarray, place: Place, aside: float, above: float) -> np.ndarray:
    """What stands at ``place``, upright and 48 pixels high, its sides repeated up to the common width.

    ``aside`` at each side and ``above`` and below are added to it, in heights of the place.
    """
    across, tall = _WINDOW_PX
    wide, high = place.wide + 2 * aside * place.high, place.high * (1 + 2 * above)
    width = min(across, max(tall // 2, round(tall * wide / high)))
    cos, sin = np.cos(place.tilt), np.sin(place.tilt)
    turn = np.array([[cos, -sin], [sin, cos]]) * (wide / width, high / tall)
    matrix = np.column_stack([turn, (place.x, place.y) - turn @ ((width - 1) / 2, (tall - 1) / 2)])
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    part = cv2.warpAffine(image, matrix, (width, tall), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    before = (across - width) // 2
    return cv2.copyMakeBorder(part, 0, 0, before, across - width - before, cv2.BORDER_REPLICATE)


class SmolVlm:
    """SmolVLM2, or another vision language model of transformers with its interface, asked for the number.

    Greedy, at most four new tokens, one picture a prompt, not split into tiles. The answer counts only if
    it is one or two digits and nothing else; its probability is the product of its tokens' and of the
    end's, and the rest abstains. ``model`` is a folder or a name on the hub, ``device`` as in
    :func:`courtside.device.choose_device`; both are refused with the same sentences as SAM 3's.
    """

    name = "smolvlm"

    def __init__(self, model: str | Path, device: str = "auto") -> None:
        self._source, self._wanted = str(model), device
        self._loaded: tuple[Any, Any, Device] | None = None

    @property
    def noise(self) -> np.ndarray:
        return _noise(np.full(10, _GUESSES / 20), _GUESSES / 2)

    @property
    def settings(self) -> dict[str, Any]:
        said = {"reader": self.name, "model": self._source, "device": self._wanted}
        return said if self._loaded is None else said | {"device": str(self._loaded[2])}

    def read(self, images: Sequence[np.ndarray]) -> list[Reading]:
        """See :meth:`Reader.read`; eight torsos at a time."""
        if self._loaded is None:
            self._loaded = self._load()
        readings = []
        for first in range(0, len(images), _ASKED_AT_ONCE):
            readings += self._ask(images[first : first + _ASKED_AT_ONCE])
        return readings

    def _ask(self, images: Sequence[np.ndarray]) -> list[Reading]:
        import torch

        model, processor, device = self._loaded
        turn = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": _QUESTION}]}
        prompt = processor.apply_chat_template([turn], add_generation_prompt=True)
        given = processor(
            text=[prompt] * len(images),
            images=[[np.ascontiguousarray(image)] for image in images],
            do_image_splitting=False,
            padding=True,
            padding_side="left",
            return_tensors="pt",
        ).to(device.device, device.dtype)
        with torch.inference_mode():
            told = model.generate(
                **given, max_new_tokens=4, do_sample=False, return_dict_in_generate=True, output_logits=True
            )
        steps = torch.stack(told.logits, dim=1).float().log_softmax(dim=-1)
        tokens = told.sequences[:, given["input_ids"].shape[1] :]
        chances = steps.gather(2, tokens[:, :, None])[:, :, 0].cpu().numpy()
        ends = {*np.atleast_1d(model.generation_config.eos_token_id).tolist()}
        return [
            self._parse(processor.tokenizer, row.tolist(), chance, ends)
            for row, chance in zip(tokens, chances, strict=True)
        ]

    def _parse(self, tokenizer: Any, tokens: list[int], chances: np.ndarray, ends: set[int]) -> Reading:
        digits = np.zeros((11, 11))
        length = next((i for i, token in enumerate(tokens) if token in ends), len(tokens))
        text = tokenizer.decode(tokens[:length], skip_special_tokens=True).strip()
        if re.fullmatch(r"[0-9]{1,2}", text):
            symbols = [*map(int, text), END][:2]
            digits[symbols[0], symbols[1]] = float(np.exp(chances[: length + 1].sum()))
        return Reading(digits)

    def _load(self) -> tuple[Any, Any, Device]:
        from transformers import AutoModelForImageTextToText, AutoProcessor

        from courtside.device import choose_device
        from courtside.hub import locate

        device = choose_device(self._wanted)
        folder = locate(self._source, kinds=_SMOLVLM_KINDS, instead="--reader rapidocr runs without")
        try:
            model = AutoModelForImageTextToText.from_pretrained(
                folder, dtype=device.dtype, use_safetensors=True, local_files_only=True
            )
            processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
            model = model.to(device.device).eval()
        except Exception as error:
            # transformers raises whatever a damaged or foreign folder makes it trip over.
            said = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            raise ModelError(
                f"{folder} can't be loaded as a reader ({said}): get it again, or use --reader rapidocr"
            ) from error
        return model, processor, device
