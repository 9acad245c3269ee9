"""Guesses at causes, wrong numbers and suspects, from small scenes in which the cause is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from courtside import tables
from courtside.report import causes
from courtside.report.matches import followed_by
from courtside.report.moments import find_errors, wrong_numbers
from courtside.report.scene import Scene
from courtside.report.suspects import jumps, number_changes, short_tracks, team_swaps
from courtside.scoring import score
from courtside.video import Video, VideoWriter

FPS, FRAMES, WIDTH, HEIGHT = 25.0, 40, 1000, 600
TIMES = np.arange(FRAMES) / FPS
Path = list[tuple[int, float, float]]


def typed(table: pd.DataFrame, schema) -> pd.DataFrame:
    columns = schema.columns
    return table[list(columns)].astype({name: str(column.dtype) for name, column in columns.items()})


def boxes(key: str, paths: dict[int, Path], wide: float = 40, high: float = 100) -> pd.DataFrame:
    """Rows of people at (frame, x, y) of their box's upper left corner."""
    rows = [(frame, who, x, y, x + wide, y + high) for who, path in paths.items() for frame, x, y in path]
    return pd.DataFrame(rows, columns=["frame", key, "x1", "y1", "x2", "y2"])


def truth_of(paths: dict[int, Path], ignored: tuple[int, ...] = ()) -> pd.DataFrame:
    table = boxes("object_id", paths)
    table = table.assign(ignored=table["object_id"].isin(ignored), visibility=1.0, mask_rle=None)
    return typed(table, tables.GROUND_TRUTH)


def tracks_of(paths: dict[int, Path], numbers: dict[int, str] | None = None) -> pd.DataFrame:
    table = boxes("tracking_id", paths)
    table = table.assign(
        video="clip.mp4", time_s=table["frame"] / FPS, prompt=None, class_id=0, class_name="player",
        confidence=0.9, mask_rle=None, jersey_number=table["tracking_id"].map(numbers or {}), player_id=None,
    )  # fmt: skip
    return typed(table, tables.PLAYER_DETECTIONS)


def line(x: float, y: float, frames: range = range(FRAMES), dx: float = 0.0) -> Path:
    return [(frame, x + dx * frame, y) for frame in frames]


def scored(truth: pd.DataFrame, tracks: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, Scene]:
    from pathlib import Path as Folder

    from courtside.labels import Labels

    labels = Labels(
        Folder("labels"), "clip", WIDTH, HEIGHT, FPS, FRAMES, truth, None, None, np.arange(FRAMES), "0" * 64
    )
    events = score(tracks, labels, times_s=TIMES).events
    matches = followed_by(truth, events, tracks, set(truth["object_id"]))
    frames = np.arange(FRAMES)
    scene = Scene(truth, tracks, matches, size=(WIDTH, HEIGHT), times_s=TIMES, labelled_frames=frames)
    return events, matches, scene


HALF, REST = range(20), range(20, FRAMES)
AWAY = line(800, 300)
HIDDEN = range(15, 25)
SEEN = [frame for frame in range(FRAMES) if frame not in HIDDEN]


