"""Pairing runs, differences with intervals, conditions that fail, and the frames where one is right alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from courtside import cli, tables, watch
from courtside.compare import compare, failing, find_sides
from courtside.errors import RunError, SettingError
from courtside.folder import record
from courtside.labels import read_labels
from courtside.report.comparison import ComparisonReport, metric_rows
from courtside.run import Settings, execute
from courtside.scoring import score
from courtside.video import VideoWriter

WIDTH, HEIGHT, FRAMES = 160, 90, 24
GAP = range(10, 14)


def _write_clip(folder: Path) -> Path:
    """Two squares that cross nobody's way, with a detections file that lacks the first one in GAP."""
    (folder / "gt").mkdir(parents=True)
    truth, boxes = [], []
    with VideoWriter(folder / "video.mp4", WIDTH, HEIGHT, 25) as writer:
        for frame in range(FRAMES):
            image = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
            for square, (x, y) in enumerate([(10 + 2 * frame, 10), (120 - 2 * frame, 50)], start=1):
                image[y : y + 30, x : x + 16] = 250 - 80 * square
                truth.append(f"{frame + 1},{square},{x},{y},16,30,1,1,1\n")
                if square == 2 or frame not in GAP:
                    boxes.append(f"{frame + 1},-1,{x},{y},16,30,0.9\n")
            writer.write(image)
    (folder / "gt" / "gt.txt").write_text("".join(truth))
    (folder / "det.txt").write_text("".join(boxes))
    (folder / "seqinfo.ini").write_text(
        f"[Sequence]\nname=clip\nframeRate=25\nseqLength={FRAMES}\nimWidth={WIDTH}\nimHeight={HEIGHT}\n"
    )
    return folder


