"""The command line: each thing a user can get wrong is one sentence and exit code 2."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from courtside import cli, doctor
from courtside.trackers import TRACKERS
from courtside.video import VideoWriter

WIDTH, HEIGHT, FRAMES = 96, 64, 12


def _write_clip(folder: Path, frames: int = FRAMES, shade: int = 40) -> Path:
    for name in ("gt", "det"):
        (folder / name).mkdir(parents=True)
    with VideoWriter(folder / "video.mp4", WIDTH, HEIGHT, 25) as writer:
        for _ in range(frames):
            image = np.full((HEIGHT, WIDTH, 3), shade, np.uint8)
            image[20:44, 30:42] = 220
            writer.write(image)
    (folder / "gt" / "gt.txt").write_text(
        "".join(f"{frame + 1},1,30,20,12,24,1,1,1\n" for frame in range(frames))
    )
    (folder / "det" / "det.txt").write_text(
        "".join(f"{frame + 1},-1,30,20,12,24,0.9,-1,-1,-1\n" for frame in range(frames))
    )
    (folder / "seqinfo.ini").write_text(
        f"[Sequence]\nname=clip\nimDir=img1\nframeRate=25\nseqLength={frames}\n"
        f"imWidth={WIDTH}\nimHeight={HEIGHT}\nimExt=.jpg\n"
    )
    return folder


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a clip, another clip, and a whole run of the first one."""
    folder = tmp_path_factory.mktemp("prepared")
    _write_clip(folder / "clip")
    _write_clip(folder / "other", shade=90)
    assert cli.main([*_track(folder), "--quiet"]) == 0
    return folder