class TestCauses:
    @pytest.mark.parametrize(
        ("name", "objects", "tracks", "event", "cause", "said"),
        [
            (
                "behind somebody in front",
                {1: line(300, 200), 2: [(f, 310, 230) for f in HIDDEN], 3: AWAY},
                {1: [(f, 300, 200) for f in SEEN], 2: [(f, 310, 230) for f in HIDDEN], 3: AWAY},
                "miss", "occluded", "behind player 2",
            ),
            (
                "found again after that",
                {1: line(300, 200), 2: [(f, 310, 230) for f in HIDDEN], 3: AWAY},
                {1: [(f, 300, 200) for f in SEEN], 2: [(f, 310, 230) for f in HIDDEN], 3: AWAY},
                "fragment", "occluded", "behind player 2",
            ),
            (
                "at the edge",
                {1: [(f, 960 if f in HIDDEN else 900, 200) for f in range(FRAMES)], 3: AWAY},
                {1: [(f, 900, 200) for f in SEEN], 3: AWAY},
                "miss", "left the frame", "right edge",
            ),
            (
                "never followed before",
                {1: line(300, 200), 3: AWAY},
                {1: line(300, 200, range(10, FRAMES)), 3: AWAY},
                "miss", "late start", "first 0.40 s",
            ),
            (
                "a box too far off",
                {1: line(300, 200), 3: AWAY},
                {1: [(f, 325 if f in HIDDEN else 300, 200) for f in range(FRAMES)], 3: AWAY},
                "miss", "loose box", "track 1 overlaps by only 0.23",
            ),
            (
                "no reason to be seen",
                {1: line(300, 200), 3: AWAY},
                {1: [(f, 300, 200) for f in SEEN], 3: AWAY},
                "miss", "unclear", "",
            ),
            (
                "two who cross",
                {1: line(300, 200, dx=5), 2: line(500, 210, dx=-5)},
                {1: line(300, 200, HALF, 5) + line(500, 210, REST, -5),
                 2: line(500, 210, HALF, -5) + line(300, 200, REST, 5)},
                "switch", "crossed", "who has track",
            ),
            (
                "out of view and back",
                {1: line(0, 200, range(14)) + line(0, 200, range(30, FRAMES)), 3: AWAY},
                {1: line(0, 200, range(14)), 2: line(0, 200, range(30, FRAMES)), 3: AWAY},
                "switch", "left the frame", "out of view for 0.6 s, at the left edge",
            ),
            (
                "a new id for no reason",
                {1: line(300, 200), 3: AWAY},
                {1: line(300, 200, HALF), 2: line(300, 200, REST), 3: AWAY},
                "switch", "unclear", "",
            ),
            (
                "second track on a player",
                {1: line(300, 200), 3: AWAY},
                {1: line(300, 200), 2: line(312, 200), 3: AWAY},
                "false_positive", "double", "player 1, who has track 1",
            ),
            (
                "of a player's size, on nobody",
                {1: line(300, 200), 3: AWAY},
                {1: line(300, 200), 2: line(600, 50), 3: AWAY},
                "false_positive", "bystander", "nobody labelled",
            ),
            (
                "where somebody was",
                {1: line(300, 200, HALF), 3: AWAY},
                {1: line(300, 200), 3: AWAY},
                "false_positive", "left behind", "player 1 was followed here",
            ),
        ],
    )  # fmt: skip
    def test_known_causes(self, name, objects, tracks, event, cause, said):
        events, _, scene = scored(truth_of(objects), tracks_of(tracks))
        guesses = causes.guess_causes(events, scene, lambda asked: [False] * len(asked))
        own = [guess for kind, guess in zip(events["event"], guesses, strict=True) if kind == event]
        assert own, "the scene has no such event"
        assert {guess.cause for guess in own} == {cause}
        assert said in own[0].guess

    def test_people_nobody_asked_for_are_bystanders(self):
        truth = truth_of({1: line(300, 200), 9: line(600, 200)})
        tracks = tracks_of({1: line(300, 200), 2: line(602, 200)})
        matches = followed_by(truth, tables.empty(tables.EVENTS), tracks, {1})
        frames = np.arange(FRAMES)
        scene = Scene(truth, tracks, matches, size=(WIDTH, HEIGHT), times_s=TIMES, labelled_frames=frames)
        event = {"event": "false_positive", "frame": 0, "last_frame": 39, "tracking_id": 2}
        events = pd.DataFrame([event]).reindex(columns=list(tables.EVENTS.columns))
        (guess,) = causes.guess_causes(events, scene, lambda asked: [False] * len(asked))
        assert guess == ("bystander", "on player 9, whom nobody asked for")

    def test_blur_is_asked_for_last_and_once(self):
        asked = []
        events, _, scene = scored(
            truth_of({1: line(300, 200)}), tracks_of({1: [(f, 300, 200) for f in SEEN]})
        )
        guesses = causes.guess_causes(events, scene, lambda each: asked.append(each) or [True] * len(each))
        assert asked == [[("truth", 1, 15), ("truth", 1, 25)]]
        assert {guess.cause for guess in guesses} == {"blur"}

    def test_every_cause_is_described(self):
        assert set(causes.CAUSES) >= {"occluded", "left the frame", "crossed", "bystander", "blur"}

    def test_a_blurred_player_is_told_from_a_sharp_one(self, tmp_path):
        import cv2

        noise = np.random.default_rng(0).integers(0, 255, (100, 40, 3), np.uint8)
        with VideoWriter(tmp_path / "proxy.mp4", WIDTH, HEIGHT, FPS) as writer:
            for frame in range(FRAMES):
                image = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
                image[200:300, 300:340] = cv2.GaussianBlur(noise, (0, 0), 5) if frame in HIDDEN else noise
                image[200:300, 600:640] = noise
                writer.write(image)
        seen = {who: [(f, x, 200) for f in SEEN] for who, x in ((1, 300), (2, 600))}
        tracks, truth = tracks_of(seen), truth_of({1: line(300, 200), 2: line(600, 200)})
        events, matches, scene = scored(truth, tracks)
        rows = find_errors(events, scene, tracks, matches, None, Video(tmp_path / "proxy.mp4"))
        missed = {row.who: row.cause for row in rows if row.kind == "miss"}
        assert missed == {1: "blur", 2: "unclear"}
        assert [(row.before, row.frame, row.after) for row in rows if row.kind == "miss"] == [(5, 15, 25)] * 2


