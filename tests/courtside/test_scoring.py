"""Scores of named small scenarios, and parity with independent implementations on the real clips."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import supervision
from scipy.optimize import linear_sum_assignment
from trackers import ByteTrackTracker
from trackers.eval import (
    aggregate_clear_metrics,
    aggregate_hota_metrics,
    aggregate_identity_metrics,
    compute_clear_metrics,
    compute_hota_metrics,
    compute_identity_metrics,
    evaluate_mot_sequence,
)
from trackers.eval import box_iou as independent_box_iou
from trackers.eval.hota import ALPHA_THRESHOLDS

from courtside import tables
from courtside.errors import LabelsError, SettingError, TableError
from courtside.labels import Labels, read_detections, read_labels
from courtside.masks import encode_rle
from courtside.scoring import METRICS, Scores, combine, score
from courtside.scoring.frames import box_iou, compare

BOX = ["x1", "y1", "x2", "y2"]
CLIPS = ["basketball-a", "tud-campus", "tud-stadtmitte"]
COUNTED_ANYWAY = {"predicted_tracks", "true_objects"}


def labels_of(
    truth: dict[int, str], frame_count: int, prompts=None, labelled=None, masks=None, fps: float = 1.0
) -> Labels:
    """Labels out of a string an object: "x" is a labelled frame, "i" an ignored one, "." none.

    Object n stands at x = 100 n, in a box of 10 x 10 pixels.
    """
    rows = [
        (frame, object_id, 100.0 * object_id, 0.0, 100.0 * object_id + 10, 10.0, mark == "i", np.nan)
        for object_id, marks in truth.items()
        for frame, mark in enumerate(marks)
        if mark != "."
    ]
    table = pd.DataFrame(rows, columns=["frame", "object_id", *BOX, "ignored", "visibility"])
    table = table.astype({"frame": "int64", "object_id": "int64", "ignored": bool, "visibility": float})
    table = table.astype(dict.fromkeys(BOX, float))
    table["mask_rle"] = pd.array(masks or [None] * len(rows), dtype="string")
    return Labels(
        folder=Path("game"),
        name="game",
        width=1000,
        height=20,
        fps=fps,
        frame_count=frame_count,
        ground_truth=table,
        roster=None,
        prompts=prompts,
        labelled_frames=np.arange(frame_count) if labelled is None else np.array(labelled),
        sha256="0" * 64,
    )


def tracks_of(frame, tracking_id, boxes, prompt=None, mask_rle=None) -> pd.DataFrame:
    """A table of tracks out of columns; ``prompt`` is a text, or one for each row."""
    size = len(frame)

    def texts(values):
        values = [values] * size if values is None or isinstance(values, str) else list(values)
        return pd.array(values, dtype="string")

    boxes = np.asarray(boxes, np.float64).reshape(size, 4)
    return pd.DataFrame(
        {
            "video": texts("game.mp4"),
            "frame": np.asarray(frame, np.int64),
            "time_s": np.asarray(frame, np.float64),
            "tracking_id": np.asarray(tracking_id, np.int64),
            "prompt": texts(prompt),
            "class_id": np.zeros(size, np.int64),
            "class_name": texts("player"),
            "confidence": np.ones(size),
            **{name: boxes[:, i] for i, name in enumerate(BOX)},
            "mask_rle": texts(mask_rle),
            "jersey_number": texts(None),
            "player_id": texts(None),
        }
    )


def drawn(tracks: dict[int, str], prompts: dict[str, str] | None = None) -> pd.DataFrame:
    """Tracks out of a string a place: a letter names the track that is there in that frame.

    Place n is where object n stands, so place 9 is empty floor in most scenarios. ``prompts`` maps a
    letter to its prompt.
    """
    rows = [
        (frame, letter, place)
        for place, letters in tracks.items()
        for frame, letter in enumerate(letters)
        if letter != "."
    ]
    return tracks_of(
        [frame for frame, _, _ in rows],
        [ord(letter) - ord("a") + 1 for _, letter, _ in rows],
        [(100 * place, 0, 100 * place + 10, 10) for _, _, place in rows],
        [(prompts or {}).get(letter) for _, letter, _ in rows],
    )


def scored(truth, tracks, track_prompts=None, **settings) -> Scores:
    """Scores of a drawn scenario at one frame a second."""
    length = max((len(marks) for marks in [*truth.values(), *tracks.values()]), default=4)
    chosen = {name: settings.pop(name) for name in ("match", "threshold", "prompts") if name in settings}
    labels = labels_of(truth, length, settings.pop("means", None), **settings)
    return score(drawn(tracks, track_prompts), labels, times_s=np.arange(length), **chosen)


def reentry(short=(0, 0), middle=(0, 0), long=(0, 0)):
    names = ("recovered", "total")
    classes = {"0-1 s": short, "1-5 s": middle, ">5 s": long}
    return {name: dict(zip(names, counts, strict=True)) for name, counts in classes.items()}


SCENARIOS = {
    "perfect": (
        {1: "xxxx", 2: "xxxx"},
        {1: "aaaa", 2: "bbbb"},
        dict.fromkeys(["mota", "motp_iou", "idf1", "idp", "idr", "hota", "deta", "assa"], 1.0)
        | {"precision": 1.0, "recall": 1.0, "purity": 1.0, "fragments_per_object": 1.0}
        | {"num_switches": 0, "num_fragmentations": 0, "mostly_tracked": 2, "mostly_lost": 0}
        | {
            "predicted_tracks": 2,
            "true_objects": 2,
            "longest_correct_run_s": 4.0,
            "reentry_recovery": reentry(),
        },
        {},
    ),
    "one switch": (
        {1: "xxxxxx"},
        {1: "aaabbb"},
        {
            "mota": 5 / 6,
            "motp_iou": 1.0,
            "idf1": 0.5,
            "num_switches": 1,
            "num_fragmentations": 0,
            "deta": 1.0,
            "assa": 0.5,
        }
        | {"hota": 0.5**0.5, "fragments_per_object": 2.0, "purity": 1.0, "longest_correct_run_s": 3.0},
        {"switch": 1},
    ),
    "fragmentation": (
        {1: "xxxxxx"},
        {1: "aa..aa"},
        {"mota": 4 / 6, "recall": 4 / 6, "precision": 1.0, "num_switches": 0, "num_fragmentations": 1}
        | {"fragments_per_object": 1.0, "longest_correct_run_s": 2.0, "idf1": 0.8, "mostly_tracked": 0},
        {"miss": 1, "fragment": 1},
    ),
    "followed again by another track": (
        {1: "xxxxxx"},
        {1: "aa..bb"},
        {"mota": 3 / 6, "num_switches": 1, "num_fragmentations": 1, "fragments_per_object": 2.0},
        {"miss": 1, "fragment": 1, "switch": 1},
    ),
    "swap": (
        {1: "xxxx", 2: "xxxx"},
        {1: "aaab", 2: "bbba"},
        {"mota": 0.75, "idf1": 0.75, "num_switches": 2, "purity": 0.75, "fragments_per_object": 2.0},
        {"switch": 2},
    ),
    "one object lost": (
        {1: "xxxx", 2: "xxxx"},
        {1: "aaaa"},
        {"mota": 0.5, "mostly_tracked": 1, "mostly_lost": 1, "fragments_per_object": 1.0}
        | {"longest_correct_run_s": 2.0, "purity": 1.0, "true_objects": 2},
        {"miss": 1},
    ),
    "80 % is mostly tracked, 20 % is not mostly lost": (
        {1: "xxxxx", 2: "xxxxx", 3: "xxxxx"},
        {1: "aaaa.", 2: "b...."},
        {"mostly_tracked": 1, "mostly_lost": 1},
        {"miss": 3},
    ),
    "false positives": (
        {1: "xxxxxx"},
        {1: "aaaaaa", 9: "b.bb.."},
        {"mota": 0.5, "precision": 6 / 9, "recall": 1.0, "predicted_tracks": 2, "purity": 1.0},
        {"false_positive": 2},
    ),
    "more errors than objects": (
        {1: "xx"},
        {7: "aa", 8: "bb", 9: "cc"},
        {"mota": -3.0, "precision": 0.0, "recall": 0.0, "hota": 0.0, "deta": 0.0, "idf1": 0.0}
        | {"motp_iou": None, "assa": None, "purity": None, "fragments_per_object": None}
        | {"longest_correct_run_s": 0.0, "mostly_lost": 1},
        {"false_positive": 3, "miss": 1},
    ),
    "re-entries after 1, 3 and 6 seconds": (
        {1: "xx.xx...xx......xx"},
        {1: "aa.aa...bb......bb"},
        {"num_switches": 1, "num_fragmentations": 0, "longest_correct_run_s": 2.0}
        | {"reentry_recovery": reentry((1, 1), (0, 1), (1, 1))},
        {"switch": 1},
    ),
    "missed for good after a re-entry": (
        {1: "xx.xx"},
        {1: "aa...", 9: "..bbb"},
        {"reentry_recovery": reentry((0, 1))},
        {"miss": 1, "false_positive": 1},
    ),
    "another track first, the old one later": (
        {1: "xx.xxx"},
        {1: "aa.bba"},
        {"reentry_recovery": reentry((0, 1)), "num_switches": 2},
        {"switch": 2},
    ),
    "nothing to recover before the first match": (
        {1: "xx.xx.xx"},
        {1: "...aa.aa"},
        {"reentry_recovery": reentry((1, 1))},
        {"miss": 1},
    ),
    "recovered late is recovered": (
        {1: "xx..xxx"},
        {1: "aa...aa"},
        {"reentry_recovery": reentry((0, 0), (1, 1)), "num_fragmentations": 1},
        {"miss": 1, "fragment": 1},
    ),
    "ignored rows need no track": (
        {1: "xxii"},
        {1: "aa.."},
        {"mota": 1.0, "recall": 1.0, "precision": 1.0, "hota": 1.0},
        {},
    ),
    "ignored rows allow a track": (
        {1: "xxii", 2: "iiii"},
        {1: "aaaa", 2: "bbbb"},
        {"mota": 1.0, "precision": 1.0, "predicted_tracks": 1, "true_objects": 1, "hota": 1.0},
        {},
    ),
}


@pytest.mark.parametrize(("truth", "tracks", "metrics", "events"), SCENARIOS.values(), ids=SCENARIOS.keys())
def test_scenario(truth, tracks, metrics, events):
    scores = scored(truth, tracks)
    assert list(scores.metrics) == list(METRICS)
    found = {name: scores.metrics[name] for name in metrics}
    for name, value in metrics.items():
        assert found[name] == (pytest.approx(value) if isinstance(value, float) else value), name
    assert scores.events["event"].value_counts().to_dict() == events
    assert scores.per_prompt == {}


@pytest.mark.parametrize(
    ("truth", "tracks", "predicted", "true"),
    [
        ({1: "xxxx"}, {}, 0, 1),
        ({}, {1: "aaaa"}, 1, 0),
        ({1: "iiii"}, {9: "aaaa"}, 1, 0),
        ({1: "iiii"}, {1: "aaaa"}, 0, 0),
        ({}, {}, 0, 0),
    ],
    ids=["no tracks", "no truth", "all truth ignored", "all tracks dropped", "neither"],
)
def test_nothing_to_compare_is_none_not_0_or_100_percent(truth, tracks, predicted, true):
    scores = scored(truth, tracks)
    undefined = {name for name, value in scores.metrics.items() if value is None}
    assert undefined == set(METRICS) - COUNTED_ANYWAY
    assert (scores.metrics["predicted_tracks"], scores.metrics["true_objects"]) == (predicted, true)
    assert set(scores.protocol["trackeval"].values()) == {None}
    kinds = {"miss": "x" in "".join(truth.values()), "false_positive": bool(predicted)}
    assert set(scores.events["event"]) == {kind for kind, expected in kinds.items() if expected}


def test_events_say_who_and_when():
    scores = scored({1: "xxxxxx", 2: "xxxx.."}, {1: "aa..bb", 2: "cccc..", 9: ".dd..."})
    rows = tables.check(scores.events, tables.EVENTS).astype(object)
    assert rows.where(rows.notna(), None).drop(columns="prompt").to_numpy().tolist() == [
        ["false_positive", 1, 2, 1.0, 2.0, None, 4, None],
        ["miss", 2, 3, 2.0, 2.0, 1, None, 1],
        ["fragment", 4, 4, 4.0, 0.0, 1, 2, 1],
        ["switch", 4, 4, 4.0, 0.0, 1, 2, 1],
    ]


def test_times_come_from_the_video_not_from_the_frame_rate():
    labels = labels_of({1: "xxxx"}, 4, fps=25)
    scores = score(drawn({1: "aa.."}), labels, times_s=np.array([0.0, 0.1, 0.5, 0.6]))
    assert scores.events[["time_s", "duration_s"]].to_numpy().tolist() == [[0.5, pytest.approx(0.2)]]
    assert scores.metrics["longest_correct_run_s"] == pytest.approx(0.5)
    single = score(drawn({1: "a"}), labels_of({1: "x"}, 1, fps=25), times_s=np.zeros(1))
    assert single.metrics["longest_correct_run_s"] == pytest.approx(0.04)


def test_unlabelled_frames_are_not_scored():
    tracks = {1: "aaaaaa", 9: "..bb.."}
    scores = scored({1: "xx..xx"}, tracks, labelled=[0, 1, 4, 5])
    assert (scores.metrics["mota"], scores.metrics["precision"]) == (1.0, 1.0)
    assert scores.metrics["longest_correct_run_s"] == 6.0
    assert scores.metrics["reentry_recovery"] == reentry()
    names = [
        "frames_scored",
        "frames_unlabelled",
        "predictions_in_unlabelled_frames",
        "labels_in_unlabelled_frames",
    ]
    assert [scores.protocol[name] for name in names] == [4, 2, 4, 0]
    assert scored({1: "xx..xx"}, tracks).metrics["precision"] == 0.5


def test_ignored_rows_in_the_protocol():
    protocol = scored({1: "xxii", 2: "iiii"}, {1: "aaaa", 2: "bbb.", 9: "...c"}).protocol
    assert (protocol["ignored_rows"], protocol["dropped_predictions"]) == (6, 5)
    assert (protocol["true_boxes"], protocol["predicted_boxes"], protocol["false_positives"]) == (2, 3, 1)


@pytest.mark.parametrize(
    ("boxes", "dropped", "mota"),
    [
        ([(0, 10), (4, 14)], 1, 1.0),
        ([(1, 11)], 0, 1.0),
        ([(3, 13)], 1, 0.0),
        ([(4, 14), (4, 14)], 1, 1.0),
        ([(12, 22)], 0, -1.0),
    ],
    ids=[
        "one each",
        "nearer to the object",
        "nearer to the ignored",
        "one ignored row drops one",
        "on neither",
    ],
)
def test_tracks_between_an_object_and_an_ignored_row(boxes, dropped, mota):
    labels = labels_of({1: "x", 2: "i"}, 1)
    truth = labels.ground_truth.assign(x1=[0.0, 4.0], x2=[10.0, 14.0])
    tracks = tracks_of([0] * len(boxes), range(1, len(boxes) + 1), [(x1, 0, x2, 10) for x1, x2 in boxes])
    # A third object keeps the metrics defined where every other track is dropped.
    far = labels_of({3: "x"}, 1).ground_truth
    tracks = pd.concat([tracks, tracks_of([0], [9], [(300, 0, 310, 10)])])
    labels = replace(labels, ground_truth=pd.concat([truth, far]))
    scores = score(tracks, labels, times_s=np.zeros(1), threshold=0.3)
    assert scores.protocol["dropped_predictions"] == dropped
    assert scores.metrics["mota"] == pytest.approx((1 + mota) / 2)


def test_a_pair_at_the_threshold_matches():
    labels = labels_of({1: "x"}, 1)
    tracks = tracks_of([0], [1], [(100, 0, 105, 10)])
    for threshold, recall in ((0.5, 1.0), (0.51, 0.0)):
        scores = score(tracks, labels, times_s=np.zeros(1), threshold=threshold)
        assert scores.metrics["recall"] == recall
        assert scores.protocol["iou_threshold"] == threshold


MEANS = {"player": (1, 2), "referee": (3,), "dog": ()}


def test_each_prompt_against_its_own_objects():
    """Track c follows the referee as a player: found in the total, wrong for the prompt."""
    truth, tracks = {1: "xxxx", 2: "xxxx", 3: "xxxx"}, {1: "aaaa", 2: "bbbb", 3: "cccc"}
    prompts = dict.fromkeys("abc", "player")
    scores = scored(truth, tracks, prompts, means=MEANS, prompts=["player", "referee", "dog"])
    assert scores.metrics["mota"] == 1.0
    player, referee, dog = (scores.per_prompt[name] for name in ("player", "referee", "dog"))
    assert (player["precision"], player["recall"], player["true_objects"]) == (8 / 12, 1.0, 2)
    assert (referee["recall"], referee["predicted_tracks"], referee["true_objects"]) == (None, 0, 1)
    assert scores.protocol["prompts"]["referee"]["misses"] == 4
    assert (dog["mota"], dog["predicted_tracks"], dog["true_objects"]) == (None, 0, 0)
    assert scores.protocol["prompts_overlap"] is False


def test_only_the_objects_that_the_prompts_mean_are_required():
    scores = scored(
        {1: "xx", 2: "xx", 3: "xx"}, {3: "aa", 1: "bb"}, {"a": "referee", "b": "referee"}, means=MEANS
    )
    assert (scores.metrics["true_objects"], scores.metrics["recall"], scores.metrics["precision"]) == (
        1,
        1.0,
        0.5,
    )
    assert scores.events["prompt"].tolist() == ["referee"]


def test_a_prompt_that_found_nothing_counts_in_the_total():
    truth, tracks = {1: "xx", 2: "xx", 3: "xx"}, {1: "aa", 2: "bb"}
    prompts = dict.fromkeys("ab", "player")
    assert scored(truth, tracks, prompts, means=MEANS).metrics["recall"] == 1.0
    both = scored(truth, tracks, prompts, means=MEANS, prompts=["player", "referee"])
    assert both.metrics["recall"] == pytest.approx(4 / 6)
    assert both.events[["event", "object_id", "prompt"]].to_numpy().tolist() == [["miss", 3, "referee"]]


def test_a_prompt_without_labels_has_no_scores():
    scores = scored(
        {1: "xx", 2: "xx"},
        {1: "aa", 2: "cc", 9: "bb"},
        {"a": "player", "b": "hat", "c": "player"},
        means=MEANS,
    )
    assert set(scores.per_prompt["hat"].values()) == {None}
    assert scores.protocol["prompts"]["hat"]["labelled"] is False
    assert (scores.metrics["precision"], scores.metrics["recall"]) == (1.0, 1.0)
    assert scores.protocol["predictions_of_unlabelled_prompts"] == 2
    alone = scored({1: "xx"}, {1: "aa"}, {"a": "hat"}, means=MEANS)
    assert set(alone.metrics.values()) == {None}
    assert len(alone.events) == 0


def test_an_object_that_two_prompts_mean_is_to_be_found_once():
    means = {"player": (1,), "player in white": (1,)}
    tracks = tracks_of([0, 0], [1, 2], [(100, 0, 110, 10)] * 2, ["player", "player in white"])
    scores = score(tracks, labels_of({1: "x"}, 1, means), times_s=np.zeros(1))
    assert [scores.per_prompt[name]["mota"] for name in means] == [1.0, 1.0]
    assert (scores.metrics["recall"], scores.metrics["precision"]) == (1.0, 0.5)
    assert scores.protocol["prompts_overlap"] is True


def half(left: bool) -> str:
    mask = np.zeros((20, 1000), bool)
    mask[:10, 100:105] = left
    mask[:10, 105:110] = not left
    return encode_rle(mask)


def test_masks_tell_apart_what_boxes_do_not():
    labels = labels_of({1: "x"}, 1, masks=[half(True)])
    boxes = [(100, 0, 110, 10)]
    same, other = (tracks_of([0], [1], boxes, mask_rle=half(left)) for left in (True, False))
    recalls = [
        score(tracks, labels, times_s=np.zeros(1), match=match).metrics["recall"]
        for tracks in (same, other)
        for match in ("box", "mask")
    ]
    assert recalls == [1.0, 1.0, 1.0, 0.0]
    assert score(same, labels, times_s=np.zeros(1), match="mask").protocol["match"] == "mask"


def test_ignored_rows_may_lack_a_mask():
    labels = labels_of({1: "xi"}, 2, masks=[half(True), None])
    tracks = tracks_of([0, 1], [1, 1], [(100, 0, 110, 10)] * 2, mask_rle=half(True))
    scores = score(tracks, labels, times_s=np.arange(2), match="mask")
    assert (scores.metrics["recall"], scores.protocol["false_positives"]) == (1.0, 1)


def test_masks_are_needed_in_labelled_frames_only():
    labels = labels_of({1: "xx"}, 2, masks=[half(True), None], labelled=[0])
    boxes = [(100, 0, 110, 10)] * 2
    scores = score(
        tracks_of([0, 1], [1, 1], boxes, mask_rle=[half(True), None]),
        labels,
        times_s=np.arange(2),
        match="mask",
    )
    assert (scores.metrics["recall"], scores.protocol["frames_unlabelled"]) == (1.0, 1)


BAD = {
    "match": (dict(match="polygon"), SettingError, "match is 'polygon'; choose 'box' or 'mask'"),
    "threshold": (dict(threshold=0), SettingError, "the IoU threshold is 0; choose one above 0"),
    "percent": (dict(threshold=50), SettingError, "the IoU threshold is 50; choose one above 0 and up to 1"),
    "tracks without masks": (dict(match="mask"), SettingError, "track 1 has no mask in frame 0; score boxes"),
    "labels without masks": (
        dict(match="mask", detections=tracks_of([0], [1], [(0, 0, 5, 5)], mask_rle=half(True))),
        LabelsError,
        "game: frame 1 has no mask of object 1; add it or score boxes",
    ),
    "other length": (
        dict(times_s=np.arange(3)),
        LabelsError,
        "labels in game are for 2 frames, but .* has 3; use",
    ),
    "other video": (
        dict(detections=drawn({1: "aaa"})),
        LabelsError,
        "tracks reach frame 2, .* frame 1 .*; use",
    ),
    "no table of tracks": (
        dict(detections=pd.DataFrame()),
        TableError,
        "the tracks to score: table player_detections",
    ),
}


@pytest.mark.parametrize(("changed", "error", "sentence"), BAD.values(), ids=BAD.keys())
def test_bad_input(changed, error, sentence):
    arguments = dict(detections=drawn({1: "aa"}), times_s=np.arange(2)) | changed
    with pytest.raises(error, match=sentence):
        score(labels=labels_of({1: "xx"}, 2), **arguments)


def test_a_broken_mask_names_its_frame():
    labels = labels_of({1: "x"}, 1, masks=["P"])
    with pytest.raises(LabelsError, match="frame 1, labels or tracks: the mask 'P' is not COCO's"):
        score(
            tracks_of([0], [1], [(0, 0, 5, 5)], mask_rle=half(True)),
            labels,
            times_s=np.zeros(1),
            match="mask",
        )


def test_two_sequences_combined_by_their_counts():
    short = scored({1: "xx"}, {1: "aa"}, {"a": "player"}, means={"player": (1,)})
    long = scored(
        {1: "xxxxxx", 2: "iiiiii"},
        {1: "aa..bb", 2: "cccccc"},
        {"a": "player", "b": "player"},
        means={"player": (1,)},
    )
    both = combine([short, long])
    assert both.metrics["mota"] == pytest.approx(1 - 3 / 8)
    assert both.metrics["idf1"] == pytest.approx(2 * 4 / (8 + 6))
    assert (both.metrics["true_objects"], both.metrics["predicted_tracks"]) == (2, 3)
    assert both.metrics["fragments_per_object"] == 1.5
    assert both.metrics["longest_correct_run_s"] == 2.0
    assert both.metrics == both.per_prompt["player"]
    assert (both.protocol["frames_scored"], both.protocol["ignored_rows"]) == (8, 6)
    assert both.protocol["dropped_predictions"] == 6
    assert len(both.protocol["sequences"]) == 2
    assert len(both.protocol["labels_sha256"]) == 64


def test_combined_twice_gives_the_same_ratios():
    scores = scored({1: "xxxxxx", 2: "xx.xxx"}, {1: "aabbb.", 2: "bb.a.a", 9: "ccc..."})
    doubled = combine([scores, scores]).metrics
    for name, value in scores.metrics.items():
        if isinstance(value, float):
            assert doubled[name] == pytest.approx(value), name
        elif isinstance(value, int):
            assert doubled[name] == 2 * value, name


def test_combining_counts_a_video_without_tracks():
    found, empty = scored({1: "xx"}, {1: "aa"}), scored({1: "xxxx"}, {})
    assert combine([found, empty]).metrics["recall"] == pytest.approx(2 / 6)
    assert combine([empty]).metrics["recall"] is None
    assert combine([empty]).to_json() == empty.to_json()


def test_combining_what_does_not_belong_together():
    one = scored({1: "xx"}, {1: "aa"})
    with pytest.raises(
        SettingError, match=r"cannot be combined; score all runs with the same match and threshold"
    ):
        combine([one, scored({1: "xx"}, {1: "aa"}, threshold=0.7)])
    with pytest.raises(SettingError, match="no scores to combine; give at least one"):
        combine([])


def test_scores_survive_a_file():
    scores = scored(
        {1: "xxxx", 2: "xxxx"},
        {1: "aab.", 9: "cc.."},
        {"a": "player", "b": "player", "c": "hat"},
        means=MEANS,
    )
    content = scores.to_json()
    assert list(content) == ["metrics", "per_prompt", "protocol"]
    back = Scores.from_json(json.loads(json.dumps(content, allow_nan=False)), scores.events)
    assert back.to_json() == content
    assert combine([back, back]).to_json() == combine([scores, scores]).to_json()


def test_protocol_says_how():
    protocol = scored({1: "xxxx"}, {1: "aaaa"}).protocol
    assert (protocol["match"], protocol["iou_threshold"], protocol["labels_sha256"]) == ("box", 0.5, "0" * 64)
    assert (protocol["frames_scored"], protocol["true_objects"], protocol["true_boxes"]) == (4, 1, 4)
    assert protocol["libraries"]["motmetrics"] == "1.4.0"
    assert "TrackEval" in protocol["switch_counting"]
    assert protocol["hota_iou_thresholds"] == pytest.approx(list(ALPHA_THRESHOLDS))


def test_trackeval_counts_a_fragmentation_where_an_object_was_out_of_view():
    scores = scored({1: "xx.xx", 2: "xxxxx"}, {1: "aa.aa", 2: "bbbbb"})
    assert scores.metrics["num_fragmentations"] == 0
    assert scores.protocol["trackeval"] == {"num_switches": 0, "num_fragmentations": 1, "mota": 1.0}


def test_motmetrics_returns_to_the_old_track_where_trackeval_takes_the_best():
    """Two tracks lie on the object again: the one it had before its gap, and a better one."""
    box, poorer = (100, 0, 110, 10), (102, 0, 112, 10)
    tracks = tracks_of([0, 1, 3, 3], [1, 1, 1, 2], [box, box, poorer, box])
    # TrackEval forgets only in frames that hold some track.
    tracks = pd.concat([tracks, tracks_of(range(4), [3] * 4, [(200, 0, 210, 10)] * 4)])
    scores = score(tracks, labels_of({1: "xxxx", 2: "xxxx"}, 4), times_s=np.arange(4))
    assert scores.metrics["num_switches"] == 0
    assert scores.protocol["trackeval"]["num_switches"] == 1
    assert scores.metrics["mota"] - scores.protocol["trackeval"]["mota"] == pytest.approx(1 / 8)


def test_random_scenes_stay_in_range_and_agree_with_their_events():
    rng = np.random.default_rng(0)
    for _ in range(15):
        length, objects = int(rng.integers(1, 12)), int(rng.integers(0, 4))
        truth = {n: "".join(rng.choice(list("xxxi."), length)) for n in range(objects)}
        tracks: dict[int, list[str]] = {n: ["."] * length for n in range(6)}
        for frame in range(length):
            for letter in "abcd"[: rng.integers(0, 5)]:
                place = int(rng.integers(0, 6))
                if tracks[place][frame] == ".":
                    tracks[place][frame] = letter
        scores = scored(truth, {n: "".join(letters) for n, letters in tracks.items()})
        json.dumps(scores.to_json(), allow_nan=False)
        for name, value in scores.metrics.items():
            if isinstance(value, float) and name not in (
                "mota",
                "fragments_per_object",
                "longest_correct_run_s",
            ):
                assert 0 <= value <= 1, name
        check_events(scores)


def check_events(scores: Scores) -> None:
    """The log has each switch and fragment once, and each missed and wrong box in one run."""
    events = scores.events
    kinds = events["event"].value_counts()
    counts = scores.protocol["counts"]
    assert kinds.get("switch", 0) == counts["num_switches"]
    assert kinds.get("fragment", 0) == counts["num_fragmentations"]
    assert (events["last_frame"] >= events["frame"]).all()
    assert events["frame"].is_monotonic_increasing
    if scores.protocol["frames_unlabelled"] == 0:
        lengths = (events["last_frame"] - events["frame"] + 1).groupby(events["event"]).sum()
        assert lengths.get("miss", 0) == counts["misses"]
        assert lengths.get("false_positive", 0) == counts["false_positives"]


def test_box_iou_against_trackers():
    rng = np.random.default_rng(0)
    first, second = (np.cumsum(rng.uniform(0, 20, (n, 2, 2)), axis=1).reshape(n, 4) for n in (7, 9))
    np.testing.assert_allclose(box_iou(first, second), independent_box_iou(first, second), atol=1e-12)
    assert box_iou(np.zeros((1, 4)), np.zeros((1, 4))).tolist() == [[0.0]]
    assert box_iou(np.zeros((0, 4)), second).shape == (0, 9)


@pytest.fixture(scope="module")
def bytetracked(real_clips):
    """Per clip its labels, ByteTrack's output on its public detections, and the scores."""

    def run(clip: str) -> tuple[Labels, pd.DataFrame, Scores]:
        labels = read_labels(real_clips / clip)
        found = read_detections(real_clips / clip / "det" / "det.txt")
        tracker = ByteTrackTracker(frame_rate=labels.fps, track_activation_threshold=0.4)
        columns: tuple[list, list, list] = ([], [], [])
        for frame in range(labels.frame_count):
            rows = found[found["frame"] == frame]
            seen = supervision.Detections(
                xyxy=rows[BOX].to_numpy(np.float32),
                confidence=rows["confidence"].to_numpy(np.float32),
                class_id=np.zeros(len(rows), int),
            )
            tracked = tracker.update(seen)
            for box, tracking_id in zip(tracked.xyxy, tracked.tracker_id, strict=True):
                if tracking_id >= 0:
                    for column, value in zip(columns, (frame, tracking_id + 1, box), strict=True):
                        column.append(value)
        tracks = tracks_of(*columns)
        return labels, tracks, score(tracks, labels, times_s=np.arange(labels.frame_count) / labels.fps)

    return {clip: run(clip) for clip in CLIPS}


