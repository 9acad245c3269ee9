"""Runs on small real files: what is done again and what isn't, and a status that is always true."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest

from courtside import files, run, tables, watch
from courtside.errors import CourtsideError, DiskFullError, LabelsError, RunError, SettingError, TableError
from courtside.run import STAGES, Run, Settings, execute
from courtside.settings import SMOLVLM
from courtside.types import BoundingBox, Detection, FrameDetections
from courtside.video import VideoWriter

WIDTH, HEIGHT, FRAMES = 96, 64, 20
BEFORE_REPORT = STAGES[:-1]
ANOTHER_PROCESS = -1


def _left(frame: int) -> int:
    """Where the block is: to the right by a pixel a frame, and back again."""
    return 4 + min(frame % 140, 140 - frame % 140)


def _write_video(path: Path, frames: int = FRAMES, shade: int = 40) -> None:
    with VideoWriter(path, WIDTH, HEIGHT, 25) as writer:
        for frame in range(frames):
            image = np.full((HEIGHT, WIDTH, 3), shade, np.uint8)
            image[20:44, _left(frame) : _left(frame) + 12] = 220
            writer.write(image)


def _write_clip(folder: Path, frames: int = FRAMES, shade: int = 40) -> Path:
    """A clip of one moving block, with its labels and detections, laid out as a folder of labels."""
    for name in ("gt", "det"):
        (folder / name).mkdir(parents=True)
    _write_video(folder / "video.mp4", frames, shade)
    boxes = [(frame + 1, _left(frame), 20, 12, 24) for frame in range(frames)]
    gt = [f"{frame},1,{x},{y},{w},{h},1,1,1" for frame, x, y, w, h in boxes]
    det = [f"{frame},-1,{x},{y},{w},{h},0.9,-1,-1,-1" for frame, x, y, w, h in boxes]
    (folder / "gt" / "gt.txt").write_text("\n".join(gt) + "\n")
    (folder / "det" / "det.txt").write_text("\n".join(det) + "\n")
    info = {"name": "clip", "imDir": "img1", "frameRate": 25, "seqLength": frames, "imExt": ".jpg"}
    info |= {"imWidth": WIDTH, "imHeight": HEIGHT}
    lines = ["[Sequence]", *(f"{key}={value}" for key, value in info.items())]
    (folder / "seqinfo.ini").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a clip and a finished run of it, to be copied."""
    folder = tmp_path_factory.mktemp("prepared")
    _run(_settings(_write_clip(folder / "clip"), folder / "run"))
    return folder


@pytest.fixture
def clip(tmp_path: Path, prepared: Path) -> Path:
    return shutil.copytree(prepared / "clip", tmp_path / "clip")


@pytest.fixture
def finished(tmp_path: Path, prepared: Path, clip: Path) -> Settings:
    """The settings of a finished run, in a folder of its own, as if another process had made it."""
    shutil.copytree(prepared / "run", tmp_path / "run")
    status = tmp_path / "run" / watch.STATUS
    content = json.loads(status.read_text())
    for stage in content["stages"].values():
        stage["pid"] = ANOTHER_PROCESS
    status.write_text(json.dumps(content))
    return _settings(clip, tmp_path / "run")


def _settings(clip: Path, out: Path, **changes) -> Settings:
    values = {
        "video": clip / "video.mp4",
        "out": out,
        "tracker": "bytetrack",
        "detections": clip / "det" / "det.txt",
        "labels": clip,
    }
    return Settings(**(values | changes))


def _run(settings: Settings, **options) -> Run:
    return execute(settings, stages=BEFORE_REPORT, progress=False, **options)


def _states(folder: Path) -> dict[str, str]:
    """The states as the file has them, unresolved."""
    stages = json.loads((folder / "status.json").read_text())["stages"]
    return {name: record["state"] for name, record in stages.items()}


def _remains(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if ".part" in path.name]


