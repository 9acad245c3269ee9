"""A report to pass on: one HTML file without names and paths and, where asked for, without faces."""

from __future__ import annotations

import ast
import copy
import dataclasses
import re
import tempfile
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pandas as pd
from tqdm import tqdm

from courtside import notebook
from courtside.errors import RunError, SettingError
from courtside.files import whole
from courtside.folder import Run
from courtside.labels import read_detections
from courtside.report import blocks
from courtside.report.blocks import Block
from courtside.report.faces import FacelessVideo, head_regions, link
from courtside.report.html import NOTEBOOK_ONLY, to_html
from courtside.report.page import outside_references
from courtside.report.players import players_section
from courtside.report.proxy import PROXY_SIDE, fit_size, small
from courtside.report.sections import Report
from courtside.roster import read_roster
from courtside.settings import Settings
from courtside.video import Video, VideoWriter

__all__ = ["SharedReport", "share"]

_TITLE = "Shared clip"
_HIDDEN = (
    "Faces are hidden: in every picture and in the video, the head and shoulders of everybody with a track, "
    "a label or a detection, bystanders too, are a few flat blocks, from half a second before they were "
    "found to half a second after. People whom nothing found are not hidden, so look through the video "
    "before you pass this file on."
)
_NAMELESS = (
    "The names of files, folders and teams were removed; prompts and shirt numbers stayed. The video and the "
    "labels that this was made from are as they were."
)


def share(run: Run, path: str | Path, *, hide_faces: bool = False, progress: bool = True) -> Path:
    """Write the report of ``run`` to ``path`` for others to open; returns ``path``.

    The page has the sections of the report's notebook, made anew from the run's tables and its video; the
    run, the video and the labels are only read. Names of files, folders and teams do not occur in it, and
    with ``hide_faces`` no picture shows the head (:func:`~courtside.report.faces.heads_of`) of those found.

    Raises :class:`SettingError` for a ``path`` that is no ``.html`` or would replace an input,
    :class:`RunError` where a stage is missing, nobody was found to hide, or a name would remain.
    """
    path = Path(path)
    if path.suffix.lower() not in (".html", ".htm"):
        raise SettingError(f"--out {path} is no HTML file: name it {path.with_suffix('.html').name}")
    if path.resolve() == run.report_path.resolve():
        raise SettingError(f"--out {path} is the run's own report: choose another name")
    if not path.absolute().parent.is_dir():
        raise SettingError(f"the folder of --out {path} is not there: make it first, or choose another")
    with tempfile.TemporaryDirectory() as folder:
        report = SharedReport(run, Path(folder), hide_faces=hide_faces, progress=progress)
        page = to_html(nbformat.v4.new_notebook(cells=list(_cells(report))))
    outside = outside_references(page)
    if outside:
        raise RunError(
            f"the shared page would load {outside[0][:200]} from elsewhere: report this as a defect"
        )
    # Pictures are long runs of letters in which any short name could occur.
    words = re.sub(r"[A-Za-z0-9+/=]{200,}", "", page)
    for private in report.private:
        if private in words:
            raise RunError(
                f"the shared page would still name {private!r}: a section of the notebook shows it, so take "
                "it out there"
            )
    with whole(path) as part:
        part.write_text(page, encoding="utf-8")
    return path