@pytest.mark.parametrize("clip", CLIPS)
def test_labels_as_tracks_are_perfect(real_clips, clip):
    labels = read_labels(real_clips / clip)
    truth = labels.ground_truth
    tracks = tracks_of(truth["frame"], truth["object_id"] + 1, truth[BOX])
    scores = score(tracks, labels, times_s=np.arange(labels.frame_count) / labels.fps)
    ideal = [*list(METRICS)[:10], "purity", "fragments_per_object"]
    assert {name: scores.metrics[name] for name in ideal} == dict.fromkeys(ideal, 1.0)
    objects = truth["object_id"].nunique()
    names = [
        "num_switches",
        "num_fragmentations",
        "mostly_tracked",
        "mostly_lost",
        "predicted_tracks",
        "true_objects",
    ]
    assert [scores.metrics[name] for name in names] == [0, 0, objects, 0, objects, objects]
    assert scores.protocol["trackeval"]["mota"] == 1.0
    assert len(scores.events) == 0


@pytest.mark.parametrize("clip", CLIPS)
def test_parity_with_trackers_evaluation_of_files(bytetracked, real_clips, tmp_path, clip):
    """Nothing of ours between the files and their figures: reading, IoU and matching are trackers'."""
    _, tracks, scores = bytetracked[clip]
    rows = tracks.assign(
        frame=tracks["frame"] + 1, w=tracks["x2"] - tracks["x1"], h=tracks["y2"] - tracks["y1"]
    )
    rows = rows[["frame", "tracking_id", "x1", "y1", "w", "h", "confidence"]].assign(x=-1, y=-1, z=-1)
    rows.to_csv(tmp_path / "tracks.txt", header=False, index=False)
    # trackers takes the world coordinates in column 8 of MOT15 files for classes, so all are class 1 here.
    truth = (real_clips / clip / "gt" / "gt.txt").read_text().splitlines()
    truth = [",".join([*row.split(",")[:7], "1", "1"]) for row in truth]
    (tmp_path / "gt.txt").write_text("\n".join(truth) + "\n")
    theirs = evaluate_mot_sequence(
        tmp_path / "gt.txt", tmp_path / "tracks.txt", ["CLEAR", "Identity", "HOTA"]
    )
    clear, identity, hota = theirs.CLEAR, theirs.Identity, theirs.HOTA
    trackeval = scores.protocol["trackeval"]
    assert clear.IDSW > 0
    assert (trackeval["num_switches"], trackeval["num_fragmentations"]) == (clear.IDSW, clear.Frag)
    assert trackeval["mota"] == pytest.approx(clear.MOTA, abs=1e-9)
    ours = [scores.metrics[name] for name in ("idf1", "idp", "idr", "hota", "deta", "assa")]
    parity = [identity.IDF1, identity.IDP, identity.IDR, hota.HOTA, hota.DetA, hota.AssA]
    assert ours == pytest.approx(parity, abs=1e-9)
    # The other matching makes a small difference here, as the protocol says.
    ours = [scores.metrics[name] for name in ("mota", "motp_iou", "recall", "precision")]
    assert ours == pytest.approx([clear.MOTA, clear.MOTP, clear.CLR_Re, clear.CLR_Pr], abs=0.015)


