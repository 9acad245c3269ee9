"""Jobs on a real Ray on this machine: logical GPUs, failures, and a worker that is killed."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import psutil
import pytest

from courtside import watch
from courtside.errors import SettingError
from courtside.eval.batch import read_records, run_batch
from courtside.eval.cluster import RayEngine
from courtside.eval.jobs import Job
from courtside.folder import Run
from courtside.settings import Settings
from courtside.video import VideoWriter

ray = pytest.importorskip("ray", reason="needs Ray (the extra ray, which dev has)")

STAGES = ("track", "score")


@pytest.fixture(scope="module")
def cluster():
    """Ray with two logical GPUs."""
    options = {"address": "local", "include_dashboard": False}
    options |= {"log_to_driver": False, "logging_level": "error"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_worker_register_timeout_seconds", "600")
        for attempt in range(3):
            try:
                ray.init(num_cpus=2, num_gpus=2, object_store_memory=80_000_000, **options)
                break
            except Exception as error:
                ray.shutdown()
                if "timed out during startup" not in str(error):
                    raise
                if attempt == 2:
                    pytest.skip("Ray gives itself 30 s to start, and this machine is too busy for that")
    yield
    # Ray leaves open what it started; collected now, that is no later test's defect.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        ray.shutdown()
        gc.collect()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    (folder / "gt").mkdir()
    rows = []
    with VideoWriter(folder / "video.mp4", 96, 64, 25) as writer:
        for frame in range(2000):
            x = 4 + frame % 60
            image = np.full((64, 96, 3), 40, np.uint8)
            image[20:44, x : x + 12] = 220
            writer.write(image)
            rows.append(f"{frame + 1},1,{x},20,12,24,1,1,1\n")
    (folder / "gt" / "gt.txt").write_text("".join(rows))
    (folder / "seqinfo.ini").write_text(
        "[Sequence]\nname=clip\nframeRate=25\nseqLength=2000\nimWidth=96\nimHeight=64\n"
    )
    return folder


def _job(clip: Path, out: Path, name: str, **changes) -> Job:
    values = {"tracker": "labels", "labels": clip} | changes
    return Job(name, "clip", name, Settings(clip / "video.mp4", out / name, **values))


def test_jobs_run_fail_and_a_killed_worker_is_tried_once_more(cluster, clip, tmp_path):
    jobs = [
        _job(clip, tmp_path, "good"),
        _job(clip, tmp_path, "killed"),
        _job(clip, tmp_path, "broken", tracker="bytetrack", detections=clip / "nowhere.txt"),
    ]
    engine = RayEngine(jobs)
    assert engine.about == "2 at once on 1 Ray machine, 1 GPUs and 1 cores each"
    killed = []

    class Killing:
        about = engine.about

        def run(self, jobs, stages):
            for event in engine.run(jobs, stages):
                yield event
                if event and event.job.name == "killed" and event.stage and not killed:
                    killed.append(_ray_worker_of(jobs[1].settings.out))
                    os.kill(killed[0], signal.SIGKILL)

    records = run_batch(jobs, tmp_path, lambda todo: Killing(), stages=STAGES, progress=False)
    assert len(killed) == 1
    assert {name: record["state"] for name, record in records.items()} == {
        "good": "done",
        "killed": "done",
        "broken": "failed",
    }
    assert "nowhere.txt" in records["broken"]["why"]
    assert Run(jobs[1].settings.out).scores()["metrics"]["idf1"] == 1


def test_ctrl_c_keeps_what_there_is_and_leaves_nothing_running(cluster, clip, tmp_path, wait_for):
    job = _job(clip, tmp_path, "stopped")
    engine = RayEngine([job])

    class Interrupted:
        about = engine.about

        def run(self, jobs, stages):
            for event in engine.run(jobs, stages):
                yield event
                if event and event.stage == "track":
                    raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_batch([job], tmp_path / "out", lambda todo: Interrupted(), stages=STAGES, progress=False)
    assert read_records(tmp_path / "out")["stopped"]["why"] == "interrupted"
    wait_for(lambda: not watch.is_held(job.settings.out), seconds=20)
    assert Run(job.settings.out).status()["track"]["state"] in ("failed", "done")
    records = run_batch([job], tmp_path / "out", RayEngine, stages=STAGES, progress=False)
    assert records["stopped"]["state"] == "done"


def test_a_worker_that_dies_is_tried_again_on_another_machine(cluster, clip, tmp_path, wait_for):
    """A second Ray machine, which is this one under another name, joins the cluster."""
    from ray._common.utils import get_ray_address_file

    # Where Ray remembers the last cluster that was started by hand, such as a developer's own.
    remembered = Path(get_ray_address_file(None))
    before = remembered.read_bytes() if remembered.exists() else None
    head = ray.get_runtime_context().gcs_address
    command = [Path(sys.executable).with_name("ray"), "start", f"--address={head}"]
    command += ["--num-cpus=1", "--num-gpus=1", "--object-store-memory=80000000", "--block"]
    other = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: sum(node["Alive"] for node in ray.nodes()) == 2)
        job = _job(clip, tmp_path, "moved")
        engine = RayEngine([job])
        assert engine.about.startswith("1 at once on 2 Ray machines, 1 GPUs and ")
        machines, done = [], []
        for event in engine.run([job], STAGES):
            if event and event.stage == "track" and not event.frames:
                machines.append(_machine_of(_ray_worker_of(job.settings.out)))
                if len(machines) == 1:
                    os.kill(_ray_worker_of(job.settings.out), signal.SIGKILL)
            done += [event.state] if event and event.state else []
        assert len(set(machines)) == 2
        assert done[-1] == "done"
    finally:
        other.send_signal(signal.SIGINT)
        other.wait(timeout=60)
        remembered.unlink(missing_ok=True)
        if before is not None:
            remembered.write_bytes(before)


def _machine_of(worker: int) -> int:
    """The raylet that a Ray worker belongs to."""
    return psutil.Process(worker).ppid()


def _ray_worker_of(out: Path) -> int:
    """The process of Ray that a job's own process was started by."""
    return psutil.Process(int((out / ".lock").read_text())).ppid()


def test_a_worker_that_dies_twice_is_a_failure(cluster, clip, tmp_path):
    job = _job(clip, tmp_path, "doomed")
    engine = RayEngine([job])
    deaths = 0
    events = []
    for event in engine.run([job], STAGES):
        events.append(event)
        if event and event.stage == "track" and not event.frames:
            deaths += 1
            os.kill(_ray_worker_of(job.settings.out), signal.SIGKILL)
    assert deaths == 2
    last = [event for event in events if event and event.state][-1]
    assert (last.state, last.why.startswith("its Ray worker died twice (")) == ("failed", True)


def test_more_gpus_than_a_machine_has_are_refused(cluster, clip, tmp_path):
    with pytest.raises(SettingError, match=r"--gpus-per-job is 3, but the machine with most has 2: ask"):
        RayEngine([_job(clip, tmp_path, "a")], gpus=3)