def test_a_run_leaves_whole_files_and_a_true_status(clip, tmp_path):
    done = _run(_settings(clip, tmp_path / "run"))
    assert _states(done.folder) == dict.fromkeys(BEFORE_REPORT, "done") | {"report": "pending"}
    names = {path.name for path in done.folder.iterdir()} - {watch.LOCK}
    tables_written = {"player_detections.parquet", "jersey_reads.parquet", "players.parquet"}
    tables_written |= {"scores.json", "events.parquet"}
    assert names == tables_written | {"overlay.mp4", "proxy.mp4", "config.json", "status.json"}
    for record in (done.status()[name] for name in BEFORE_REPORT):
        assert record["started"] <= record["finished"]
        assert record["seconds"] > 0
        assert len(record["fingerprint"]) == 64


def test_a_run_of_an_older_courtside_is_reported_as_it_is(finished):
    path = finished.out / "status.json"
    status = json.loads(path.read_text())
    status["stages"]["track"]["fingerprint"] = "0" * 64
    path.write_text(json.dumps(status))
    tracks = (finished.out / "player_detections.parquet").stat().st_mtime_ns
    done = execute(finished, stages=("report",), progress=False)
    assert _states(done.folder)["report"] == "done"
    assert done.report_path.exists()
    assert (finished.out / "player_detections.parquet").stat().st_mtime_ns == tracks
    assert done.status()["track"]["fingerprint"] == "0" * 64


def test_tables_and_objects_come_back(clip, tmp_path):
    done = _run(_settings(clip, tmp_path / "run"))
    detections = done.detections()
    assert detections["tracking_id"].nunique() == 1
    assert detections["frame"].is_monotonic_increasing
    assert set(detections["video"]) == {"video.mp4"}
    assert detections["prompt"].isna().all()
    scores = done.scores()
    assert scores["metrics"]["predicted_tracks"] == scores["metrics"]["true_objects"] == 1
    assert scores["metrics"]["precision"] == 1
    assert set(scores) == {"metrics", "per_prompt", "protocol"}
    # ByteTrack confirms a track in its second frame, so the first is missed.
    assert list(done.events()["event"]) == ["miss"]
    assert done.video().frame_count == FRAMES
    assert done.labels().sha256 == done.config()["inputs"]["labels"]["sha256"]
    assert done.settings() == _settings(clip, tmp_path / "run")