@pytest.fixture(autouse=True)
def _few_draws(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only tests about intervals need a thousand draws."""
    if "interval" not in request.node.name and "noise" not in request.node.name:
        monkeypatch.setattr("courtside.compare._RESAMPLES", 20)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write_clip(tmp_path_factory.mktemp("clip") / "squares")


@pytest.fixture(scope="module")
def tracked(clip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real runs on one clip: the truth, and boxes that miss somebody for a while."""
    out = tmp_path_factory.mktemp("tracked")
    for tracker in ("labels", "bytetrack"):
        detections = clip / "det.txt" if tracker == "bytetrack" else None
        settings = Settings(
            clip / "video.mp4", out / tracker, tracker=tracker, detections=detections, labels=clip
        )
        execute(settings, stages=("track", "score"), progress=False)
    return out


def _write_run(folder: Path, clip: Path, missed: int, *, video: str, prompts: tuple[str, ...] = (), **status):
    """A run folder with the scores of tracks that miss the first square in its last ``missed`` frames."""
    folder.mkdir(parents=True)
    labels = read_labels(clip)
    rows = labels.ground_truth
    rows = rows[(rows["object_id"] == 2) | (rows["frame"] < FRAMES - missed)].rename(
        columns={"object_id": "tracking_id"}
    )
    rows = rows.assign(
        video="video.mp4", time_s=rows["frame"] / 25, class_id=0, class_name="person", confidence=1.0,
        prompt=None, jersey_number=None, player_id=None,
    )  # fmt: skip
    schema = tables.PLAYER_DETECTIONS
    scores = score(tables.typed(rows[list(schema.columns)], schema), labels, times_s=np.arange(FRAMES) / 25)
    watch.write_json(folder / "scores.json", scores.to_json())
    path = {"path": f"/games/{video}/video.mp4", "sha256": video, "frame_count": FRAMES}
    config = {"inputs": {"video": path}, "settings": {"prompts": list(prompts)}}
    watch.write_json(folder / "config.json", config)
    done = record({"state": "done", "seconds": 2.0, "frames": FRAMES})
    watch.write_json(folder / watch.STATUS, {"stages": {"track": done, "score": done} | status})


def _write_sides(root: Path, clip: Path, first: list[int], second: list[int]) -> list[Path]:
    for side, missed in (("a", first), ("b", second)):
        for place, frames in enumerate(missed):
            _write_run(root / side / f"clip-{place}", clip, frames, video=f"game-{place}")
    return [root / "a", root / "b"]


def test_differences_are_those_of_summed_counts(clip, tmp_path):
    comparison = compare(find_sides(_write_sides(tmp_path, clip, [2, 4], [6, 6])))
    assert comparison.names == ("a", "b")
    assert [each.name for each in comparison.clips] == ["game-0", "game-1"]
    table = comparison.combined().set_index("metric")
    true = 2 * 2 * FRAMES
    assert table.loc["recall", "first"] == pytest.approx((true - 6) / true)
    assert table.loc["recall", "difference"] == pytest.approx(-6 / true)
    idf1 = [2 * (true - missed) / (true + true - missed) for missed in (6, 12)]
    assert table.loc["idf1", "difference"] == pytest.approx(idf1[1] - idf1[0])
    by_clip = comparison.per_clip().set_index(["clip", "metric"])
    assert by_clip.loc[(1, "recall"), "difference"] == pytest.approx(-2 / (2 * FRAMES))
    speeds = comparison.speeds()
    assert speeds["tracker"].tolist() == ["a", "b"]
    assert speeds["frames_per_s"].tolist() == [FRAMES / 2] * 2


@pytest.mark.parametrize(
    ("first", "second", "sure", "reads"),
    [
        ([2, 4, 6, 2, 4, 6, 2, 4], [6, 9, 9, 7, 9, 10, 8, 8], True, "worse"),
        ([2, 4, 6, 2, 4, 6, 2, 4], [4, 2, 2, 6, 5, 6, 4, 2], False, "worse, may be chance"),
        ([2, 4, 6, 2, 4, 6, 2, 4], [2, 4, 6, 2, 4, 6, 2, 4], False, "the same"),
        ([2, 4, 6], [6, 9, 9], False, "worse, may be chance"),
        ([2], [6], False, "worse here"),
    ],
    ids=["worse on each of 8", "now better, now worse", "the same", "too few clips", "one clip"],
)
def test_noise_is_not_read_as_a_difference(clip, tmp_path, first, second, sure, reads):
    comparison = compare(find_sides(_write_sides(tmp_path, clip, first, second)))
    row = comparison.combined().set_index("metric").loc["idf1"]
    assert bool(row["sure"]) is sure
    if len(first) == 1:
        assert np.isnan(row["low"])
    else:
        assert row["low"] <= row["difference"] <= row["high"]
    assert dict((cells[0], cells[-1]) for cells in metric_rows(comparison.combined()))["IDF1"] == reads


def test_the_interval_holds_what_resampling_gives(clip, tmp_path):
    """With two clips there are three samples, so the interval is the range of both clips' own differences."""
    comparison = compare(find_sides(_write_sides(tmp_path, clip, [2, 4], [6, 5])))
    own = comparison.per_clip()
    own = own[own["metric"] == "recall"]["difference"]
    row = comparison.combined().set_index("metric").loc["recall"]
    assert [row["low"], row["high"]] == pytest.approx([own.min(), own.max()])


@pytest.mark.parametrize(
    ("condition", "fails"),
    [
        ("IDF1 < -0.01", True), ("idf1<-0.5", False), ("Id switches > 0", False), ("num_switches >= 0", True),
        ("Recall <= .5", True), ("HOTA > 0", False),
    ],
)  # fmt: skip
def test_conditions_on_differences(clip, tmp_path, condition, fails, capsys):
    paths = _write_sides(tmp_path, clip, [2, 4], [6, 6])
    assert bool(failing(compare(find_sides(paths)), [condition])) is fails
    assert cli.main(["compare", *map(str, paths), "--fail-if", condition]) == int(fails)
    said = capsys.readouterr()
    assert (f"so {condition!r} holds" in said.err) is fails
    assert "IDF1" in said.out


def test_an_undefined_difference_is_not_passed_over(clip, tmp_path):
    paths = _write_sides(tmp_path, clip, [2], [FRAMES])
    for path in (tmp_path / "b").rglob("scores.json"):
        content = json.loads(path.read_text())
        content["protocol"]["counts"]["predicted_boxes"] = 0
        path.write_text(json.dumps(content))
    assert (
        "is undefined, so 'IDF1 < -0.01' can't be ruled out"
        in failing(compare(find_sides(paths)), ["IDF1 < -0.01"])[0]
    )


@pytest.mark.parametrize("text", ["IDF1", "speed < 1", "IDF1 < much", "IDF1 = 0"])
def test_a_condition_that_cannot_be_read_is_refused(clip, tmp_path, text):
    comparison = compare(find_sides(_write_sides(tmp_path, clip, [2], [6])))
    with pytest.raises(SettingError, match=r'cannot read --fail-if .*: write such as "IDF1 < -0.01"'):
        failing(comparison, [text])


def test_runs_on_one_video_are_paired_by_prompts(clip, tmp_path):
    for side in ("a", "b"):
        for prompt, missed in (("dog", 2), ("player", 4)):
            place = tmp_path / side / (prompt if side == "a" else f"other-{prompt}")
            _write_run(place, clip, missed, video="game", prompts=(prompt,))
    comparison = compare(find_sides([tmp_path]))
    assert [each.name for each in comparison.clips] == ["game (dog)", "game (player)"]
    assert (comparison.combined()["difference"].dropna() == 0).all()


def test_what_cannot_be_compared_is_left_out_and_said(clip, tmp_path):
    paths = _write_sides(tmp_path, clip, [2, 2], [3])
    _write_run(tmp_path / "b" / "half", clip, 2, video="half", score=record({"state": "failed", "why": "x"}))
    comparison = compare(find_sides(paths))
    assert [each.name for each in comparison.clips] == ["game-0"]
    assert len(comparison.notes) == 2
    assert "b: the stage score of" in comparison.notes[0]
    assert comparison.notes[1] == "game-1 is left out: b has no finished, scored run on it"


def test_what_makes_a_comparison_pointless_is_refused(clip, tmp_path):
    paths = _write_sides(tmp_path, clip, [2], [3])
    with pytest.raises(SettingError, match="there is nothing to compare with: name two run folders"):
        find_sides(paths[:1])
    with pytest.raises(SettingError, match="is named twice"):
        find_sides([paths[0], paths[0]])
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match=r"there is no run in .*empty"):
        find_sides([paths[0], tmp_path / "empty"])
    _write_run(tmp_path / "c" / "clip", clip, 2, video="another")
    with pytest.raises(RunError, match="a and c have no clip in common"):
        compare(find_sides([paths[0], tmp_path / "c"]))
    changed = tmp_path / "b" / "clip-0" / "scores.json"
    content = json.loads(changed.read_text())
    content["protocol"]["iou_threshold"] = 0.75
    changed.write_text(json.dumps(content))
    with pytest.raises(
        RunError, match=r"scored with different iou_threshold \(0.5, 0.75\): score them again"
    ):
        compare(find_sides(paths))


