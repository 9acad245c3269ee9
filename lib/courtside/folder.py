"""A run folder: where its files lie, and what they say when read back."""

from __future__ import annotations

import contextlib
import json
import platform
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from courtside import watch
from courtside.doctor import versions
from courtside.errors import RunError
from courtside.files import hash_files, read_table
from courtside.settings import Settings, absolute

if TYPE_CHECKING:
    import pandas as pd

    from courtside.labels import Labels
    from courtside.video import Video

__all__ = ["STAGES", "UPSTREAM", "Run", "describe_video", "record"]

STAGES = ("track", "read", "score", "overlay", "report")
"""The stages in order. Each reads what earlier ones left in the run folder."""

UPSTREAM = {
    "track": (),
    "read": ("track",),
    "score": ("track", "read"),
    "overlay": ("track", "read"),
    "report": ("track", "read", "score", "overlay"),
}


class Run:
    """A run folder, read back. Nothing is opened before it is asked for.

    Tables of a stage that is not done raise :class:`RunError`, even where older files still lie there.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = absolute(folder)
        self.detections_path = self.folder / "player_detections.parquet"
        self.journal_path = self.folder / "tracking"
        self.session_path = self.folder / "session"
        self.reads_path = self.folder / "jersey_reads.parquet"
        self.players_path = self.folder / "players.parquet"
        self.scores_path = self.folder / "scores.json"
        self.events_path = self.folder / "events.parquet"
        self.overlay_path = self.folder / "overlay.mp4"
        self.proxy_path = self.folder / "proxy.mp4"
        self.notebook_path = self.folder / "02-track-video.ipynb"
        self.report_path = self.folder / "report.html"
        self.config_path = self.folder / "config.json"
        self.status_path = self.folder / watch.STATUS

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    def status(self) -> dict[str, dict[str, Any]]:
        """Each stage's ``state`` (pending, running, done, failed), ``why``, ``started``, ``finished`` (UTC),
        ``seconds``, ``warnings`` and the ``fingerprint`` of its inputs, by the stage's name."""
        with _readable(self.status_path):
            stages = watch.read_status(self.folder)
            return {name: record(stages.get(name, {})) for name in STAGES}

    def tracked_per_s(self) -> float | None:
        """Frames tracked per second of wall time; None where nothing was tracked yet."""
        track = self.status()["track"]
        frames, seconds = track.get("frames"), track["seconds"]
        return frames / seconds if frames and seconds else None

    def config(self) -> dict[str, Any]:
        """What ``config.json`` holds: settings, tracker, device and why, versions, hashes of the inputs."""
        if not self.config_path.is_file():
            raise RunError(
                f"{self.folder} is not a run folder (it has no config.json): make one by courtside track"
            )
        with _readable(self.config_path):
            return json.loads(self.config_path.read_text())

    def write_config(
        self,
        settings: Settings,
        inputs: Mapping[str, Any],
        tracker: Mapping[str, Any],
        device: Mapping[str, Any],
    ) -> None:
        """Write ``config.json`` of tracks that are made now: from what, by which tracker, on which device."""
        content = {
            "settings": settings.parameters(),
            "inputs": {"video": None, "labels": None, "detections": None, "model": None, **inputs},
            "versions": versions(),
            "platform": platform.platform(),
            "tracker": tracker,
            "device": device,
            "written": watch.now(),
        }
        watch.write_json(self.config_path, content)

    def rewrite_config(self, settings: Settings, inputs: Mapping[str, Any]) -> None:
        """Write ``config.json`` with other settings and ``inputs``; what concerns tracking stays as it is."""
        content = self.config()
        content["inputs"] |= inputs
        watch.write_json(
            self.config_path, content | {"settings": settings.parameters(), "written": watch.now()}
        )

    def session_fingerprint(self) -> str | None:
        """A hash of what a session or a person did to make these tracks; None where neither did."""
        logs = [self.session_path / name for name in ("actions.jsonl", "edits.jsonl")]
        logs = [log for log in logs if log.is_file()]
        return hash_files(logs) if logs else None

    def settings(self) -> Settings:
        """The settings of the last :func:`execute` on this folder, wherever the folder is now."""
        known = {each.name for each in fields(Settings)}
        stored = {name: value for name, value in self.config()["settings"].items() if name in known}
        return Settings(**(stored | {"out": self.folder}))

    def detections(self) -> pd.DataFrame:
        """The table ``PLAYER_DETECTIONS``: a row per tracked player per frame."""
        from courtside import tables

        self.require("track")
        return read_table(self.detections_path, tables.PLAYER_DETECTIONS)

    def reads(self) -> pd.DataFrame:
        """The table ``JERSEY_READS``: a row per crop that a reader looked at."""
        from courtside import tables

        self.require("read")
        return read_table(self.reads_path, tables.JERSEY_READS)

    def players(self) -> pd.DataFrame:
        """The table ``PLAYERS``: a row per player."""
        from courtside import tables

        self.require("read")
        return read_table(self.players_path, tables.PLAYERS)

    def scores(self) -> dict[str, dict] | None:
        """``metrics``, ``per_prompt`` and ``protocol``; None where the run has no labels."""
        self.require("score")
        return json.loads(self.scores_path.read_text()) if self.scores_path.is_file() else None

    def events(self) -> pd.DataFrame | None:
        """The table ``EVENTS``: a row per tracking error; None where the run has no labels."""
        from courtside import tables

        self.require("score")
        return read_table(self.events_path, tables.EVENTS) if self.events_path.is_file() else None

    def video(self) -> Video:
        """The video that was tracked."""
        from courtside.video import Video

        return Video(self.settings().video)

    def labels(self) -> Labels | None:
        """The labels that the run was scored against, checked against the video; None without labels."""
        from courtside.labels import read_labels

        folder = self.settings().labels
        return None if folder is None else read_labels(folder, self.video())

    def require(self, stage: str) -> None:
        """Raise :class:`RunError` unless ``stage`` is done."""
        entry = self.status()[stage]
        if entry["state"] != "done":
            why = f" ({entry['why']})" if entry["why"] else ""
            raise RunError(
                f"the stage {stage} of {self.folder} is {entry['state']}{why}: "
                "run courtside track with the same --out to finish it"
            )


def record(values: Mapping[str, Any]) -> dict[str, Any]:
    """A stage's entry in ``status.json``, with every key there from the start."""
    empty = dict.fromkeys(("why", "started", "finished", "seconds", "pid", "fingerprint"))
    return {"state": "pending", **empty, "warnings": [], "outputs": [], **values}


def describe_video(video: Video, sha256: str) -> dict[str, Any]:
    """What ``config.json`` says of a video: path, what it is, and its hash, which takes long to find."""
    facts = ("name", "width", "height", "frame_count", "duration_s", "fps", "codec", "rotation")
    return {"path": str(video.path), "sha256": sha256} | {name: getattr(video, name) for name in facts}


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turns what makes a JSON file of a run unreadable into a sentence."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"cannot read {path} ({error}): delete that run folder and run courtside track again"
        ) from error