@pytest.fixture
def here(tmp_path: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with copies of what is prepared."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    config = tmp_path / "run" / "config.json"
    config.write_text(config.read_text().replace(str(prepared), str(tmp_path)))
    return tmp_path


def _track(folder: Path) -> list[str]:
    clip = folder / "clip"
    command = ["track", str(clip / "video.mp4"), "--tracker", "bytetrack", "--labels", str(clip)]
    return [*command, "--detections", str(clip / "det" / "det.txt"), "--out", str(folder / "run")]


def test_a_run_ends_with_the_headline_and_the_report(here, capsys):
    assert cli.main(_track(here)) == 0
    shown = capsys.readouterr()
    first, second = shown.out.splitlines()
    assert re.fullmatch(r"1 track in 12 frames for 1 labelled; MOTA 0\.\d{3}, IDF1 0\.\d{3}", first)
    assert second == f"report: {here / 'run' / 'report.html'}"
    page = Path(second.removeprefix("report: ")).read_text()
    assert page.lstrip().lower().startswith("<!doctype html>")
    assert (here / "run" / "02-track-video.ipynb").is_file()
    # The run was copied, so nothing had to run again.
    assert shown.err == ""


def test_scoring_again_changes_the_scores_and_says_how_to_report_them(here, capsys):
    assert cli.main(["score", "run", "--threshold", "0.9", "--quiet"]) == 0
    assert "courtside report run" in capsys.readouterr().out
    scores = json.loads((here / "run" / "scores.json").read_text())
    assert "0.9" in json.dumps(scores["protocol"])
    stages = json.loads((here / "run" / "status.json").read_text())["stages"]
    assert (stages["score"]["state"], stages["report"]["state"]) == ("done", "pending")


def test_without_out_a_run_lies_in_reports(here):
    command = ["track", "clip/video.mp4", "--tracker", "ocsort", "--detections", "nowhere.txt", "--quiet"]
    assert cli.main(command) == 2
    assert (here / "reports" / "clip-ocsort" / "status.json").is_file()


def _not_a_video(here: Path) -> None:
    (here / "clip" / "video.mp4").write_text("once upon a time")


def _no_bytes(here: Path) -> None:
    (here / "clip" / "video.mp4").write_bytes(b"")


def _only_sound(here: Path) -> None:
    with av.open(str(here / "clip" / "video.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=48000, layout="mono")
        for start in range(0, 48000, 1024):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            frame.sample_rate, frame.pts = 48000, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _no_file(here: Path) -> None:
    (here / "clip" / "video.mp4").unlink()


def _a_folder(here: Path) -> None:
    _no_file(here)
    (here / "clip" / "video.mp4").mkdir()


def _detections(text: str) -> Callable[[Path], None]:
    return lambda here: (here / "clip" / "det" / "det.txt").write_text(text) and None


def _other_labels(here: Path) -> None:
    info = here / "clip" / "seqinfo.ini"
    info.write_text(info.read_text().replace(f"imWidth={WIDTH}", "imWidth=1920"))


def _other_video(here: Path) -> None:
    shutil.copy(here / "other" / "video.mp4", here / "clip" / "video.mp4")


def _empty_model(here: Path) -> None:
    (here / "model").mkdir()


def _nothing(here: Path) -> None:
    pass


_SAM3 = ["track", "clip/video.mp4", "--out", "new"]
_BOXES = ["track", "clip/video.mp4", "--tracker", "bytetrack", "--detections", "clip/det/det.txt"]
_NEW = [*_BOXES, "--out", "new"]
_LABELLED = [*_NEW, "--labels", "clip"]


@pytest.mark.parametrize(
    ("prepare", "command", "says"),
    [
        pytest.param(_no_file, _NEW, "video.mp4", id="no video"),
        pytest.param(_a_folder, _NEW, "video.mp4", id="an empty folder as video"),
        pytest.param(_not_a_video, _NEW, "video.mp4", id="text as video"),
        pytest.param(_no_bytes, _NEW, "video.mp4", id="an empty file as video"),
        pytest.param(_only_sound, _NEW, "video.mp4", id="sound only"),
        pytest.param(_detections("1,-1,nan,20,12,24,1,-1,-1,-1\n"), _NEW, "det.txt, line 1", id="NaN box"),
        pytest.param(_detections("1,-1,30,20,-12,24,1,-1,-1,-1\n"), _NEW, "det.txt, line 1", id="width < 0"),
        pytest.param(_detections("1,2,3\n"), _NEW, "det.txt, line 1", id="too few columns"),
        pytest.param(_other_labels, _LABELLED, "seqinfo.ini", id="labels of another video"),
        pytest.param(_other_video, [*_BOXES, "--out", "run"], "another video", id="run of another video"),
        pytest.param(_nothing, [*_NEW, "--labels", "nowhere"], "nowhere", id="no labels there"),
        pytest.param(_nothing, [*_NEW, "--prompt", "cap"], "prompt", id="prompt for a box tracker"),
        pytest.param(_nothing, [*_NEW, "--set", "buffer"], "NAME=VALUE", id="malformed --set"),
        pytest.param(_nothing, [*_NEW, "--set", "buffer=3"], "no setting 'buffer'", id="unknown setting"),
        pytest.param(_nothing, [*_LABELLED, "--threshold", "2"], "threshold", id="threshold"),
        pytest.param(_nothing, [*_NEW, "--reader-model", "m"], "--reader smolvlm", id="weights of no reader"),
        pytest.param(
            _nothing,
            ["read", "run", "--reader", "rapidocr", "--reader-model", "m"],
            "--reader smolvlm",
            id="weights of another reader",
        ),
        pytest.param(_nothing, [*_BOXES, "--out", "clip/gt/gt.txt"], "cannot write", id="a file as --out"),
        pytest.param(
            _nothing, [*_NEW[:-4], "--out", "new"], "--detections", id="no detections for a box tracker"
        ),
        pytest.param(_nothing, _SAM3, "--prompt", id="no prompt"),
        pytest.param(_nothing, [*_SAM3, "--prompt", " "], "prompt is empty", id="empty prompt"),
        pytest.param(
            _empty_model, [*_SAM3, "--prompt", "cap", "--model", "model"], "model", id="model without weights"
        ),
        pytest.param(
            _nothing, [*_SAM3, "--prompt", "cap", "--device", "abacus"], "abacus", id="unknown device"
        ),
        pytest.param(_nothing, ["score", "nowhere"], "courtside track", id="score no run"),
        pytest.param(_nothing, ["report", "clip"], "courtside track", id="report no run"),
        pytest.param(_other_labels, ["score", "run"], "seqinfo.ini", id="score with labels gone wrong"),
        pytest.param(_no_file, ["report", "run"], "video.mp4", id="report without the video"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(prepare, command, says, here, capsys):
    prepare(here)
    assert cli.main([*command, "--quiet"]) == 2
    shown = capsys.readouterr()
    said = shown.err.splitlines()
    assert len(said) == 1, shown.err
    assert said[0].startswith("courtside: ")
    assert says in said[0]
    assert shown.out == ""


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["track", "a.mp4", "--tracker", "magic"], "sam3.*bytetrack.*ocsort.*botsort"),
        (["track", "a.mp4", "--threshold", "half"], "invalid float"),
        (["track"], "VIDEO"),
        (["score", "run", "--match", "eye"], "box.*mask"),
        (["paint"], "track.*score.*report.*doctor"),
        ([], "COMMAND"),
    ],
)
def test_a_command_that_is_not_one_is_refused_with_what_there_is(command, says, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(command)
    assert caught.value.code == 2
    assert re.search(says, capsys.readouterr().err, re.DOTALL)


def test_a_run_without_labels_is_not_scored_by_score(here, capsys):
    config = here / "run" / "config.json"
    content = json.loads(config.read_text())
    content["settings"]["labels"] = None
    config.write_text(json.dumps(content))
    assert cli.main(["score", "run", "--quiet"]) == 2
    assert "--labels" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["track", "read", "score", "report", "doctor"])
def test_help_has_examples(command, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main([command, "--help"])
    assert caught.value.code == 0
    assert f"examples:\n  courtside {command}" in capsys.readouterr().out


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from courtside import cli; cli.build_parser().format_help();"
        "print(sorted({'torch', 'transformers', 'pandas', 'numpy', 'av', 'trackers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_the_trackers_are_the_ones_there_are():
    assert cli.TRACKERS == TRACKERS


@pytest.mark.parametrize(
    ("text", "value"),
    [("a=3", 3), ("a=0.5", 0.5), ("a=true", True), ("a=False", False), ("a=sparseOptFlow", "sparseOptFlow")],
)
def test_settings_of_a_tracker_take_their_types(text, value):
    assert cli._option(text) == ("a", value)


def test_ctrl_c_is_exit_code_130_and_no_traceback(tmp_path, wait_for):
    clip = _write_clip(tmp_path / "clip", frames=1500)
    command = [sys.executable, "-m", "courtside.cli", *_track(tmp_path)]
    command[command.index("bytetrack")] = "botsort"
    worker = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    tracking = tmp_path / "run" / "tracking"
    wait_for(tracking.exists, worker)
    worker.send_signal(signal.SIGINT)
    _, said = worker.communicate(timeout=60)
    assert worker.returncode == 130
    assert "Traceback" not in said
    assert said.splitlines()[-1].startswith("courtside: interrupted; everything so far is kept")
    assert not tracking.exists()
    assert clip.is_dir()


def test_doctor_says_what_is_there_and_what_to_do(capsys):
    assert cli.main(["doctor"]) == 0
    shown = capsys.readouterr().out
    for name in ("python", "packages", "device", "video", "weights", "login", "kernel", "disk", "memory"):
        assert re.search(rf"^(ok|note)\s+{name} ", shown, re.MULTILINE), shown
    assert "reads H.264 and HEVC, writes H.264" in shown


def test_doctor_says_how_to_get_weights_and_a_login(tmp_path):
    code = "from courtside import doctor; print(doctor.describe([doctor._weights(), doctor._login()]))"
    away = {"HF_HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=away)
    assert "facebook/sam3 is not on this machine" in done.stdout, done.stderr
    assert "https://huggingface.co/facebook/sam3" in done.stdout
    assert "run hf auth login" in done.stdout


def test_something_missing_is_exit_code_1(monkeypatch, capsys):
    lacking = doctor.Finding("kernel", "missing", "no notebook kernel python3", "pip install ipykernel")
    monkeypatch.setattr(doctor, "examine", lambda: [lacking])
    assert cli.main(["doctor"]) == 1
    assert capsys.readouterr().out.splitlines()[1].strip() == "-> pip install ipykernel"
