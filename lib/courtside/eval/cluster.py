"""Jobs on a Ray cluster: a task each, with its GPUs, and results on a folder that all machines see."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from courtside.errors import RunError, SettingError
from courtside.eval.batch import Event, order_of
from courtside.eval.jobs import Job
from courtside.eval.worker import follow, thread_limits

if TYPE_CHECKING:
    import ray

__all__ = ["RayEngine"]

_TICK_S = 0.5


class RayEngine:
    """Runs jobs as tasks of a Ray cluster, each in a process of its own beside its Ray worker.

    ``address`` is the cluster's, as of ``ray.init``; without one Ray starts on this machine, with its GPUs,
    and ends with the batch. A job gets ``gpus`` of one machine (None: 1 where there are any) and its share
    of the cores; ``most`` bounds how many run at once. Videos, weights and run folders must have the same
    paths on all machines. A job whose worker dies is tried once more, on another machine where there is one.

    Raises :class:`SettingError` where Ray is missing or unreachable, or no machine has that many GPUs, and
    :class:`RunError` where it doesn't start.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        most: int | None = None,
        *,
        address: str | None = None,
        gpus: float | None = None,
    ) -> None:
        ray = _ray()
        self._started = not ray.is_initialized()
        if self._started:
            quiet = {"logging_level": "error", "log_to_driver": False}
            own = {} if address else {"include_dashboard": False}
            try:
                ray.init(address=address or "local", **quiet, **own)
            except Exception as error:
                # Ray raises plain Exceptions too, such as when its start takes over 30 s on a busy machine.
                if address is None:
                    raise RunError(
                        f"Ray did not start on this machine ({_said(error)}): try again"
                    ) from error
                raise SettingError(
                    f"there is no Ray cluster at {address} ({_said(error)}): start one by ray start --head,"
                    " or leave --address out"
                ) from error
        machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        most_gpus = max(each.get("GPU", 0) for each in machines)
        self.gpus = (1 if most_gpus else 0) if gpus is None else gpus
        if self.gpus > most_gpus:
            self.close()
            raise SettingError(
                f"--gpus-per-job is {self.gpus:g}, but the machine with most has {most_gpus:g}: ask for fewer"
            )
        cores = sum(each.get("CPU", 0) for each in machines)
        slots = int(sum(each.get("GPU", 0) // self.gpus for each in machines)) if self.gpus else int(cores)
        self.slots = max(1, min(slots, most or slots, len(jobs)))
        # No task may want more cores than every machine has that it could run on.
        fitting = [each.get("CPU", 0) for each in machines if each.get("GPU", 0) >= self.gpus]
        self.cores = max(1, int(min(cores // self.slots, min(each for each in fitting if each))))
        self.about = f"{self.slots} at once on {len(machines)} Ray machine{'s' * (len(machines) != 1)}, "
        self.about += f"{self.gpus:g} GPUs and {self.cores} cores each"

    def run(self, jobs: Sequence[Job], stages: Sequence[str]) -> Iterator[Event | None]:
        """See :meth:`courtside.eval.batch.Engine.run`."""
        ray = _ray()
        waiting, running = list(reversed(jobs)), {}
        machines: dict[str, str] = {}
        again: set[str] = set()
        try:
            while waiting or running:
                while waiting and len(running) < self.slots:
                    job = waiting.pop()
                    running[self._submit(job, stages, machines.get(job.name))] = job
                    yield Event(job, state="running")
                ready, _ = ray.wait(list(running), timeout=_TICK_S, fetch_local=False)
                if not ready:
                    yield None
                for stream in ready:
                    job = running[stream]
                    try:
                        said = ray.get(next(stream))
                    except StopIteration:
                        # Its last word has been heard.
                        del running[stream]
                        continue
                    except ray.exceptions.RayError as error:
                        del running[stream]
                        died = not isinstance(error, ray.exceptions.RayTaskError)
                        if died and job.name not in again:
                            again.add(job.name)
                            waiting.append(job)
                        else:
                            what = "its Ray worker died twice" if died else "its Ray task failed"
                            yield Event(job, state="failed", why=f"{what} ({_said(error)})")
                        continue
                    if "machine" in said:
                        machines[job.name] = said["machine"]
                    else:
                        yield Event(job, **said)
        finally:
            for stream in running:
                ray.cancel(stream)
            if running:
                ray.wait([stream.completed() for stream in running], num_returns=len(running), timeout=60)
            self.close()

    def close(self) -> None:
        """Leave the cluster; one that was started here ends."""
        if self._started:
            _ray().shutdown()

    def _submit(self, job: Job, stages: Sequence[str], avoid: str | None) -> ray.ObjectRefGenerator:
        """A task that yields what the job says; ``avoid`` is the machine on which its worker died."""
        ray = _ray()
        options: dict[str, Any] = {"num_cpus": self.cores, "num_gpus": self.gpus, "max_retries": 0}
        others = [
            node
            for node in ray.nodes()
            if node["Alive"]
            and node["NodeID"] != avoid
            and node["Resources"].get("GPU", 0) >= self.gpus
            and node["Resources"].get("CPU", 0) >= self.cores
        ]
        if avoid is not None and others:
            options["label_selector"] = {"ray.io/node-id": f"!{avoid}"}
        log = job.settings.out.with_name(job.settings.out.name + ".log")
        task = ray.remote(num_returns="streaming")(_work).options(**options)
        return task.remote(order_of(job, stages), log, thread_limits(self.cores))


def _work(order: Mapping[str, Any], log: Path, environment: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """The task: first says on which machine it runs, then what the job says."""
    yield {"machine": _ray().get_runtime_context().get_node_id()}
    yield from follow(order, log, environment)


def _said(error: Exception) -> str:
    """The last line of what Ray says, which has the reason."""
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else type(error).__name__


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise SettingError(
            "--engine ray needs Ray, which is not installed: pip install 'courtside[ray]'"
        ) from error
    return ray
