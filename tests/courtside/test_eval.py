"""A labelled set as jobs, and a batch of real processes: what fails, dies, is stopped, or was done before."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from courtside import cli, watch
from courtside.errors import RunError, SettingError
from courtside.eval.batch import LocalEngine, memory_of, order_of, read_records, run_batch
from courtside.eval.jobs import Job, read_set
from courtside.eval.summary import COLUMNS, markdown, summarize, write_summary
from courtside.eval.worker import follow, thread_limits
from courtside.folder import Run
from courtside.settings import Settings
from courtside.video import VideoWriter

WIDTH, HEIGHT, FRAMES = 96, 64, 20
STAGES = ("track", "score")


def _write_clip(folder: Path, frames: int = FRAMES, shade: int = 40) -> Path:
    """A labelled clip of one moving block, with detections of it."""
    for name in ("gt", "det"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    left = [4 + min(frame % 140, 140 - frame % 140) for frame in range(frames)]
    with VideoWriter(folder / "video.mp4", WIDTH, HEIGHT, 25) as writer:
        for x in left:
            image = np.full((HEIGHT, WIDTH, 3), shade, np.uint8)
            image[20:44, x : x + 12] = 220
            writer.write(image)
    for path, row in (("gt/gt.txt", "{},1,{},20,12,24,1,1,1"), ("det/det.txt", "{},-1,{},20,12,24,0.9")):
        (folder / path).write_text("".join(row.format(i + 1, x) + "\n" for i, x in enumerate(left)))
    (folder / "seqinfo.ini").write_text(
        f"[Sequence]\nname={folder.name}\nframeRate=25\nseqLength={frames}\nimWidth={WIDTH}\nimHeight={HEIGHT}\n"
    )
    return folder


def _write_set(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    for name in ("a", "b"):
        _write_clip(folder / name)
    return folder


def test_a_set_is_every_video_with_all_prompts_trackers_and_settings(clips):
    path = _write_set(
        clips / "c.toml",
        'videos = ["[a-c]*", {video = "b/video.mp4", name = "again", prompts = ["dog"]}]\n'
        'prompts = ["player #9", ["player in white", "referee"]]\nmodel = "./weights"\n'
        '[trackers.sam3]\n[trackers.linked]\ntracker = "bytetrack"\ndetections = "det/det.txt"\n'
        "options = {minimum_iou_threshold = 0.3}\n"
        "[settings.default]\n[settings.late]\noptions = {lost_track_buffer = 90}\n",
    )
    jobs = {job.name: job for job in read_set(path, clips / "out")}
    ways = ["sam3", "sam3-late", "linked", "linked-late"]
    assert {name.split("/")[0] for name in jobs} == set(ways)
    assert len([name for name in jobs if name.startswith("sam3/")]) == 2 * 2 + 1
    both = jobs["sam3/player-in-white+referee/a"]
    assert both.settings.prompts == ("player in white", "referee")
    assert both.settings.model == str(clips / "weights")
    assert both.settings.out == clips / "out" / "sam3" / "player-in-white+referee" / "a"
    assert (both.settings.video, both.settings.labels) == (clips / "a" / "video.mp4", clips / "a")
    assert jobs["sam3/dog/again"].settings.labels is None
    linked = jobs["linked-late/b"]
    assert (linked.tracker, linked.settings.tracker, linked.settings.prompts) == (
        "linked-late",
        "bytetrack",
        (),
    )
    assert linked.settings.detections == clips / "b" / "det" / "det.txt"
    assert linked.settings.options == {"minimum_iou_threshold": 0.3, "lost_track_buffer": 90}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("videos = [", "is no TOML file"),
        ("prompts = ['dog']", "names no videos: write such as"),
        ("videos = ['a', {video = 'c/a'}]", "two videos go by the name a: name one of them by a table"),
        ("videos = ['nobody-*']", r"no video is called nobody-\*"),
        ("videos = [{labels = 'a'}]", 'is neither "PATH" nor'),
        ("videos = [{video = 'a', lables = 'a'}]", "there is no setting 'lables'; there are video, name"),
        ("videos = ['a']\n[trackers.sam3]\nmodle = 'x'", r"\[trackers.sam3\]: there is no setting 'modle'"),
        ("videos = ['a']\ntracker = 3\nprompts = 'dog'", "prompts must be a list of texts"),
        ("videos = ['a']\n[trackers.'../x']", "becomes a folder: use letters, digits and - alone"),
        ("videos = ['a']\nthreshold = 1.5", "sam3 on a: the IoU threshold is 1.5"),
        ("videos = ['a']\ntrackers = ['sam3']", r"trackers must be tables, such as \[trackers.NAME\]"),
    ],
)
def test_what_is_wrong_with_a_set_is_said(text, said, clips):
    with pytest.raises(SettingError, match=said):
        read_set(_write_set(clips / "wrong.toml", text), clips / "out")


def test_the_default_set_needs_only_its_clips_and_weights(repository, tmp_path):
    jobs = read_set(repository / "data" / "eval.toml", tmp_path)
    assert {job.tracker for job in jobs} == {"sam3", "sam3-associate", "bytetrack", "botsort"}
    assert {job.settings.model for job in jobs} == {str(repository / "data" / "models" / "sam3-tiny")}
    assert {job.clip.split("-")[0] for job in jobs} == {"easy", "game", "crowd", "reentry", "lookalike"}
    assert all(job.settings.labels == job.settings.video.parent and job.settings.prompts for job in jobs)


def test_only_what_is_missing_failed_or_changed_is_done(clips, tmp_path, capfd):
    _write_clip(tmp_path / "c")
    broken = tmp_path / "c" / "det" / "det.txt"
    kept = broken.read_text()
    broken.write_text("1,-1,nan,20,12,24,0.9\n")
    path = _write_set(
        tmp_path / "set.toml",
        f'videos = ["{clips}/a", "{clips}/b", "c"]\n[trackers.bytetrack]\ndetections = "det/det.txt"\n',
    )
    out = tmp_path / "out"
    jobs = read_set(path, out)

    def done() -> tuple[dict, dict]:
        records = run_batch(jobs, out, partial(LocalEngine, most=2), stages=STAGES)
        status = {job.name: job.settings.out / watch.STATUS for job in jobs}
        return records, {
            name: path.stat().st_mtime_ns if path.exists() else 0 for name, path in status.items()
        }

    records, first = done()
    states = {name: record["state"] for name, record in records.items()}
    assert states == {"bytetrack/a": "done", "bytetrack/b": "done", "bytetrack/c": "failed"}
    assert "det.txt, line 1: column 3 is nan" in records["bytetrack/c"]["why"]
    assert read_records(out) == records
    said = capfd.readouterr().err
    assert "3 of 3 jobs to do, 2 at once with" in said
    assert "failed: bytetrack/c:" in said
    assert "frames: 100%" in said

    broken.write_text(kept)
    _write_clip(tmp_path / "c2", shade=90)
    os.replace(tmp_path / "c2" / "video.mp4", clips / "b" / "video.mp4")
    records, second = done()
    assert {record["state"] for record in records.values()} == {"done"}
    assert [name for name in first if first[name] != second[name]] == ["bytetrack/b", "bytetrack/c"]
    assert "2 of 3 jobs to do" in capfd.readouterr().err
    assert done()[1] == second
    assert not list(out.rglob("*.log"))

    table = summarize(jobs, records)
    assert list(table.columns) == list(COLUMNS)
    assert table["state"].tolist() == ["failed"] * 3
    # The report was not asked for, so nothing passes for finished.
    assert set(table["why"].dropna()) == {"its stage read is pending (track runs anew)"}


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write_clip(tmp_path_factory.mktemp("long") / "clip", 4000)


@pytest.fixture
def job(long_clip: Path, tmp_path: Path) -> Job:
    """One that takes a moment."""
    settings = Settings(long_clip / "video.mp4", tmp_path / "run", tracker="labels", labels=long_clip)
    return Job("labels/clip", "clip", "labels", settings)


def test_a_killed_job_is_a_failure_that_can_be_taken_up(job, tmp_path):
    events = []
    for event in follow(order_of(job, STAGES), tmp_path / "job.log", thread_limits(1)):
        if not events:
            os.kill(int((job.settings.out / watch.LOCK).read_text()), signal.SIGKILL)
        events.append(event)
    assert events[-1] == {
        "state": "failed",
        "why": "the process was killed by SIGKILL, perhaps for lack of memory",
    }
    assert [event["state"] for event in events if "state" in event] == ["failed"]
    assert Run(job.settings.out).status()["track"]["why"] == watch.KILLED
    last = list(follow(order_of(job, STAGES), tmp_path / "job.log", thread_limits(1)))[-1]
    assert last == {"state": "done", "why": None}


@pytest.mark.parametrize(
    ("given", "threads"), [({}, "4"), ({"MKL_NUM_THREADS": "2"}, "2"), ({"OMP_NUM_THREADS": "9"}, "4")]
)
def test_one_limit_of_threads_counts_for_all(given, threads, monkeypatch):
    for name in thread_limits(1):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert set(thread_limits(4).values()) == {threads}


class _InterruptedEngine(LocalEngine):
    """Presses Ctrl-C when the first job is under way."""

    def run(self, jobs, stages):
        for event in super().run(jobs, stages):
            yield event
            if event and event.stage == "track":
                raise KeyboardInterrupt


def test_ctrl_c_keeps_what_there_is_and_leaves_nothing_running(job, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run_batch([job], tmp_path / "out", _InterruptedEngine, stages=STAGES, progress=False)
    assert read_records(tmp_path / "out")["labels/clip"]["why"] == "interrupted"
    assert not watch.is_held(job.settings.out)
    assert Run(job.settings.out).status()["track"]["state"] in ("failed", "done")


def test_a_job_ends_when_its_batch_dies(job, tmp_path, wait_for):
    order = tmp_path / "order.json"
    order.write_text(json.dumps(order_of(job, STAGES)))
    code = (
        "import json, sys, pathlib\nfrom courtside.eval.worker import follow\n"
        "for event in follow(json.load(open(sys.argv[1])), pathlib.Path(sys.argv[2]), {}):\n"
        "    print(event, flush=True)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(order), str(tmp_path / "job.log")], stdout=subprocess.PIPE, text=True
    )
    assert "track" in parent.stdout.readline()
    assert watch.is_held(job.settings.out)
    parent.kill()
    parent.communicate()
    wait_for(lambda: not watch.is_held(job.settings.out), seconds=20)
    assert Run(job.settings.out).status()["track"]["state"] == "failed"


def test_two_batches_in_one_folder_are_one_too_many(tmp_path, clips):
    job = Job("a", "a", "labels", Settings(clips / "a" / "video.mp4", tmp_path / "a", tracker="labels"))
    (tmp_path / watch.LOCK).touch()
    with (
        watch.locked(tmp_path),
        pytest.raises(RunError, match=r"another batch works in .* \(process \d+\): wait for it, or choose"),
    ):
        run_batch([job], tmp_path, LocalEngine, progress=False)


def test_the_command_runs_notebooks_and_ends_with_a_table(clips, tmp_path, capsys):
    path = _write_set(
        tmp_path / "set.toml",
        f'videos = ["{clips}/a"]\nreader = "none"\n[trackers.labels]\nprompts = []\n'
        '[trackers.sam3]\nprompts = ["block"]\nmodel = "./nowhere"\n',
    )
    out = tmp_path / "out"
    assert cli.main(["eval", str(path), "--out", str(out), "--quiet"]) == 1
    said = capsys.readouterr()
    assert "labels/a is" not in said.err
    assert "there is no model folder" in said.err
    assert "sam3/block/a is failed" in said.err
    assert f"summary: {out / 'index.html'}" in said.out
    assert (out / "labels" / "a" / "report.html").is_file()
    page = (out / "index.html").read_text()
    assert '<a href="labels/a/report.html">labels/a</a>' in page
    assert "there is no model folder" in page
    table = pd.read_csv(out / "summary.csv")
    assert table["run"].tolist()[:2] == ["labels/a", "sam3/block/a"]
    assert table["idf1"].tolist()[::2] == [1.0, 1.0]
    assert table["clip"].tolist()[-1] == "all 1"
    assert (table["frames_per_s"][0] > 0, table["state"].tolist()) == (True, ["done", "failed", "done"])

    assert cli.main(["eval", str(path), "--out", str(out), "--list"]) == 0
    rows = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()[2:]]
    assert rows == [["labels/a", "done"], ["sam3/block/a", "to do"]]


def test_the_summary_as_markdown_has_the_combined_rows(tmp_path):
    rows = [dict.fromkeys(COLUMNS) for _ in range(2)]
    rows[0] |= {"run": "a", "clip": "a", "tracker": "t|x", "prompts": "", "state": "done", "idf1": 0.5}
    rows[1] |= {"clip": "all 1", "tracker": "t|x", "prompts": "", "state": "done", "idf1": 0.51234}
    text = markdown(pd.DataFrame(rows, columns=list(COLUMNS)))
    lines = text.splitlines()
    assert len(lines) == 3
    assert lines[2].startswith("| all 1 | t\\|x |")
    assert "| 0.512 |" in lines[2]


def test_jobs_share_cores_and_stay_within_memory(clips, monkeypatch):
    settings = Settings(clips / "a" / "video.mp4", clips / "run", tracker="labels", labels=clips / "a")
    jobs = [Job(str(number), "a", "labels", settings) for number in range(64)]
    assert memory_of(Job("x", "a", "sam3", Settings("v", "o", prompts=["dog"]))) > 6e9
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    engine = LocalEngine(jobs, 64)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert int(engine.environment["OMP_NUM_THREADS"]) * min(engine.slots, cores) <= cores
    assert engine.slots < 64
    assert "memory is free for no more, though 64 were wanted" in engine.about
    assert LocalEngine(jobs[:1], 64).slots == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert thread_limits(8)["OMP_NUM_THREADS"] == "1"


def test_a_summary_without_anything_done_says_so(tmp_path, clips):
    job = Job("x/a", "a", "x", Settings(clips / "a" / "video.mp4", tmp_path / "x" / "a", tracker="labels"))
    table = summarize([job], {})
    assert table["why"].tolist() == ["it was not run yet"]
    page = write_summary(table, tmp_path, "nothing").read_text()
    assert "0 runs of 1 done, 1 not." in page