def test_config_names_settings_versions_device_and_hashes(clip, tmp_path):
    config = _run(_settings(clip, tmp_path / "run")).config()
    assert (
        config["inputs"]["video"]["sha256"] == hashlib.sha256((clip / "video.mp4").read_bytes()).hexdigest()
    )
    assert {config["inputs"][name]["path"] for name in ("video", "detections", "labels")} == {
        str(clip / "video.mp4"),
        str(clip / "det" / "det.txt"),
        str(clip),
    }
    assert config["inputs"]["model"] is None
    assert config["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert None not in config["versions"].values()
    assert config["tracker"]["track_activation_threshold"] == 0.4
    assert config["device"]["device"] == "cpu"
    assert config["device"]["reason"]
    assert Settings(**config["settings"]) == _settings(clip, tmp_path / "run")


def test_a_finished_run_is_only_read(finished):
    folder = finished.out
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    # The notebook does the same while the report's process holds the folder.
    with watch.hold(folder):
        before[watch.LOCK] = (folder / watch.LOCK).stat().st_mtime_ns
        _run(finished)
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def _change_labels(clip: Path, settings: Settings) -> Settings:
    (clip / "gt" / "gt.txt").write_text("".join((clip / "gt" / "gt.txt").read_text().splitlines(True)[:-1]))
    return settings


def _change_detections(clip: Path, settings: Settings) -> Settings:
    path = clip / "det" / "det.txt"
    path.write_text("".join(path.read_text().splitlines(True)[:-1]))
    return settings


def _touch_inputs(clip: Path, settings: Settings) -> Settings:
    for path in (clip / "gt" / "gt.txt", clip / "det" / "det.txt", clip / "video.mp4"):
        path.touch()
    return settings


def _move_detections(clip: Path, settings: Settings) -> Settings:
    (clip / "moved").mkdir()
    path = clip / "det" / "det.txt"
    return dataclasses.replace(settings, detections=path.rename(clip / "moved" / "det.txt"))


def _lose(name: str) -> Callable[[Path, Settings], Settings]:
    def change(clip: Path, settings: Settings) -> Settings:
        (settings.out / name).unlink()
        return settings

    return change


def _with(**changes) -> Callable[[Path, Settings], Settings]:
    return lambda clip, settings: dataclasses.replace(settings, **changes)


@pytest.mark.parametrize(
    ("change", "reruns"),
    [
        pytest.param(_touch_inputs, set(), id="times of files changed, contents didn't"),
        pytest.param(_move_detections, set(), id="detections elsewhere, the same"),
        pytest.param(_with(device="cpu"), set(), id="a device that this tracker doesn't use"),
        pytest.param(_change_labels, {"score"}, id="labels"),
        pytest.param(_with(threshold=0.75), {"score"}, id="threshold"),
        pytest.param(_change_detections, {"track", "read", "score", "overlay"}, id="detections"),
        pytest.param(_with(tracker="ocsort"), {"track", "read", "score", "overlay"}, id="tracker"),
        pytest.param(
            _with(options={"lost_track_buffer": 5}),
            {"track", "read", "score", "overlay"},
            id="tracker's option",
        ),
        pytest.param(_lose("events.parquet"), {"score"}, id="events lost"),
        pytest.param(_lose("overlay.mp4"), {"overlay"}, id="overlay lost"),
        pytest.param(_lose("proxy.mp4"), {"overlay"}, id="proxy lost"),
        pytest.param(_lose("player_detections.parquet"), {"track"}, id="tracks lost"),
    ],
)
def test_only_what_depends_on_a_change_runs_again(change, reruns, clip, finished):
    status = _run(change(clip, finished)).status()
    assert {status[name]["state"] for name in BEFORE_REPORT} == {"done"}
    ran = {name for name in BEFORE_REPORT if status[name]["pid"] != ANOTHER_PROCESS}
    # Tracks that were lost come out the same, yet what was drawn from them is made anew with them.
    assert ran == reruns | ({"read", "score", "overlay"} if "track" in reruns else set())


def test_again_runs_what_is_fresh(finished):
    before = Run(finished.out).status()
    after = _run(finished, again=("score",)).status()
    assert after["score"]["pid"] == os.getpid()
    assert after["overlay"] == before["overlay"]


def test_without_labels_scoring_says_so(clip, tmp_path):
    done = _run(_settings(clip, tmp_path / "run", labels=None))
    assert done.status()["score"]["state"] == "done"
    assert done.status()["score"]["why"] == "no labels were given, so nothing was scored"
    assert done.scores() is None
    assert done.events() is None
    assert done.labels() is None
    assert not done.scores_path.exists()


def test_scores_of_labels_taken_away_do_not_stay(finished):
    done = _run(dataclasses.replace(finished, labels=None))
    assert done.scores() is None
    assert not done.scores_path.exists()
    assert not done.events_path.exists()


def test_scoring_alone_keeps_what_is_known_of_tracking(clip, tmp_path):
    settings = _settings(clip, tmp_path / "run", labels=None)
    folder = execute(settings, stages=("track",), progress=False).folder
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"versions": {"python": "3.11.0"}}))
    (clip / "det" / "det.txt").unlink()
    settings = dataclasses.replace(Run(folder).settings(), labels=clip)
    done = execute(settings, stages=("score",), progress=False)
    assert done.scores()["metrics"]["true_objects"] == 1
    assert done.config()["versions"] == {"python": "3.11.0"}
    assert done.config()["inputs"]["detections"] == config["inputs"]["detections"]
    assert done.config()["inputs"]["labels"]["path"] == str(clip)


def test_a_stage_without_what_it_needs_is_refused(clip, tmp_path):
    with pytest.raises(RunError, match=r"the stage track of .* is pending: run courtside track"):
        execute(_settings(clip, tmp_path / "run"), stages=("score",), progress=False)


