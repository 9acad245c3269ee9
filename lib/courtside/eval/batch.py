"""A batch of jobs that can be left alone: what is done stays done, what fails says why, the rest goes on."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from tqdm import tqdm

from courtside import watch
from courtside.errors import CourtsideError, RunError
from courtside.eval.jobs import Job
from courtside.eval.worker import INTERRUPTED, follow, thread_limits
from courtside.folder import STAGES, Run
from courtside.run import is_finished
from courtside.settings import absolute

__all__ = ["RECORDS", "Engine", "Event", "LocalEngine", "order_of", "read_records", "run_batch"]

RECORDS = "jobs.json"
"""The file in a batch's folder that says of each job its ``state``, ``why``, and when it ran."""

_JOB_BYTES = 1.5e9
_TICK_S = 0.5


class Event(NamedTuple):
    """What an engine tells of a job: where it is, or with ``state`` (running, done, failed) how it is."""

    job: Job
    stage: str = ""
    frames: int = 0
    state: str = ""
    why: str | None = None


class Engine(Protocol):
    """What runs jobs. ``about`` says in a few words where, and how many at once."""

    about: str

    def run(self, jobs: Sequence[Job], stages: Sequence[str]) -> Iterator[Event | None]:
        """Yield events of all jobs until each had its last; None now and then where there are none.

        Closing the iterator interrupts what runs, so that it keeps what it has.
        """
        ...


def run_batch(
    jobs: Sequence[Job],
    out: str | Path,
    engine: Callable[[Sequence[Job]], Engine],
    *,
    stages: Sequence[str] = STAGES,
    progress: bool = True,
) -> dict[str, dict[str, Any]]:
    """Do the jobs that are missing, failed before, or changed; returns the records of all by name.

    A job whose stages are all done, of the same inputs, weights, settings and code, is left as it is.
    ``engine`` makes what runs the others, and is asked only where there are any. The records are kept in
    ``RECORDS`` in the folder ``out``. Ctrl-C interrupts what runs, and comes through; the next call goes on
    from there. Raises :class:`RunError` where another batch works in ``out``, and what ``engine`` raises.
    """
    out = absolute(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / watch.LOCK).touch()
    except OSError as error:
        raise RunError(f"cannot write in the folder {out}: {error.strerror or error}") from error
    try:
        with watch.locked(out):
            return _run(jobs, out, engine, stages, progress)
    except watch.HeldError as error:
        raise RunError(
            f"another batch works in {out} ({error}): wait for it, or choose another --out"
        ) from None


def read_records(out: str | Path) -> dict[str, dict[str, Any]]:
    """The records of a batch by job; one that was left running by a batch that died was interrupted."""
    path = Path(out) / RECORDS
    try:
        records = json.loads(path.read_text())["jobs"]
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"cannot read {path} ({error}): delete it, finished runs stay") from error
    if not watch.is_held(Path(out)):
        _stop(records)
    return records


def order_of(job: Job, stages: Sequence[str]) -> dict[str, Any]:
    """What a worker is told of a job."""
    return {"settings": job.settings.parameters(), "stages": list(stages)}


def _run(
    jobs: Sequence[Job],
    out: Path,
    make_engine: Callable[[Sequence[Job]], Engine],
    stages: Sequence[str],
    progress: bool,
) -> dict[str, dict[str, Any]]:
    known: dict[tuple[str, ...], str] = {}
    checked = tqdm(jobs, desc="looking what is done", unit="job", disable=not progress, leave=False)
    todo = [job for job in checked if not is_finished(job.settings, stages, known)]
    before = read_records(out)
    names = {job.name for job in todo}
    records = {
        job.name: _record("pending") if job.name in names else before.get(job.name, _record("done"))
        for job in jobs
    }
    for name, record in records.items():
        if name not in names:
            record |= {"state": "done", "why": None}
    with _Board(out, records, todo, progress) as board:
        if not todo:
            return records
        engine = make_engine(todo)
        board.say(f"{len(todo)} of {len(jobs)} jobs to do, {engine.about}")
        with contextlib.closing(engine.run(todo, stages)) as events:
            try:
                for event in events:
                    board.hear(_checked(event, stages))
            except KeyboardInterrupt:
                board.say("interrupting what runs, so that it keeps what it has")
                raise
    return records


def _record(state: str, **values: Any) -> dict[str, Any]:
    return {"state": state, "why": None, "started": None, "finished": None} | values


def _stop(records: dict[str, dict[str, Any]]) -> None:
    """What nobody works on any more doesn't run."""
    for record in records.values():
        if record["state"] == "running":
            record |= {"state": "failed", "why": INTERRUPTED}
        elif record["state"] == "pending":
            record["why"] = "the batch was interrupted before it"


def _checked(event: Event | None, stages: Sequence[str]) -> Event | None:
    """A job is done when its run folder says so, whoever else does."""
    if event is None or event.state != "done":
        return event
    try:
        status = Run(event.job.settings.out).status()
    except CourtsideError as error:
        return event._replace(state="failed", why=str(error))
    left = [stage for stage in stages if status[stage]["state"] != "done"]
    if not left:
        return event
    return event._replace(state="failed", why=f"its stage {left[0]} is {status[left[0]]['state']}")


