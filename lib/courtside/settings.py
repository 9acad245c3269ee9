"""Everything that one run depends on."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from courtside.errors import SettingError

__all__ = [
    "DEFAULT_MODEL",
    "READERS",
    "SMOLVLM",
    "Settings",
    "absolute",
    "check_prompts",
    "clip_name",
    "default_folder",
]

DEFAULT_MODEL = "facebook/sam3"

SMOLVLM = "HuggingFaceTB/SmolVLM2-500M-Video-Instruct"
"""The weights of the reader ``smolvlm`` where no others are named."""

READERS = ("rapidocr", "smolvlm")
"""The readers of jersey numbers."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything a run depends on. Paths become absolute; they are not read before the run starts.

    ``tracker`` is one of ``courtside.trackers.TRACKERS``. ``detections`` is a MOTChallenge ``det.txt`` for
    the trackers that link boxes; without it SAM 3 detects what they link. ``labels`` is what
    ``read_labels`` reads, to score against by ``match`` ("box" or "mask") at the IoU ``threshold`` in (0,
    1). ``options`` are the tracker's own settings by name. ``reader`` is one of ``READERS`` or "none" and
    ``reader_model`` the weights of "smolvlm", None with any other; ``roster`` is a CSV file of teams and
    numbers; ``merge`` is "propose" or "accept". Raises :class:`SettingError` for an empty prompt, one given
    twice, or a value out of range.

    >>> Settings(video="a.mp4", out="runs/a", prompts=["referee"]).prompts
    ('referee',)
    """

    video: Path
    out: Path
    tracker: str = "sam3"
    prompts: tuple[str, ...] = ()
    detections: Path | None = None
    model: str = DEFAULT_MODEL
    device: str = "auto"
    labels: Path | None = None
    match: str = "box"
    threshold: float = 0.5
    options: Mapping[str, Any] = field(default_factory=dict)
    reader: str = "rapidocr"
    reader_model: str | None = None
    roster: Path | None = None
    merge: str = "propose"

    def __post_init__(self) -> None:
        def put(name: str, value: object) -> None:
            object.__setattr__(self, name, value)

        for name in ("video", "out", "detections", "labels", "roster"):
            value = getattr(self, name)
            put(name, None if value is None else absolute(value))
        if self.reader != "smolvlm":
            put("reader_model", None)
        elif self.reader_model is None:
            put("reader_model", SMOLVLM)
        for name in ("model", "reader_model"):
            model = getattr(self, name)
            if model is not None:
                put(name, str(absolute(model) if Path(model).expanduser().is_dir() else model))
        put("prompts", check_prompts(self.prompts))
        put("options", dict(self.options))
        if self.match not in ("box", "mask"):
            raise SettingError(f"match is {self.match!r}; it must be box or mask")
        if self.reader not in (*READERS, "none"):
            raise SettingError(f"unknown reader {self.reader!r}: use {', '.join(READERS)} or none")
        if self.merge not in ("propose", "accept"):
            raise SettingError(f"merge is {self.merge!r}; it must be propose or accept")
        if not 0 < self.threshold < 1:
            raise SettingError(f"the IoU threshold is {self.threshold}; it must lie between 0 and 1")

    @property
    def uses_model(self) -> bool:
        """Whether tracking runs SAM 3: to follow, or to find the boxes that are linked."""
        return self.tracker.startswith("sam3") or (self.detections is None and self.tracker != "labels")

    def parameters(self) -> dict[str, Any]:
        """All settings as JSON-safe values; ``Settings(**parameters)`` gives them back."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        values["prompts"] = list(self.prompts)
        return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}


def check_prompts(prompts: Sequence[str]) -> tuple[str, ...]:
    """``prompts`` without the space around them. Raises :class:`SettingError` for a single text in place of a
    list, an empty prompt, or one given twice.

    >>> check_prompts(["player in white", " referee "])
    ('player in white', 'referee')
    """
    if isinstance(prompts, str):
        raise SettingError(f"prompts must be a list of texts, not the single text {prompts!r}")
    texts = tuple(str(prompt).strip() for prompt in prompts)
    if "" in texts:
        raise SettingError('a prompt is empty: say what to follow, such as --prompt "player in white"')
    if len(set(texts)) < len(texts):
        raise SettingError("a prompt is given twice: " + ", ".join(map(repr, texts)))
    return texts


def default_folder(video: str | Path, tracker: str) -> Path:
    """``reports/<video>-<tracker>`` under the current folder; ``video.mp4`` and ``img1`` go by their folder.

    >>> default_folder("clips/game-7.mov", "sam3").as_posix()
    'reports/game-7-sam3'
    >>> default_folder("clips/final/video.mp4", "sam3").as_posix()
    'reports/final-sam3'
    """
    return Path("reports") / f"{clip_name(absolute(video))}-{tracker}"


def clip_name(video: str | Path) -> str:
    """What to call a clip: its file's stem; ``video.mp4`` and ``img1`` go by their folder.

    >>> clip_name("clips/final/video.mp4"), clip_name("clips/game-7.mov"), clip_name("/video.mp4")
    ('final', 'game-7', 'video')
    """
    path = Path(video)
    return (path.parent.name if path.stem in ("video", "img1") else "") or path.stem


def absolute(path: str | Path) -> Path:
    """``path`` from the current folder, ``~`` spelled out; symbolic links keep their names."""
    return Path(os.path.abspath(Path(path).expanduser()))