def test_no_players_is_a_result_with_a_warning(clip, tmp_path):
    (clip / "det" / "det.txt").write_text("1,-1,4,20,12,24,0.01,-1,-1,-1\n")
    done = _run(_settings(clip, tmp_path / "run"))
    assert done.detections().empty
    assert list(done.detections().columns) == list(tables.PLAYER_DETECTIONS.columns)
    assert any("no players found" in text for text in done.status()["track"]["warnings"])
    assert done.scores()["metrics"]["predicted_tracks"] == 0


def test_what_a_truncated_video_lost_is_kept_in_the_status(clip, tmp_path):
    whole = clip / "whole.mp4"
    _write_video(whole, frames=120)
    data = whole.read_bytes()
    (clip / "video.mp4").write_bytes(data[: int(len(data) * 0.8)])
    done = _run(_settings(clip, tmp_path / "run", labels=None))
    assert done.status()["track"]["warnings"] == list(done.video().warnings)
    assert done.video().warnings


def test_labels_of_another_video_are_refused_before_tracking(clip, tmp_path):
    info = clip / "seqinfo.ini"
    info.write_text(info.read_text().replace(f"imWidth={WIDTH}", "imWidth=1920"))
    with pytest.raises(LabelsError):
        _run(_settings(clip, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_failed_stage_says_why_and_costs_nothing_that_was_done(clip, finished):
    settings = finished
    tracks = Run(settings.out).detections()
    detections = (clip / "det" / "det.txt").read_bytes()
    (clip / "det" / "det.txt").write_text("1,-1,4,20,-12,24,0.9,-1,-1,-1\n")
    with pytest.raises(LabelsError) as caught:
        _run(settings)
    status = Run(settings.out).status()
    assert status["track"]["state"] == "failed"
    assert status["track"]["why"] == str(caught.value)
    assert status["score"]["state"] == status["overlay"]["state"] == "pending"
    with pytest.raises(RunError, match=r"the stage track of .* is failed"):
        Run(settings.out).detections()
    assert _remains(settings.out) == []
    # The earlier table still lies there and says what it was made from, so it is taken up again.
    (clip / "det" / "det.txt").write_bytes(detections)
    done = _run(settings)
    assert done.status()["track"]["why"] == "taken up from an earlier run"
    pd.testing.assert_frame_equal(done.detections(), tracks)


def test_the_folder_of_another_video_is_refused(finished, tmp_path):
    other = _write_clip(tmp_path / "other", shade=90)
    before = (tmp_path / "run" / "config.json").read_bytes()
    with pytest.raises(RunError, match=r"holds the run of another video .*choose another --out"):
        _run(_settings(other, tmp_path / "run"))
    assert (tmp_path / "run" / "config.json").read_bytes() == before


def _a_file(path: Path) -> None:
    path.write_text("")


def _someone_elses(path: Path) -> None:
    path.mkdir()
    (path / "report.html").write_text("mine")


def _below_a_file(path: Path) -> None:
    path.parent.write_text("")


@pytest.mark.parametrize(
    ("prepare", "name", "says"),
    [
        (_a_file, "run", "cannot write in the run folder"),
        (_someone_elses, "run", "has a report.html but no config.json"),
        (_below_a_file, "file/run", "cannot write in the run folder"),
    ],
)
def test_a_folder_that_is_no_run_is_refused(prepare, name, says, clip, tmp_path):
    prepare(tmp_path / name)
    with pytest.raises(RunError, match=says):
        _run(_settings(clip, tmp_path / name))


@pytest.mark.parametrize("name", ["config.json", "status.json"])
def test_a_broken_file_of_a_run_is_named(name, finished):
    (finished.out / name).write_text("{")
    with pytest.raises(RunError, match=name):
        _run(dataclasses.replace(finished, threshold=0.6))


def test_one_process_at_a_time(clip, tmp_path):
    settings = _settings(clip, tmp_path / "run")
    settings.out.mkdir()
    with watch.hold(settings.out), pytest.raises(RunError, match=rf"another process .*process {os.getpid()}"):
        _run(settings)
    assert execute(settings, stages=("track",), progress=False).status()["track"]["state"] == "done"


_WORK = """
import sys
from courtside.run import Settings, execute
clip, out = sys.argv[1:]
execute(Settings(video=clip + "/video.mp4", out=out, tracker="botsort", detections=clip + "/det/det.txt"),
        stages=("track",), progress=False)
"""


@pytest.fixture
def long_clip(tmp_path: Path) -> Path:
    """Long enough that a signal comes while BoT-SORT compensates the camera, frame by frame."""
    return _write_clip(tmp_path / "long", frames=1500)


def _start_tracking(clip: Path, out: Path, wait_for: Callable[..., None]) -> subprocess.Popen:
    worker = subprocess.Popen(
        [sys.executable, "-c", _WORK, str(clip), str(out)], stderr=subprocess.PIPE, text=True
    )
    wait_for((out / "tracking").exists, worker)
    assert _states(out)["track"] == "running"
    return worker


_FOLLOW = """
import sys
from courtside import journal
from courtside.run import Settings, execute
journal._SECONDS, journal._SHARE = 0.0, float("inf")
clip, out, model = sys.argv[1:]
settings = Settings(video=clip + "/video.mp4", out=out, prompts=["a", "b"], model=model, device="cpu")
execute(settings, stages=("track",), progress=False)
"""


def _follow(clip: Path, out: Path, model: Path) -> subprocess.Popen:
    arguments = [sys.executable, "-c", _FOLLOW, str(clip), str(out), str(model)]
    return subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True)


def _saved(out: Path) -> int:
    """How many times the tracking in the run folder ``out`` was saved."""
    try:
        return json.loads((out / "tracking" / "journal.json").read_text())["segments"]
    except FileNotFoundError:
        return 0


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT])
def test_tracking_that_was_stopped_goes_on_and_ends_the_same(stop, tmp_path, random_sam3, wait_for):
    clip = _write_clip(tmp_path / "clip", frames=40)
    whole = Settings(
        video=clip / "video.mp4", out=tmp_path / "whole", prompts=["a", "b"], model=random_sam3, device="cpu"
    )
    wanted = execute(whole, stages=("track",), progress=False).detections()
    assert len(wanted) > 40
    out = tmp_path / "stopped"
    for least in (3, 9):
        worker = _follow(clip, out, random_sam3)
        wait_for(lambda least=least: _saved(out) >= least, worker)
        worker.send_signal(stop)
        worker.communicate()
        assert not (out / "player_detections.parquet").exists()
    kept = _saved(out)
    assert kept >= 9
    done = execute(dataclasses.replace(whole, out=out), stages=("track",), progress=False)
    pd.testing.assert_frame_equal(done.detections(), wanted)
    assert not (out / "tracking").exists()