class _Board:
    """The records on disk, and two bars: jobs that are over, and frames that are tracked."""

    def __init__(self, out: Path, records: dict, todo: Sequence[Job], progress: bool) -> None:
        self.out, self.records = out, records
        self._frames = _count_frames(todo)
        self._tracked = dict.fromkeys(self._frames, 0)
        shown = progress and bool(todo)
        # In a file, where a bar can't be drawn over, a line a minute is enough.
        self._live = sys.stderr.isatty()
        often = {"smoothing": 0, "disable": not shown, "mininterval": 0.1 if self._live else 60}
        self._jobs_bar = tqdm(total=len(todo), desc="jobs", unit="job", **often)
        self._frames_bar = tqdm(total=sum(self._frames.values()), desc="frames", unit="frame", **often)
        self._failed = 0

    def __enter__(self) -> _Board:
        self._keep()
        return self

    def __exit__(self, *_: object) -> None:
        _stop(self.records)
        self._keep()
        self._frames_bar.close()
        self._jobs_bar.close()

    def say(self, text: str) -> None:
        if not self._jobs_bar.disable:
            tqdm.write(text, file=self._jobs_bar.fp)

    def hear(self, event: Event | None) -> None:
        if event is None:
            if self._live:
                self._jobs_bar.refresh()
            return
        name = event.job.name
        record = self.records[name]
        if event.state == "running":
            record |= _record("running", started=watch.now())
        elif event.state:
            record |= {"state": event.state, "why": event.why, "finished": watch.now()}
            self._failed += event.state == "failed"
            self._jobs_bar.update()
            self._jobs_bar.set_postfix_str(f"{self._failed} failed" if self._failed else "", refresh=False)
            if event.state == "failed":
                self.say(f"failed: {name}: {event.why}")
        if event.state:
            self._keep()
        else:
            self._frames_bar.set_postfix_str(f"{name}: {event.stage}", refresh=False)
        over = event.state in ("done", "failed")
        seen = self._frames[name] if over else max(event.frames, self._tracked[name])
        self._frames_bar.update(seen - self._tracked[name])
        self._tracked[name] = seen

    def _keep(self) -> None:
        watch.write_json(self.out / RECORDS, {"jobs": self.records})


def _count_frames(jobs: Sequence[Job]) -> dict[str, int]:
    """The length of each job's video; 0 where it can't be read, which its run will say."""
    from courtside.video import Video

    lengths: dict[Path, int] = {}
    for path in {job.settings.video for job in jobs}:
        try:
            lengths[path] = Video(path).frame_count
        except CourtsideError:
            lengths[path] = 0
    return {job.name: lengths[job.settings.video] for job in jobs}


class LocalEngine:
    """Runs jobs in processes on this machine: one a GPU where jobs use one, else as many as memory allows.

    ``most`` bounds how many run at once (None: as many as there are cores). Cores are shared out among
    them, so that they don't fight.
    """

    def __init__(self, jobs: Sequence[Job], most: int | None = None) -> None:
        import torch

        from courtside.device import free_memory

        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self._gpus = _gpus(jobs)
        room = max(1, int(free_memory(torch.device("cpu")) // max(map(memory_of, jobs), default=_JOB_BYTES)))
        wanted = most or (len(self._gpus) if self._gpus else cores)
        self.slots = max(1, min(wanted, room, len(jobs)))
        self.environment = thread_limits(max(1, cores // self.slots))
        threads = self.environment["OMP_NUM_THREADS"]
        self.about = f"{self.slots} at once with {threads} thread{'s' * (threads != '1')} each"
        if room < min(wanted, len(jobs)):
            self.about += f": memory is free for no more, though {wanted} were wanted"

    def run(self, jobs: Sequence[Job], stages: Sequence[str]) -> Iterator[Event | None]:
        heard: queue.SimpleQueue[Event] = queue.SimpleQueue()
        waiting, running = list(reversed(jobs)), {}
        free = list(range(self.slots))
        stop = threading.Event()

        def work(job: Job, slot: int) -> None:
            environment = self.environment | self._gpu(slot)
            log = job.settings.out.with_name(job.settings.out.name + ".log")
            try:
                for said in follow(order_of(job, stages), log, environment, stopped=stop.is_set):
                    heard.put(Event(job, **said))
            except Exception as error:
                heard.put(Event(job, state="failed", why=f"{type(error).__name__}: {error}"))

        try:
            while waiting or running:
                while waiting and free:
                    job, slot = waiting.pop(), free.pop()
                    thread = threading.Thread(target=work, args=(job, slot), daemon=True)
                    running[job.name] = thread, slot
                    yield Event(job, state="running")
                    thread.start()
                try:
                    event = heard.get(timeout=_TICK_S)
                except queue.Empty:
                    yield None
                    continue
                if event.state:
                    thread, slot = running.pop(event.job.name)
                    thread.join()
                    free.append(slot)
                yield event
        finally:
            stop.set()
            for thread, _ in running.values():
                if thread.ident is not None:
                    thread.join()

    def _gpu(self, slot: int) -> dict[str, str]:
        return {"CUDA_VISIBLE_DEVICES": self._gpus[slot % len(self._gpus)]} if self._gpus else {}


def memory_of(job: Job) -> float:
    """A guess at the bytes a job takes: twice its weights over what every process takes."""
    folder = Path(job.settings.model)
    weights = folder.glob("*.safetensors") if folder.is_dir() else ()
    size = sum(path.stat().st_size for path in weights)
    if not folder.is_dir():
        size = 3.4e9  # SAM 3 as it comes from the hub
    return _JOB_BYTES + (2 * size if job.settings.uses_model else 0)


def _gpus(jobs: Sequence[Job]) -> list[str]:
    """The CUDA GPUs to be shared out, where jobs leave it open which device they use."""
    if not any(job.settings.uses_model and job.settings.device in ("auto", "cuda") for job in jobs):
        return []
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    count = torch.cuda.device_count()
    return visible.split(",")[:count] if visible else [str(number) for number in range(count)]