def test_the_frames_where_one_is_right_and_the_other_wrong(tracked):
    report = ComparisonReport(compare(find_sides([tracked / "labels", tracked / "bytetrack"])))
    found = report.disagreements
    assert (found["right"] == 0).all()
    gap = found[(found["object_id"] == 1) & (found["first"] == GAP.start)].iloc[0]
    assert gap["last"] >= GAP.stop - 1
    assert gap["frames"] == gap["last"] - gap["first"] + 1
    assert gap["wrong"].startswith(f"missed in {len(GAP)} frames")
    both, first, second, neither = report._tally(0)
    assert (both + first, second, neither) == (2 * FRAMES, 0, 0)
    assert first == found["frames"].sum()
    shown = report.moments().html
    assert "bytetrack is nowhere right where labels is wrong." in shown
    assert report.pictures(1).html.count("<img") == 2
    assert "bytetrack against labels" in report.headline().html
    assert "One clip does not say whether that holds on others." in report.headline().html
    for section in (report.metrics, report.clips, report.speed, report.settings):
        assert section().html


def test_a_side_that_is_not_there_is_refused(tracked):
    comparison = compare(find_sides([tracked]))
    with pytest.raises(RunError, match="there is no side 2: the sides are 1 to 1"):
        ComparisonReport(comparison, 2)


def test_the_page_must_be_html(tracked, capsys):
    assert cli.main(["compare", str(tracked), "--out", "page.pdf"]) == 2
    assert "--out page.pdf is no HTML file: name it page.html" in capsys.readouterr().err


def test_ids_that_are_swapped_are_wrong_from_there_on():
    from courtside.report.comparison import correct_rows

    frames = np.repeat(np.arange(10), 2)
    objects = np.tile([1, 2], 10)
    swapped = np.where(frames < 6, objects + 10, 13 - objects)
    table = pd.DataFrame({"object_id": objects, "tracking_id": pd.array(swapped, "Int64")})
    assert correct_rows(table).tolist() == [bool(frame < 6) for frame in frames]