class SharedReport(Report):
    """A report whose video, names and settings may be passed on. ``folder`` takes the video made for it."""

    def __init__(self, run: Run, folder: Path, *, hide_faces: bool, progress: bool = True) -> None:
        super().__init__(run)
        self.folder, self.hide_faces, self.progress = folder, hide_faces, progress
        self.private = _private(self.config, run.folder)
        self.config = _without_paths(copy.deepcopy(self.config))

    @property
    def title(self) -> str:
        return _TITLE

    @cached_property
    def video(self) -> Video:
        """The video, without heads where they are to be hidden, and without its name."""
        source = self.run.settings().video
        video = FacelessVideo(source, self._heads()) if self.hide_faces else Video(source)
        video.name = "video"
        video.warnings = [self._scrubbed(said) for said in video.warnings]
        return video

    @cached_property
    def proxy(self) -> Video:
        """The small copy that the player shows, made of the frames without heads."""
        if not self.hide_faces:
            return super().proxy
        path, video = self.folder / "proxy.mp4", self.video
        size = fit_size(video.width, video.height, PROXY_SIDE)
        bar = {
            "total": video.frame_count,
            "desc": "hide faces",
            "unit": "frame",
            "disable": not self.progress,
        }
        with VideoWriter(path, *size, video.fps) as writer:
            for frame in tqdm(video.frames(), **bar):
                writer.write(small(frame.image, size))
        return Video(path)

    def headline(self) -> Block:
        said = f"{_HIDDEN} {_NAMELESS}" if self.hide_faces else f"Faces are not hidden. {_NAMELESS}"
        return blocks.stack(super().headline(), blocks.note(said, "info"))

    def _heads(self) -> list[np.ndarray]:
        """The regions to hide in each frame: of tracks, of all labels, and of the boxes of the detector."""
        video = self.run.video()
        size = (video.width, video.height)
        people = [self.detections.rename(columns={"tracking_id": "who"})]
        if self.labels is not None:
            people.append(self.labels.ground_truth.rename(columns={"object_id": "who"}))
        detections = self.run.settings().detections
        if detections is not None:
            people.append(link(read_detections(detections, video)))
        if not any(len(table) for table in people):
            raise RunError(
                f"nobody was found in the run {self.run.folder}, so no face could be hidden: track with "
                "another prompt or other detections, or leave --hide-faces out"
            )
        return head_regions(people, video.times_s, size)

    @cached_property
    def _teams(self) -> dict[str, str]:
        """What each team that a roster names is called here."""
        names = (
            set()
            if self.labels is None or self.labels.roster is None
            else {*self.labels.roster["team"].dropna()}
        )
        roster = self.run.settings().roster
        if roster is not None and roster.is_file():
            names |= {*read_roster(roster).teams}
        return {name: f"team {chr(65 + place)}" for place, name in enumerate(sorted(names)[:26])}

    def players(self) -> Block:
        return players_section(_NamelessRun(self.run.folder, self._teams), self.video)

    def _names(self) -> dict[int, str]:
        if self.labels is None or self.labels.roster is None:
            return {}
        named = {}
        for row in self.labels.roster.itertuples(index=False):
            parts = [self._teams.get(row.team, "a team")] if pd.notna(row.team) else []
            parts += [str(row.jersey_number)] if pd.notna(row.jersey_number) else []
            if parts:
                named[int(row.object_id)] = " ".join(parts)
        return named

    def _said(self) -> list[str]:
        return [self._scrubbed(said) for said in super()._said()]

    def _scrubbed(self, said: str) -> str:
        for private in self.private:
            said = said.replace(private, "the video")
        return said


class _NamelessRun(Run):
    """A run whose players' teams have other names, and that tells of no roster."""

    def __init__(self, folder: Path, teams: Mapping[str, str]) -> None:
        super().__init__(folder)
        self._teams = teams

    def players(self) -> pd.DataFrame:
        players = super().players()
        return players.assign(team=players["team"].replace(self._teams))

    def settings(self) -> Settings:
        return dataclasses.replace(super().settings(), roster=None)


def _cells(report: Report) -> Iterator[nbformat.NotebookNode]:
    """The cells of the report's notebook, those that show a section of ``report`` with what it shows."""
    for cell in nbformat.read(notebook.find(), as_version=4).cells:
        if NOTEBOOK_ONLY in cell.metadata.get("tags", []):
            continue
        if cell.cell_type == "markdown":
            yield nbformat.v4.new_markdown_cell(cell.source)
            continue
        section = _section(cell.source)
        if section is not None:
            block = getattr(report, section)()
            shown = nbformat.v4.new_output("display_data", {"text/html": block._repr_html_()})
            yield nbformat.v4.new_code_cell(outputs=[shown])


def _section(source: str) -> str | None:
    """The name of the section that a cell ends by showing, as in ``report.timeline()``."""
    body = ast.parse(source).body
    match body[-1] if body else None:
        case ast.Expr(ast.Call(ast.Attribute(ast.Name("report"), name), [], [])):
            return name
    return None


def _private(config: dict[str, Any], folder: Path) -> list[str]:
    """What may not occur in the page: the paths of the run, longest first, and the names of its files."""
    paths = {str(folder), str(Path.home())}
    names = {folder.name} if len(folder.name) > 12 else set()
    for value in _texts(config):
        if value.startswith("/"):
            paths |= {value, str(Path(value).parent)}
            # Names such as video.mp4 are in half of all folders; only one of its own says something.
            names |= {Path(value).name} if Path(value).suffix and Path(value).stem not in _USUAL else set()
    return sorted((paths | names) - {"/", "."}, key=len, reverse=True)


_USUAL = {"video", "det", "gt", "game", "clip"}


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)


def _without_paths(value: Any) -> Any:
    """``value`` with each path in it replaced by None."""
    if isinstance(value, dict):
        kept = {name: _without_paths(each) for name, each in value.items()}
        # A name stands beside the path of an input and of a sequence.
        return kept | {"name": None} if "path" in kept else kept
    if isinstance(value, list):
        return [_without_paths(each) for each in value]
    return None if isinstance(value, str) and value.startswith("/") else value