def independent_clear(frames, threshold: float) -> dict[str, float]:
    """CLEAR after Bernardin & Stiefelhagen 2008, fragmentations after Li et al. 2009, written out plainly."""
    last: dict[int, int] = {}
    history: dict[int, list[bool]] = {}
    totals = dict.fromkeys(["matches", "misses", "false_positives", "num_switches"], 0)
    iou_sum = 0.0
    for objects, tracks, iou in frames:
        pairs = {}
        for i, one in enumerate(objects):
            for j, track in enumerate(tracks):
                if last.get(one) == track and iou[i, j] >= threshold and j not in pairs.values():
                    pairs[i] = j
        free_i = [i for i in range(len(objects)) if i not in pairs]
        free_j = [j for j in range(len(tracks)) if j not in pairs.values()]
        cost = np.array([[1 - iou[i, j] if iou[i, j] >= threshold else 1e6 for j in free_j] for i in free_i])
        if cost.size:
            for row, column in zip(*linear_sum_assignment(cost), strict=True):
                if cost[row, column] < 1e6:
                    i, j = free_i[row], free_j[column]
                    totals["num_switches"] += last.get(objects[i], tracks[j]) != tracks[j]
                    pairs[i] = j
        for i, one in enumerate(objects):
            history.setdefault(one, []).append(i in pairs)
        for i, j in pairs.items():
            last[objects[i]] = tracks[j]
            iou_sum += iou[i, j]
        totals["matches"] += len(pairs)
        totals["misses"] += len(objects) - len(pairs)
        totals["false_positives"] += len(tracks) - len(pairs)
    texts = ["".join(".x"[matched] for matched in one).strip(".") for one in history.values()]
    return totals | {
        "num_fragmentations": sum(text.count("x.") for text in texts),
        "iou_sum": iou_sum,
        "mostly_tracked": sum(np.mean(one) >= 0.8 for one in history.values()),
        "mostly_lost": sum(np.mean(one) < 0.2 for one in history.values()),
    }


