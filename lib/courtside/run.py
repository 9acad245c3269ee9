"""One job on one video: the stages track, read, score, overlay and report over a run folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from courtside import notebook, watch
from courtside.errors import CourtsideError, RunError, SettingError
from courtside.files import (
    hash_code,
    hash_files,
    identify_model,
    naming_disk_full,
    read_note,
    whole,
)
from courtside.folder import STAGES, UPSTREAM, Run, describe_video, record
from courtside.journal import Journal
from courtside.settings import Settings

if TYPE_CHECKING:
    from courtside.labels import Labels
    from courtside.roster import Roster
    from courtside.trackers import Tracker
    from courtside.video import Video

__all__ = ["STAGES", "Run", "Settings", "execute", "is_finished"]

_CODE = {
    "track": ("video.py", "masks.py", "labels/*.py", "trackers.py", "sam3/*.py"),
    "read": (
        "video.py",
        "masks.py",
        "scoring/frames.py",
        "jersey/*",
        "reading.py",
        "players.py",
        "teams.py",
        "roster.py",
    ),
    "score": ("scoring/*.py", "labels/*.py", "masks.py"),
    "overlay": ("report/overlay.py", "report/proxy.py", "report/colors.py"),
    "report": ("report/*.py", "report/template/**/*"),
}
_NO_LABELS = "no labels were given, so nothing was scored"


def execute(
    settings: Settings,
    *,
    stages: Sequence[str] = STAGES,
    again: Collection[str] = (),
    replace: bool = False,
    progress: bool = True,
    listener: Callable[[str, int], None] | None = None,
) -> Run:
    """Bring ``stages`` of the run up to date and return it.

    A finished stage whose inputs (files, settings, code, earlier stages) are unchanged is not run
    again, unless named in ``again``. Where nothing is to be done, nothing is written and no lock is
    taken, so a notebook may call this with ``stages=STAGES[:-1]`` while the report is made from it; then
    finished stages are read as they are, also those of an older Courtside.
    ``replace`` lets another video's run in the folder give way. ``listener`` is told the stage that runs,
    and the number of frames tracked, as both change.

    Raises :class:`RunError` when the folder holds another video's run or another process works on it,
    :class:`DiskFullError`, and whatever error of :mod:`courtside.errors` a stage raises; the stage is
    then failed in ``status.json`` and the files of finished stages stay.
    """
    unknown = [name for name in (*stages, *again) if name not in STAGES]
    if unknown:
        raise SettingError(f"unknown stage {unknown[0]!r}: the stages are {', '.join(STAGES)}")
    todo = tuple(name for name in STAGES if name in stages)
    job = _Job(settings, todo, progress, listener=listener)
    if not again and (job.is_reported_here() or all(job.is_fresh(name) for name in todo)):
        return job.run
    job.check_inputs()
    job.claim_folder(replace)
    try:
        with watch.hold(job.run.folder):
            for leftover in job.run.folder.glob("*.part*"):
                leftover.unlink()
            job.write_config()
            for name in todo:
                job.run_stage(name, again=name in again)
    except watch.HeldError as error:
        raise RunError(
            f"another process works on {job.run.folder} ({error}): wait for it, or choose another --out"
        ) from None
    return job.run


def is_finished(
    settings: Settings,
    stages: Sequence[str] = STAGES,
    known: dict[tuple[str, ...], str] | None = None,
) -> bool:
    """Whether ``stages`` of the run are done and :func:`execute` would find nothing to do.

    ``known`` keeps the hashes of inputs and code, so that of many runs each file is read once. Inputs that
    can't be read make it False: :func:`execute` says what is wrong with them.
    """
    job = _Job(settings, stages, False, known=known)
    try:
        return all(job.is_fresh(name) for name in stages)
    except CourtsideError:
        return False


class _Job:
    """One call of :func:`execute`: the settings, and what was read of the inputs so far."""

    def __init__(
        self,
        settings: Settings,
        todo: Sequence[str],
        progress: bool,
        *,
        known: dict[tuple[str, ...], str] | None = None,
        listener: Callable[[str, int], None] | None = None,
    ) -> None:
        self.settings = settings
        self.todo = todo
        self.progress = progress
        self.run = Run(settings.out)
        self._video: Video | None = None
        self._labels: Labels | None = None
        self._hashes = {} if known is None else known
        self._tell = listener or (lambda stage, frames: None)

    # Inputs

    def video(self) -> Video:
        if self._video is None:
            from courtside.video import Video

            self._video = Video(self.settings.video)
        return self._video

    def labels(self) -> Labels | None:
        if self._labels is None and self.settings.labels is not None:
            from courtside.labels import read_labels

            self._labels = read_labels(self.settings.labels, self.video())
        return self._labels

    def hash(self, name: str) -> str | None:
        """What identifies the input ``name``: SHA-256, or the revision of a model from the hub.

        ``name`` is video, detections, labels, roster, model or reader_model. None where that input isn't used
        or there yet.
        """
        settings = self.settings
        if getattr(settings, name) is None or (name == "model" and not settings.uses_model):
            return None
        key = (name, str(getattr(settings, name)), str(settings.video) if name == "labels" else "")
        if key not in self._hashes:
            if name == "video":
                found = self.video().sha256()
            elif name == "labels":
                found = self.labels().sha256
            elif name in ("detections", "roster"):
                path = getattr(settings, name)
                found = hash_files([path]) if path.is_file() else None
            else:
                found = identify_model(getattr(settings, name))
            if found is None:
                return None
            self._hashes[key] = found
        return self._hashes[key]

    def code(self, stage: str) -> str:
        """A hash of the code that the stage runs."""
        if ("code", stage) not in self._hashes:
            package = Path(__file__).parent
            paths = [path for pattern in _CODE[stage] for path in package.glob(pattern) if path.is_file()]
            paths += [notebook.find()] if stage == "report" else []
            self._hashes["code", stage] = hash_code(paths)
        return self._hashes["code", stage]

    def fingerprint(self, stage: str) -> str:
        """A hash of all that the stage's outputs depend on."""
        settings = self.settings
        status = self.run.status()
        if stage == "track" and (session := self.run.session_fingerprint()) is not None:
            return session
        own: dict[str, Any] = {"code": self.code(stage)}
        if stage == "track":
            own |= {name: self.hash(name) for name in ("video", "detections", "model")}
            own |= {"tracker": settings.tracker, "prompts": settings.prompts, "options": settings.options}
            own |= {"device": settings.device if settings.uses_model else None}
            own |= {"labels": self.hash("labels")} if settings.tracker == "labels" else {}
        elif stage == "read":
            own |= {name: getattr(settings, name) for name in ("reader", "reader_model", "merge")}
            own |= {"roster": self.hash("roster"), "weights": self.hash("reader_model")}
        elif stage == "score":
            own |= {"labels": self.hash("labels"), "match": settings.match, "threshold": settings.threshold}
        own["upstream"] = [status[name]["fingerprint"] for name in UPSTREAM[stage]]
        return hashlib.sha256(json.dumps(own, sort_keys=True, default=str).encode()).hexdigest()

    def is_fresh(self, stage: str) -> bool:
        record = self.run.status()[stage]
        there = all((self.run.folder / name).exists() for name in record["outputs"])
        return record["state"] == "done" and there and record["fingerprint"] == self.fingerprint(stage)

    def is_reported_here(self) -> bool:
        """Whether this is the kernel of the notebook that the run's report is being made from."""
        status = self.run.status()
        done = all(status[name]["state"] == "done" for name in self.todo)
        return done and status["report"]["state"] == "running" and status["report"]["pid"] == os.getppid()

    def check_inputs(self) -> None:
        """Refuse what cannot work before anything is written or an hour is spent on tracking."""
        self.video()
        self.labels()
        if "track" in self.todo:
            self._make_tracker()
        if "read" in self.todo:
            self._roster()

    def _roster(self) -> Roster | None:
        from courtside.roster import read_roster

        return None if self.settings.roster is None else read_roster(self.settings.roster)

    def _make_tracker(self) -> Tracker:
        from courtside.trackers import make_tracker

        settings = self.settings
        return make_tracker(
            settings.tracker,
            detections=settings.detections,
            labels=settings.labels,
            model=settings.model,
            device=settings.device,
            **settings.options,
        )

    # The folder

    def claim_folder(self, replace: bool) -> None:
        """Make the run folder, or refuse it when it holds something else that may not be replaced."""
        folder = self.run.folder
        try:
            if replace and self._holds_another_video() and not watch.is_held(folder):
                shutil.rmtree(folder)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / watch.LOCK).touch()
        except OSError as error:
            raise RunError(f"cannot write in the run folder {folder}: {error.strerror or error}") from error
        if self.run.config_path.exists():
            if self._holds_another_video():
                held = self.run.config()["inputs"]["video"]
                raise RunError(
                    f"{folder} holds the run of another video ({held['path']}, not {self.settings.video}): "
                    "choose another --out, or delete that folder"
                )
            return
        run = self.run
        outputs = (run.detections_path, run.scores_path, run.overlay_path, run.report_path)
        foreign = [path.name for path in outputs if path.exists()]
        if foreign:
            raise RunError(
                f"{folder} has a {foreign[0]} but no config.json, so it is no run: choose another --out"
            )

    def _holds_another_video(self) -> bool:
        there = self.run.config_path.exists()
        return there and self.run.config()["inputs"]["video"]["sha256"] != self.hash("video")

    def write_config(self, tracker: Tracker | None = None) -> None:
        """Write ``config.json``. What concerns tracking stays as it is where tracks are not made anew."""
        settings = self.settings
        inputs: dict[str, Any] = {"video": describe_video(self.video(), self.hash("video")), "labels": None}
        if settings.labels is not None:
            inputs["labels"] = {"path": str(settings.labels), "sha256": self.hash("labels")}
        for name in ("detections", "model"):
            used = getattr(settings, name) is not None and (name != "model" or settings.uses_model)
            key = "sha256" if name == "detections" or Path(settings.model).is_dir() else "revision"
            inputs[name] = {"path": str(getattr(settings, name)), key: self.hash(name)} if used else None
        said = {"name": settings.tracker} | (tracker.settings if tracker else {})
        tracked = "track" not in self.todo or self.is_fresh("track")
        with self._naming_disk_full("config.json"):
            if tracker is None and tracked and self.run.config_path.exists():
                self.run.rewrite_config(settings, {name: inputs[name] for name in ("video", "labels")})
            else:
                self.run.write_config(settings, inputs, said, self._describe_device(tracker))

    def _describe_device(self, tracker: Tracker | None) -> dict[str, Any]:
        """``device``, ``dtype`` and ``reason``: what is planned, and after tracking what was really used."""
        if not self.settings.uses_model:
            reason = "linking given boxes runs on the CPU and needs no model"
            return {"device": "cpu", "dtype": None, "reason": reason}
        if tracker is not None:
            used = tracker.settings
            return {"device": used["device"], "dtype": used["dtype"], "reason": used["device_reason"]}
        from courtside.device import choose_device

        return choose_device(self.settings.device).facts()

    # Stages

    def run_stage(self, name: str, *, again: bool = False) -> None:
        """Run one stage unless it is fresh; ``status.json`` is true before, after, and when it fails."""
        if not again and self.is_fresh(name):
            self._say(f"{name}: done before, nothing changed")
            return
        for needed in UPSTREAM[name]:
            # Tracks are scored, drawn and shown without numbers where nobody asked for these.
            if needed != "read" or "read" in self.todo:
                self.run.require(needed)
        if name == "track" and not again and self._recall_tracks():
            return
        if name == "track" and self.run.session_path.exists():
            raise RunError(
                f"{self.run.folder} holds the tracks of a session, which tracking would replace: finish the"
                " propagation there, or choose another --out"
            )
        self._say(f"{name}: running")
        later = [stage for stage in STAGES if name in UPSTREAM[stage]]
        running = {"state": "running", "started": watch.now(), "pid": os.getpid()}
        self._update(
            {name: record(running)} | {stage: record({"why": f"{name} runs anew"}) for stage in later}
        )
        self._tell(name, 0)
        clock = time.monotonic()
        outcome: dict[str, Any] = {"state": "failed", "why": "interrupted"}
        try:
            with self._naming_disk_full(f"the stage {name}"):
                done = getattr(self, f"_{name}")()
            outcome = {"state": "done", "fingerprint": self.fingerprint(name), **done}
        except Exception as error:
            said = str(error) if isinstance(error, CourtsideError) else f"{type(error).__name__}: {error}"
            outcome = {"state": "failed", "why": said}
            raise
        finally:
            took = {"finished": watch.now(), "seconds": round(time.monotonic() - clock, 3)}
            self._update({name: record(running | took | outcome)})

    def _track(self) -> dict[str, Any]:
        run, settings, video = self.run, self.settings, self.video()
        tracker = self._make_tracker()
        said = list(video.warnings)
        journal = Journal(run.journal_path, video.name, settings.prompts)
        state = journal.take_up(self.fingerprint("track")) if tracker.resumable else None
        if state is None:
            journal.clear()
        followed = 0
        with contextlib.closing(journal), self._hearing_warnings(said), _last_frame_first() as asked_to_stop:
            given = {} if state is None else {"resume": state}
            tracked = tracker.track(video, settings.prompts, progress=self.progress, **given)
            # Closed at once when something goes wrong, so that its progress bar ends before anything is said.
            with contextlib.closing(tracked):
                for frame in tracked:
                    journal.add(frame)
                    followed += 1
                    self._tell("track", frame.frame_number + 1)
                    if tracker.resumable and (asked_to_stop() or journal.is_due()):
                        journal.commit(self.fingerprint("track"), tracked.save)
                    if asked_to_stop():
                        raise KeyboardInterrupt
            # Of a run that was taken up, the frames of this time: what "seconds" were spent on.
            outcome = {"outputs": [run.detections_path.name], "warnings": said, "frames": followed}
            # A model from the hub has a revision only now that it was fetched.
            self.write_config(tracker)
            journal.finish(run.detections_path, {"fingerprint": self.fingerprint("track"), **outcome})
        return outcome

    def _recall_tracks(self) -> bool:
        """Take up a finished table that is just what is asked for, though the status lost sight of it."""
        run = self.run
        if run.status()["track"]["state"] == "done" or not run.detections_path.exists():
            return False
        note = read_note(run.detections_path)
        if not note or note["fingerprint"] != self.fingerprint("track"):
            return False
        Journal(run.journal_path, self.video().name).clear()
        self._update({"track": record({"state": "done", "why": "taken up from an earlier run", **note})})
        return True

    def _read(self) -> dict[str, Any]:
        from courtside.jersey.readers import make_reader
        from courtside.reading import fill_players, read_players

        run, settings = self.run, self.settings
        done = read_players(
            self.video(),
            run.detections(),
            None
            if settings.reader == "none"
            else make_reader(settings.reader, model=settings.reader_model, device=settings.device),
            roster=self._roster(),
            accept_merges=settings.merge == "accept",
            progress=self.progress,
        )
        for path, table in ((run.reads_path, done.reads), (run.players_path, done.players)):
            with whole(path) as part:
                table.to_parquet(part, index=False)
        fill_players(run.detections_path, done.players)
        for warning in done.warnings:
            self._say(f"warning: {warning}")
        return {"outputs": [run.reads_path.name, run.players_path.name], "warnings": done.warnings}

    def _score(self) -> dict[str, Any]:
        from courtside import scoring, tables

        run, settings, labels = self.run, self.settings, self.labels()
        if labels is None:
            # Scores of an earlier run with labels would pass for this one's.
            for path in (run.scores_path, run.events_path):
                path.unlink(missing_ok=True)
            return {"why": _NO_LABELS}
        scores = scoring.score(
            run.detections(),
            labels,
            times_s=self.video().times_s,
            prompts=settings.prompts,
            match=settings.match,
            threshold=settings.threshold,
            players=run.players() if run.status()["read"]["state"] == "done" else None,
        )
        with whole(run.events_path) as part:
            tables.check(scores.events, tables.EVENTS, "the stage score").to_parquet(part, index=False)
        watch.write_json(run.scores_path, scores.to_json())
        outputs = [run.scores_path.name, run.events_path.name]
        return {"outputs": outputs, "warnings": list(labels.notes)}

    def _overlay(self) -> dict[str, Any]:
        from courtside.report.overlay import write_overlay

        run = self.run
        write_overlay(run, progress=self.progress)
        return {"outputs": [run.overlay_path.name, run.proxy_path.name]}

    def _report(self) -> dict[str, Any]:
        from courtside.report.html import write_html

        run = self.run
        notebook.run(notebook.find(), run.notebook_path, self.settings.parameters())
        with whole(run.report_path) as part:
            write_html(run.notebook_path, part)
        return {"outputs": [run.notebook_path.name, run.report_path.name]}

    @contextlib.contextmanager
    def _hearing_warnings(self, said: list[str]) -> Iterator[None]:
        """Adds each warning meant for users to ``said``, and to the terminal at once; others go their way."""
        with warnings.catch_warnings():
            warnings.simplefilter("always", UserWarning)
            show = warnings.showwarning

            def hear(message: Warning | str, category: type[Warning], *where: Any) -> None:
                if not issubclass(category, UserWarning):
                    show(message, category, *where)
                elif str(message) not in said:
                    said.append(str(message))
                    self._say(f"warning: {message}")

            warnings.showwarning = hear
            yield

    def _say(self, text: str) -> None:
        if self.progress:
            print(text, file=sys.stderr)

    def _update(self, records: dict[str, dict]) -> None:
        with self._naming_disk_full(watch.STATUS):
            watch.write_json(self.run.status_path, {"stages": self.run.status() | records})

    def _naming_disk_full(self, what: str) -> contextlib.AbstractContextManager[None]:
        return naming_disk_full(
            f"{what} could not be written to {self.run.folder}; free some space and run the same command "
            "again (finished stages are kept)"
        )


@contextlib.contextmanager
def _last_frame_first() -> Iterator[Callable[[], bool]]:
    """Yields a question: was Ctrl-C pressed? The second time it stops at once, as it does elsewhere."""
    pressed = threading.Event()
    usual = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(usual):
        yield pressed.is_set
        return

    def hear(number: int, frame: FrameType | None) -> None:
        if pressed.is_set():
            usual(number, frame)
        pressed.set()

    signal.signal(signal.SIGINT, hear)
    try:
        yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, usual)