class TestWrongNumbers:
    ROSTER = pd.DataFrame(
        {
            "object_id": [1, 3],
            "team": pd.array(["white"] * 2),
            "jersey_number": pd.array(["27", "4"], "string"),
        }
    )

    @pytest.mark.parametrize(
        ("name", "numbers", "cause", "guess"),
        [
            ("right", {1: "27", 3: "4"}, None, None),
            ("not read", {}, None, None),
            ("half of it", {1: "7"}, "misread", "7 instead of 27"),
            ("another digit", {1: "21"}, "misread", "21 instead of 27"),
            ("quite another", {1: "8"}, "unclear", "8 instead of 27"),
        ],
    )
    def test_rows(self, name, numbers, cause, guess):
        paths = {1: line(300, 200), 3: AWAY}
        tracks = tracks_of(paths, numbers)
        _, matches, scene = scored(truth_of(paths), tracks)
        rows = wrong_numbers(scene, tracks, matches, self.ROSTER)
        assert [(row.cause, row.guess) for row in rows] == ([] if cause is None else [(cause, guess)])
        assert all((row.frame, row.last_frame, row.who) == (0, 39, 1) for row in rows)

    def test_a_number_carried_over_from_another_player(self):
        tracks = tracks_of({1: line(300, 200, HALF) + line(800, 300, REST)}, {1: "27"})
        _, matches, scene = scored(truth_of({1: line(300, 200), 3: AWAY}), tracks)
        (row,) = wrong_numbers(scene, tracks, matches, self.ROSTER)
        assert (row.cause, row.who, row.frame, row.last_frame) == ("mixed up", 3, 20, 39)
        assert "27 instead of 4, the number of player 1" in row.guess


class TestSuspects:
    @pytest.mark.parametrize(
        ("name", "paths", "found"),
        [
            ("a second of it", {1: line(300, 200, range(5, 35))}, []),
            ("cut short by the start", {1: line(300, 200, range(10))}, []),
            ("a flicker", {1: line(300, 200, range(5, 10))}, [("flicker", "0.20 s, 5 frames")]),
            (
                "a piece of a longer one",
                {1: line(300, 200, range(2, 8)), 2: line(300, 200, range(12, 40))},
                [("fragment", "0.24 s, 6 frames, perhaps of track 2")],
            ),
        ],
    )
    def test_short_tracks(self, name, paths, found):
        rows = short_tracks(tracks_of(paths), TIMES)
        assert [(row.cause, row.guess) for row in rows] == found

    @pytest.mark.parametrize(
        ("name", "paths", "found"),
        [
            ("a sprint", {1: line(100, 200, dx=18)}, []),
            ("a jump", {1: line(300, 200, HALF) + line(480, 200, REST)}, [(20, "moved")]),
            ("a gap is no jump", {1: line(300, 200, HALF) + line(480, 200, range(30, 40))}, []),
            (
                "the camera turned, and all with it",
                {i: line(100 * i, 200, HALF) + line(100 * i + 150, 200, REST) for i in range(1, 6)},
                [],
            ),
        ],
    )
    def test_jumps(self, name, paths, found):
        assert [(row.frame, row.cause) for row in jumps(tracks_of(paths), TIMES)] == found

    def test_a_box_that_doubles_at_once(self):
        tracks = tracks_of({1: line(300, 200)})
        tracks.loc[tracks["frame"] >= 20, "y1"] = 90.0
        assert [(row.frame, row.cause) for row in jumps(tracks, TIMES)] == [(20, "resized")]

    @pytest.mark.parametrize(("name", "swap"), [("they swap", True), ("they keep their ids", False)])
    def test_team_swaps(self, tmp_path, name, swap):
        one = [(frame, 100.0 + 10 * frame, 200.0) for frame in range(FRAMES)]
        other = [(frame, 500.0 - 10 * frame, 205.0) for frame in range(FRAMES)]
        with VideoWriter(tmp_path / "proxy.mp4", WIDTH // 2, HEIGHT // 2, FPS) as writer:
            for (_, x, y), (_, u, v) in zip(one, other, strict=True):
                image = np.full((HEIGHT, WIDTH, 3), 120, np.uint8)
                for left, top, color in ((x, y, (230, 230, 230)), (u, v, (150, 20, 30))):
                    image[int(top) : int(top) + 100, int(left) : int(left) + 40] = color
                writer.write(image[::2, ::2])
        meet = 20
        paths = {1: one, 2: other}
        if swap:
            paths = {1: one[:meet] + other[meet:], 2: other[:meet] + one[meet:]}
        rows = list(team_swaps(tracks_of(paths), Video(tmp_path / "proxy.mp4"), TIMES, WIDTH))
        assert [(row.kind, row.tracks) for row in rows] == ([("team_swap", (1, 2))] if swap else [])
        assert all(20 <= row.frame <= 24 for row in rows)

    @pytest.mark.parametrize(
        ("name", "texts", "found"),
        [
            ("one player", ["12"] * 6, []),
            (
                "and another from then on",
                ["12"] * 3 + ["34"] * 3,
                [(30, "reads 12 until 2.0 s, and 34 from 3.0 s on")],
            ),
            ("one odd reading", ["12"] * 5 + ["34"], []),
            ("to and fro is a poor reader", ["12", "34"] * 4, []),
            ("half hidden", ["25"] * 3 + ["2"] * 3, []),
            ("unclear", ["12"] * 3 + [None] * 5, []),
        ],
    )
    def test_number_changes(self, name, texts, found):
        frames = 10 * np.arange(len(texts))
        reads = pd.DataFrame({"tracking_id": 7, "frame": frames, "time_s": frames / 10, "text": texts})
        rows = list(number_changes(reads.assign(confidence=0.9)))
        assert [(row.frame, row.guess) for row in rows] == found
        assert not list(number_changes(reads.assign(confidence=0.3)))