def independent_hota(frames) -> tuple[float, float, float]:
    """HOTA, DetA and AssA after Luiten et al. 2020, with dictionaries and loops."""
    shared: dict[tuple[int, int], float] = {}
    own: dict[tuple[str, int], int] = {}
    for objects, tracks, iou in frames:
        for kind, ids in (("object", objects), ("track", tracks)):
            for one in ids:
                own[kind, one] = own.get((kind, one), 0) + 1
        for i, one in enumerate(objects):
            for j, track in enumerate(tracks):
                rivals = iou[i].sum() + iou[:, j].sum() - iou[i, j]
                if rivals > 0:
                    shared[one, track] = shared.get((one, track), 0) + iou[i, j] / rivals
    matches = []
    for objects, tracks, iou in frames:
        gain = np.zeros((len(objects), len(tracks)))
        for i, one in enumerate(objects):
            for j, track in enumerate(tracks):
                both = shared.get((one, track), 0.0)
                gain[i, j] = iou[i, j] * both / (own["object", one] + own["track", track] - both)
        rows, columns = linear_sum_assignment(-gain)
        matches += [(objects[i], tracks[j], iou[i, j]) for i, j in zip(rows, columns, strict=True)]
    true_boxes = sum(number for (kind, _), number in own.items() if kind == "object")
    predicted_boxes = sum(number for (kind, _), number in own.items() if kind == "track")
    values = []
    for alpha in np.arange(1, 20) / 20:
        pairs = [(one, track) for one, track, overlap in matches if overlap >= alpha - 1e-12]
        number = Counter(pairs)
        overlaps = [
            number[pair] / (own["object", pair[0]] + own["track", pair[1]] - number[pair]) for pair in pairs
        ]
        deta = len(pairs) / (true_boxes + predicted_boxes - len(pairs))
        assa = float(np.mean(overlaps)) if pairs else 0.0
        values.append((np.sqrt(deta * assa), deta, assa))
    hota, deta, assa = np.mean(values, axis=0)
    return float(hota), float(deta), float(assa)


