"""A labelled set, as a TOML file names it: each video with all prompts, trackers and settings, a job each."""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from glob import glob
from pathlib import Path
from typing import Any

from courtside.errors import CourtsideError, SettingError
from courtside.settings import Settings, absolute

__all__ = ["Job", "read_set"]

_LISTS = ("videos", "prompts", "trackers", "settings")
_OWN = ("video", "name", "labels", "roster", "prompts")
_KNOBS = tuple(
    each.name for each in fields(Settings) if each.name not in ("video", "out", "labels", "roster")
)
_VIDEOS = ("video.mp4", "video.mov", "img1")


@dataclass(frozen=True, slots=True)
class Job:
    """One run of a set. ``name`` is the run folder's path below the set's: ``<tracker>/<prompts>/<clip>``."""

    name: str
    clip: str
    tracker: str
    settings: Settings


def read_set(path: str | Path, out: str | Path) -> list[Job]:
    """The jobs of the set in the TOML file ``path``, with their run folders below ``out``.

    The file has ``videos``, a list of folders (``video.mp4``, ``video.mov`` or ``img1`` beside its labels),
    files without labels, or tables with ``video`` and, as they are needed, ``name``, ``labels``, ``roster``
    and ``prompts``. ``prompts`` lists texts, or lists of texts that are asked at once. Each table
    ``[trackers.NAME]`` is a way to track: settings of :class:`Settings`, with ``tracker`` being ``NAME``
    where it isn't given. Tables ``[settings.NAME]`` go over these, one after the other. Settings outside of
    tables hold for all. Paths, and a ``model`` that begins with ``.``, start at the file's folder;
    ``detections`` starts at each video's folder, and a tracker that has it gets no prompts.

    Raises :class:`SettingError`, with the place in the file, for what can't be read or is unknown.
    """
    path, out = Path(path), absolute(out)
    content = _read(path)
    base = absolute(path).parent
    trackers = _tables(path, content, "trackers") or {"sam3": {}}
    variants = _tables(path, content, "settings") or {"default": {}}
    shared = {name: value for name, value in content.items() if name not in _LISTS}
    _check_names(path, "the top", shared, _KNOBS)
    jobs: dict[str, Job] = {}
    for clip in _clips(path, content, base):
        for name, tracker in trackers.items():
            for variant, changes in variants.items():
                chosen = _merged(_merged(shared, tracker), changes)
                chosen.setdefault("tracker", name)
                way = name if variant == "default" else f"{name}-{variant}"
                for prompts in _prompts(path, clip.get("prompts", content.get("prompts", [])), chosen):
                    job = _job(path, base, out, clip, way, chosen, prompts)
                    if jobs.setdefault(job.name, job) != job:
                        raise SettingError(
                            f"{path}: two videos go by the name {job.clip}: name one of them by a table, such"
                            ' as {video = "FOLDER", name = "NAME"}'
                        )
    return list(jobs.values())