def test_tracking_starts_anew_where_something_changed(tmp_path, random_sam3, wait_for):
    clip = _write_clip(tmp_path / "clip", frames=40)
    out = tmp_path / "run"
    worker = _follow(clip, out, random_sam3)
    wait_for(lambda: _saved(out) >= 3, worker)
    worker.kill()
    worker.communicate()
    settings = Settings(video=clip / "video.mp4", out=out, prompts=["b"], model=random_sam3, device="cpu")
    table = execute(settings, stages=("track",), progress=False).detections()
    assert set(table["prompt"]) == {"b"}
    assert table["frame"].min() == 0


def test_the_status_is_true_after_sigkill_and_the_run_goes_on(long_clip, tmp_path, wait_for):
    out = tmp_path / "run"
    worker = _start_tracking(long_clip, out, wait_for)
    assert Run(out).status()["track"]["state"] == "running"
    worker.kill()
    worker.communicate()
    assert Run(out).status()["track"]["why"] == "the process was killed"
    wait_for(lambda: _states(out)["track"] == "failed")
    assert not (out / "player_detections.parquet").exists()
    settings = _settings(long_clip, out, tracker="bytetrack", labels=None)
    assert execute(settings, stages=("track",), progress=False).status()["track"]["state"] == "done"
    assert _remains(out) == []