@pytest.fixture(scope="module")
def frames_of(bytetracked):
    """Per clip and frame the object ids, the tracking ids and trackers' own IoU."""

    def rows(table: pd.DataFrame, name: str, count: int) -> list[tuple[list[int], np.ndarray]]:
        table = table.sort_values(["frame", name])
        return [
            (table[name].to_numpy()[chosen].tolist(), table[BOX].to_numpy()[chosen])
            for chosen in (np.flatnonzero(table["frame"] == frame) for frame in range(count))
        ]

    return {
        clip: [
            (objects, ids, independent_box_iou(true, found))
            for (objects, true), (ids, found) in zip(
                rows(labels.ground_truth, "object_id", labels.frame_count),
                rows(tracks, "tracking_id", labels.frame_count),
                strict=True,
            )
        ]
        for clip, (labels, tracks, _) in bytetracked.items()
    }


@pytest.mark.parametrize("clip", CLIPS)
def test_parity_with_plain_clear(bytetracked, frames_of, clip):
    for name, value in independent_clear(frames_of[clip], 0.5).items():
        scores = bytetracked[clip][2]
        assert scores.protocol["counts"][name] == pytest.approx(value), name


@pytest.mark.parametrize("clip", CLIPS)
def test_parity_with_plain_hota(bytetracked, frames_of, clip):
    scores = bytetracked[clip][2]
    expected = independent_hota(frames_of[clip])
    assert [scores.metrics[name] for name in ("hota", "deta", "assa")] == pytest.approx(expected, abs=1e-9)