def _read(path: Path) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            content = tomllib.load(file)
    except OSError as error:
        raise SettingError(
            f"cannot read the set {path} ({error.strerror}): name a TOML file such as data/eval.toml"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingError(f"{path} is no TOML file ({error}): correct it there") from error
    if not isinstance(content.get("videos"), list) or not content["videos"]:
        raise SettingError(f'{path} names no videos: write such as videos = ["videos/game"]')
    return content


def _tables(path: Path, content: Mapping[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    tables = content.get(kind, {})
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise SettingError(f"{path}: {kind} must be tables, such as [{kind}.NAME]")
    for name, table in tables.items():
        if not re.fullmatch(r"\w[\w.-]*", name):
            raise SettingError(f"{path}: [{kind}.{name}] becomes a folder: use letters, digits and - alone")
        _check_names(path, f"[{kind}.{name}]", table, _KNOBS)
    return tables


def _check_names(path: Path, where: str, table: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for name in table:
        if name not in known:
            raise SettingError(f"{path}, {where}: there is no setting {name!r}; there are {', '.join(known)}")


def _clips(path: Path, content: Mapping[str, Any], base: Path) -> Iterator[dict[str, Any]]:
    """A table a video, with absolute paths and a name."""
    for entry in content["videos"]:
        table = {"video": entry} if isinstance(entry, str) else entry
        if not isinstance(table, dict) or not isinstance(table.get("video"), str):
            raise SettingError(f'{path}: the video {entry!r} is neither "PATH" nor {{video = "PATH"}}')
        _check_names(path, f"the video {table['video']}", table, _OWN)
        named = str(_below(base, table["video"]))
        found = (
            sorted(filter(_may_be_video, glob(named))) if any(sign in named for sign in "*?[") else [named]
        )
        if not found:
            raise SettingError(f"{path}: no video is called {table['video']}: correct it there")
        for video in map(Path, found):
            yield _clip(table, video, base)


def _may_be_video(path: str) -> bool:
    return Path(path).is_dir() or Path(path).suffix.lower() in (".mp4", ".mov")


def _clip(table: Mapping[str, Any], video: Path, base: Path) -> dict[str, Any]:
    clip = dict(table)
    inside = next((video / name for name in _VIDEOS if (video / name).exists()), None)
    # A folder that isn't there yet is one of a labelled video: its run says what is missing.
    folder = inside is not None or not video.suffix
    if folder and "labels" not in table:
        clip["labels"] = str(video)
    clip["video"] = inside or (video / _VIDEOS[0] if folder and not video.exists() else video)
    clip["folder"] = video if folder else video.parent
    clip.setdefault("name", _folder_name(video.name if folder else video.stem))
    for name in ("labels", "roster"):
        if name in clip:
            clip[name] = _below(base, clip[name])
    return clip


def _prompts(path: Path, asked: Any, chosen: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Which prompts are asked at once, run by run."""
    if "prompts" in chosen:
        asked = chosen["prompts"]
    elif "detections" in chosen:
        asked = []
    texts = [[each] if isinstance(each, str) else each for each in asked] if isinstance(asked, list) else [0]
    if not all(isinstance(one, list) and all(isinstance(text, str) for text in one) for one in texts):
        raise SettingError(f"{path}: prompts must be a list of texts, or of lists of texts asked at once")
    return [tuple(one) for one in texts] or [()]


def _job(
    path: Path,
    base: Path,
    out: Path,
    clip: Mapping[str, Any],
    way: str,
    chosen: Mapping[str, Any],
    prompts: tuple[str, ...],
) -> Job:
    parts = [way, "+".join(map(_folder_name, prompts)), clip["name"]]
    name = "/".join(part for part in parts if part)
    knobs: dict[str, Any] = {**chosen, "prompts": prompts}
    if "detections" in chosen:
        knobs["detections"] = _below(clip["folder"], str(chosen["detections"]))
    if str(chosen.get("model", "")).startswith((".", "~", "/")):
        knobs["model"] = str(_below(base, chosen["model"]))
    own = {key: clip[key] for key in ("video", "labels", "roster") if key in clip}
    try:
        return Job(name, clip["name"], way, Settings(**knobs, **own, out=out / name))
    except (CourtsideError, TypeError, ValueError) as error:
        raise SettingError(f"{path}, {way} on {clip['name']}: {error}") from error


def _merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """``second`` over ``first``; the tracker's own options are merged one by one."""
    options = {**first.get("options", {}), **second.get("options", {})}
    return {**first, **second} | ({"options": options} if options else {})


def _below(folder: Path, path: str) -> Path:
    return absolute(folder / Path(path).expanduser())


def _folder_name(text: str) -> str:
    """``text`` as a folder's name; what can't be told apart by it has a hash at its end.

    >>> _folder_name("player in white"), _folder_name("player #9")
    ('player-in-white', 'player-9-7fb157')
    """
    kept = re.sub(r"[^\w.]+", "-", text).strip("-.")
    if kept == text.replace(" ", "-"):
        return kept
    return f"{kept}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"