def test_a_reader_knows_even_when_the_watcher_was_killed_too(clip, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    (out / watch.LOCK).touch()
    record = {"state": "running", "why": None, "pid": os.getpid()}
    watch.write_json(out / "status.json", {"stages": {"track": record}})
    assert Run(out).status()["track"] | {"finished": None} == Run(out).status()["track"] | {
        "state": "failed",
        "why": "the process was killed",
        "finished": None,
    }
    assert _states(out) == {"track": "running"}
    execute(_settings(clip, out), stages=("track",), progress=False)
    assert _states(out)["track"] == "done"


def test_ctrl_c_is_written_down_and_leaves_no_partial_file(long_clip, tmp_path, wait_for):
    out = tmp_path / "run"
    worker = _start_tracking(long_clip, out, wait_for)
    worker.send_signal(signal.SIGINT)
    worker.communicate()
    assert worker.returncode != 0
    status = Run(out).status()["track"]
    assert (status["state"], status["why"]) == ("failed", "interrupted")
    assert _states(out)["track"] == "failed"
    assert _remains(out) == []
    assert not (out / "player_detections.parquet").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a small disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_named_and_finished_stages_stay(clip, small_disk):
    settings = _settings(clip, small_disk / "run")
    execute(settings, stages=("track",), progress=False)
    (small_disk / "ballast").write_bytes(bytes(os.statvfs(small_disk).f_bavail * 4096 - 8192))
    with pytest.raises(DiskFullError, match=r"free"):
        _run(settings)
    status = Run(settings.out).status()
    assert status["track"]["state"] == "done"
    failed = [name for name in BEFORE_REPORT if status[name]["state"] == "failed"]
    assert len(failed) == 1
    assert _remains(settings.out) == []
    (small_disk / "ballast").unlink()
    assert _states(_run(settings).folder) == dict.fromkeys(BEFORE_REPORT, "done") | {"report": "pending"}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_recognised_while_tracks_stream():
    frame = FrameDetections(0, 0.0, [Detection(BoundingBox(0, 0, 1, 1), 1.0, tracking_id=1)])

    def fill() -> None:
        with files.DetectionsWriter(Path("/dev/full"), "a.mp4") as writer:
            writer.add(frame)

    with pytest.raises(OSError, match="No space left") as caught:
        fill()
    assert files.is_disk_full(caught.value)
    assert not files.is_disk_full(OSError("No space left"))


def _frames(count: int, players: int) -> Iterator[FrameDetections]:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[2:9, 3:7] = True
    for number in range(count):
        detections = [
            Detection(BoundingBox(i, 0, i + 3, 9), 0.5, i % 2, ("white", "cap")[i % 2], i + 1, mask)
            for i in range(players)
        ]
        yield FrameDetections(number, number / 25, detections)


def test_tracks_stream_in_row_groups_and_read_back_the_same(tmp_path):
    path = tmp_path / "a.parquet"
    with files.whole(path) as part, files.DetectionsWriter(part, "a.mp4", ["white"]) as writer:
        for frame in _frames(2500, 10):
            writer.add(frame)
        writer.note({"fingerprint": "x"})
        assert not path.exists()
    assert pyarrow.parquet.ParquetFile(path).num_row_groups == 3
    assert files.read_note(path) == {"fingerprint": "x"}
    table = files.read_table(path, tables.PLAYER_DETECTIONS)
    assert len(table) == writer.rows == 25_000
    assert list(table["prompt"].fillna("").unique()) == ["white", ""]
    assert table["mask_rle"].nunique() == 1
    last = table.iloc[-1]
    assert (last["frame"], last["tracking_id"], last["x1"], last["x2"]) == (2499, 10, 9.0, 12.0)


def _detection(number: int) -> Detection:
    return Detection(BoundingBox(0, 0, 1, 1), 1.0, tracking_id=number)


@pytest.mark.parametrize(
    ("frames", "error"),
    [
        ([FrameDetections(0, 0.0, [_detection(1), _detection(1)])], TableError),
        ([FrameDetections(0, 0.0, [_detection(0)])], TableError),
        ([FrameDetections(1, 0.04), FrameDetections(0, 0.0)], RunError),
        ([FrameDetections(1, 0.04), FrameDetections(1, 0.04)], RunError),
    ],
    ids=["id twice in a frame", "id 0", "frames backwards", "frame twice"],
)
def test_a_tracker_that_breaks_the_rules_is_caught(frames, error, tmp_path):
    path = tmp_path / "a.parquet"

    def write() -> None:
        with files.whole(path) as part, files.DetectionsWriter(part, "a.mp4") as writer:
            for frame in frames:
                writer.add(frame)

    with pytest.raises(error):
        write()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("x = 1", "x  =  1  # why", True),
        ("x = 1", "x = 2", False),
    ],
)
def test_code_counts_by_what_it_does(first, second, same, tmp_path):
    path = tmp_path / "a.py"
    path.write_text(first)
    before = files.hash_code([path])
    path.write_text(second)
    assert (files.hash_code([path]) == before) == same