def test_parity_of_combined_clips(bytetracked, frames_of):
    parts: dict[str, list] = {"clear": [], "identity": [], "hota": []}
    for frames in frames_of.values():
        columns = [list(column) for column in zip(*frames, strict=True)]
        objects, ids = ([np.array(one, np.int64) for one in column] for column in columns[:2])
        parts["clear"].append(compute_clear_metrics(objects, ids, columns[2]))
        parts["identity"].append(compute_identity_metrics(objects, ids, columns[2]))
        parts["hota"].append(compute_hota_metrics(objects, ids, columns[2]))
    both = combine([scores for _, _, scores in bytetracked.values()])
    identity = aggregate_identity_metrics(parts["identity"])
    hota = aggregate_hota_metrics(parts["hota"])
    ours = [both.metrics[name] for name in ("idf1", "idp", "idr", "hota", "deta", "assa")]
    theirs = [
        *(identity[name] for name in ("IDF1", "IDP", "IDR")),
        *(hota[name] for name in ("HOTA", "DetA", "AssA")),
    ]
    assert ours == pytest.approx(theirs, abs=1e-9)
    assert both.protocol["trackeval"]["mota"] == pytest.approx(
        aggregate_clear_metrics(parts["clear"])["MOTA"]
    )


@pytest.mark.parametrize("clip", CLIPS)
def test_events_of_real_clips(bytetracked, clip):
    _, _, scores = bytetracked[clip]
    assert len(scores.events) > 20
    check_events(scores)


