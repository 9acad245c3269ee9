"""The lock and the status file of a run folder: true even after the working process was killed.

Only the standard library is imported here, because the watcher is this file run as a script.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = [
    "KILLED",
    "LOCK",
    "STATUS",
    "HeldError",
    "hold",
    "is_held",
    "locked",
    "now",
    "read_status",
    "write_json",
]

LOCK = ".lock"
STATUS = "status.json"
KILLED = "the process was killed"

_FINISHED = b"finished"


class HeldError(Exception):
    """Another process works on the run folder; the text names it."""


def now() -> str:
    """The time in UTC as ISO 8601 to the second, ``2026-01-31T12:00:00Z``."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def write_json(path: Path, content: object) -> None:
    """Write ``content`` so that ``path`` is whole at every moment; NaN and infinity raise ValueError."""
    part = path.with_name(path.name + ".part")
    try:
        part.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def read_status(folder: Path) -> dict[str, dict]:
    """The stages of the run in ``folder`` by name; empty where there is no run.

    A stage that is marked as running while no process holds the folder is returned as failed.
    """
    try:
        stages = json.loads((folder / STATUS).read_text())["stages"]
    except (FileNotFoundError, NotADirectoryError):
        return {}
    if any(stage["state"] == "running" for stage in stages.values()) and not is_held(folder):
        _fail_running(stages)
    return stages


def is_held(folder: Path) -> bool:
    """Whether a living process is working on the run in ``folder``."""
    try:
        with open(folder / LOCK, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Be the only process that works on the run in ``folder``, watched by a small process of its own.

    When this process dies inside the block, whatever the cause, the watcher sees its pipe close and
    marks the running stages in ``status.json`` as failed. A lock rather than a process id tells who is
    alive, because the system frees it with the process and ids are used again.

    Raises :class:`HeldError` when another process holds the folder.
    """
    with locked(folder):
        _resolve(folder)
        # A session of its own keeps the watcher out of reach of Ctrl-C and of a signal to our group.
        watcher = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, str(folder.absolute())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )
        try:
            yield
        finally:
            # A watcher that was itself killed is no reason to fail a run that went well.
            with contextlib.suppress(BrokenPipeError):
                watcher.communicate(_FINISHED)


@contextlib.contextmanager
def locked(folder: Path, kind: int = fcntl.LOCK_EX, patience_s: float = 0.5) -> Iterator[None]:
    """Hold the lock of ``folder``, which names this process; :class:`HeldError` names another that has it."""
    with open(folder / LOCK, "a+") as file:
        deadline = time.monotonic() + patience_s
        while True:
            try:
                fcntl.flock(file, kind | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                # A reader of the status holds the lock for a moment, so one refusal proves nothing.
                if time.monotonic() > deadline:
                    file.seek(0)
                    raise HeldError(f"process {file.read().strip() or 'unknown'}") from None
                time.sleep(0.02)
        if kind == fcntl.LOCK_EX:
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
        yield


def _resolve(folder: Path) -> None:
    """Write down as failed what a dead process left running; the caller holds the lock."""
    path = folder / STATUS
    if not path.exists():
        return
    status = json.loads(path.read_text())
    if _fail_running(status["stages"]):
        write_json(path, status)


def _fail_running(stages: dict[str, dict]) -> bool:
    running = [stage for stage in stages.values() if stage["state"] == "running"]
    for stage in running:
        stage.update(state="failed", why=KILLED, finished=now())
    return bool(running)


def _watch(folder: Path) -> None:
    if sys.stdin.buffer.read() == _FINISHED:
        return
    # Shared, so that a reader meanwhile doesn't take the watcher for the worker. Held still: another process
    # took over, and it has resolved the status before it started.
    with contextlib.suppress(HeldError), locked(folder, fcntl.LOCK_SH, patience_s=5.0):
        _resolve(folder)


if __name__ == "__main__":
    _watch(Path(sys.argv[1]))
