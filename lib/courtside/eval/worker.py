"""One job in a process of its own, which says on its standard output how far it is.

A process can be killed without taking a batch along, gives all its memory back, and takes its number of
threads from its environment before anything reads that. Both engines run jobs like this.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from courtside.errors import CourtsideError

__all__ = ["INTERRUPTED", "follow", "thread_limits"]

INTERRUPTED = "interrupted"

_POOLS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")
_PATIENCE_S = 60.0
_PAUSE_S = 0.2


def thread_limits(threads: int) -> dict[str, str]:
    """The environment that keeps a job to so many threads, or to less where a lower limit is set already.

    One limit counts for all pools: a second thread that waits for a core of its own costs more than it does.
    """
    given = [os.environ.get(name, "") for name in _POOLS]
    least = min([threads, *(int(value) for value in given if value.isdigit() and int(value))])
    return dict.fromkeys(_POOLS, str(least))


def follow(
    order: Mapping[str, Any],
    log: Path,
    environment: Mapping[str, str],
    *,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[dict[str, Any]]:
    """Run a job; yields ``{"stage", "frames"}`` as it goes on, last ``{"state", "why"}``: done or failed.

    ``order`` has ``settings``, those of :class:`courtside.settings.Settings`, and ``stages``. What the job
    writes to its terminal goes to ``log``. When ``stopped`` says so, and when this generator is closed, the
    job is interrupted as by Ctrl-C, so that it keeps what it has; it ends too when this process dies.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "wb") as said:
        worker = subprocess.Popen(
            [sys.executable, "-m", "courtside.eval.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            env={**os.environ, **environment},
            # Out of reach of the terminal's Ctrl-C, which comes to it once, from here.
            start_new_session=True,
        )
    watching = threading.Thread(target=_interrupt_when, args=(worker, stopped), daemon=True)
    outcome: dict[str, Any] = {}
    try:
        with contextlib.suppress(BrokenPipeError):
            worker.stdin.write(json.dumps(dict(order)).encode() + b"\n")
            worker.stdin.flush()
        watching.start()
        for line in worker.stdout:
            event = json.loads(line)
            if "state" in event:
                outcome = event
            else:
                yield event
        # Its output is closed, so it ends by itself.
        _wait(worker)
    finally:
        _interrupt(worker)
        for pipe in (worker.stdin, worker.stdout):
            pipe.close()
    if worker.returncode != 0 or not outcome:
        why = INTERRUPTED if stopped() else _cause(worker.returncode, log)
        outcome = {"state": "failed", "why": outcome.get("why") or why}
    elif log.stat().st_size == 0:
        log.unlink()
    yield outcome


def _interrupt_when(worker: subprocess.Popen, stopped: Callable[[], bool]) -> None:
    while worker.poll() is None and not stopped():
        time.sleep(_PAUSE_S)
    _interrupt(worker)


def _interrupt(worker: subprocess.Popen) -> None:
    if worker.poll() is None:
        worker.send_signal(signal.SIGINT)
        _wait(worker)


def _wait(worker: subprocess.Popen) -> None:
    """Wait for the end; one that hears nothing, deep in a long computation, is killed after a while."""
    try:
        worker.wait(_PATIENCE_S)
    except subprocess.TimeoutExpired:
        worker.kill()
        worker.wait()


def _cause(code: int, log: Path) -> str:
    """Why a worker ended without a word."""
    if code < 0:
        name = signal.Signals(-code).name
        return f"the process was killed by {name}" + (
            ", perhaps for lack of memory" if name == "SIGKILL" else f"; see {log}"
        )
    lines = log.read_text(errors="replace").strip().splitlines()
    return f"the process ended with exit code {code} ({lines[-1] if lines else 'it said nothing'}); see {log}"


def main() -> int:
    """Do the job that stands on the first line of standard input; 0 where it was done."""
    words = os.fdopen(os.dup(1), "w", buffering=1)
    # Whatever else is printed goes to the log.
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    order = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        outcome = _work(order["settings"], order["stages"], words)
    except KeyboardInterrupt:
        outcome = {"state": "failed", "why": INTERRUPTED}
    print(json.dumps(outcome), file=words)
    return 0 if outcome["state"] == "done" else 1


def _work(settings: Mapping[str, Any], stages: Sequence[str], words: Any) -> dict[str, Any]:
    from courtside.run import Settings, execute

    due = 0.0

    def tell(stage: str, frames: int) -> None:
        nonlocal due
        if not frames or time.monotonic() >= due:
            due = time.monotonic() + _PAUSE_S
            print(json.dumps({"stage": stage, "frames": frames}), file=words)

    try:
        execute(Settings(**settings), stages=stages, replace=True, progress=False, listener=tell)
    except CourtsideError as error:
        return {"state": "failed", "why": " ".join(str(error).split())}
    except Exception as error:
        traceback.print_exc()
        return {"state": "failed", "why": f"{type(error).__name__}: {error}"}
    return {"state": "done", "why": None}


def _end_with_parent() -> None:
    """Ends this process when the other end of standard input is gone, which is when the parent died."""
    # Not sys.stdin, whose lock this thread would still hold when the interpreter ends.
    while os.read(0, 4096):
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