def test_order_of_rows_does_not_matter(bytetracked):
    labels, tracks, scores = bytetracked["tud-campus"]
    shuffled = replace(labels, ground_truth=labels.ground_truth.sample(frac=1, random_state=0))
    again = score(
        tracks.sample(frac=1, random_state=1), shuffled, times_s=np.arange(labels.frame_count) / labels.fps
    )
    assert again.to_json() == scores.to_json()
    pd.testing.assert_frame_equal(again.events, scores.events)


def test_masks_of_full_boxes_score_as_the_boxes_do(bytetracked):
    """On whole pixels a box and the mask that fills it have the same IoU."""
    labels, tracks, _ = bytetracked["tud-campus"]

    def filled(table: pd.DataFrame) -> pd.DataFrame:
        corners = table[BOX].round().clip(lower=0, upper=pd.Series([639, 479, 640, 480], BOX), axis=1)
        rles = []
        for x1, y1, x2, y2 in corners.astype(int).to_numpy():
            mask = np.zeros((480, 640), bool)
            mask[y1:y2, x1:x2] = True
            rles.append(encode_rle(mask))
        return table.assign(**corners, mask_rle=pd.array(rles, dtype="string"))

    drawn_labels, drawn_tracks = replace(labels, ground_truth=filled(labels.ground_truth)), filled(tracks)
    ious = [compare(drawn_tracks, drawn_labels, match).iou for match in ("box", "mask")]
    for box, mask in zip(*ious, strict=True):
        np.testing.assert_allclose(box, mask, atol=1e-12)
    times_s = np.arange(labels.frame_count) / labels.fps
    box, mask = (
        score(drawn_tracks, drawn_labels, times_s=times_s, match=match).metrics for match in ("box", "mask")
    )
    assert 0 < box["mota"] < 1
    assert [mask[name] for name in METRICS if isinstance(box[name], float)] == pytest.approx(
        [value for value in box.values() if isinstance(value, float)]
    )