def test_every_stage_names_code_that_exists(repository):
    package = repository / "lib" / "courtside"
    for stage, patterns in run._CODE.items():
        for pattern in patterns:
            assert any(path.is_file() for path in package.glob(pattern)), f"{stage}: {pattern}"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"prompts": ["player", " "]}, "a prompt is empty"),
        ({"prompts": ["player", "player "]}, "given twice"),
        ({"prompts": "player"}, "must be a list"),
        ({"threshold": 0}, "between 0 and 1"),
        ({"threshold": float("nan")}, "between 0 and 1"),
        ({"match": "keypoint"}, "box or mask"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes, says):
    with pytest.raises(SettingError, match=says):
        Settings(video="a.mp4", out="run", **changes)


def test_settings_survive_json(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").mkdir()
    settings = Settings(video="a.mp4", out="run", prompts=["referee"], model="tiny", options={"a": 1})
    parameters = json.loads(json.dumps(settings.parameters()))
    monkeypatch.chdir("/")
    assert Settings(**parameters) == settings
    assert settings.model == str(tmp_path / "tiny")
    assert Settings(video="a.mp4", out="run", model="facebook/sam3").model == "facebook/sam3"


def test_a_readers_weights_are_named_so_that_they_count(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()
    usual = Settings(video="a.mp4", out="run", reader="smolvlm")
    assert usual.reader_model == SMOLVLM
    own = Settings(video="a.mp4", out="run", reader="smolvlm", reader_model="own")
    assert own.reader_model == str(tmp_path / "own")
    assert Settings(video="a.mp4", out="run").reader_model is None
    # Read again by a reader without weights, they count no longer.
    again = Settings(**(own.parameters() | {"reader": "rapidocr"}))
    assert again == Settings(video="a.mp4", out="run")


def test_an_unknown_stage_is_refused(clip, tmp_path):
    with pytest.raises(SettingError, match="the stages are track, read, score, overlay, report"):
        execute(_settings(clip, tmp_path / "run"), stages=("paint",))


def test_sam3_runs_from_a_folder_and_its_weights_count(clip, tmp_path, random_sam3):
    model = shutil.copytree(random_sam3, tmp_path / "model")
    settings = Settings(
        video=clip / "video.mp4", out=tmp_path / "run", prompts=["cap"], model=model, device="cpu"
    )
    done = execute(settings, stages=("track",), progress=False)
    config = done.config()
    assert config["inputs"]["model"]["path"] == str(model)
    assert len(config["inputs"]["model"]["sha256"]) == 64
    assert (config["device"]["device"], config["device"]["dtype"]) == ("cpu", "float32")
    assert config["device"]["reason"]
    before = done.status()["track"]["fingerprint"]
    assert execute(settings, stages=("track",), progress=False).status()["track"]["fingerprint"] == before
    (model / "extra.json").write_text("{}")
    after = execute(settings, stages=("track",), progress=False).status()["track"]["fingerprint"]
    assert after != before


def test_a_model_that_is_neither_folder_nor_name_fails_in_a_sentence(clip, tmp_path):
    settings = Settings(
        video=clip / "video.mp4", out=tmp_path / "run", prompts=["cap"], model="data/models/not-there"
    )
    with pytest.raises(CourtsideError, match="not-there"):
        execute(settings, stages=("track",), progress=False)
    assert Run(settings.out).status()["track"]["state"] == "failed"
