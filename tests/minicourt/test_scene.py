"""The rendered court: deterministic, exactly labelled, and as hard as each level says."""

from __future__ import annotations

import csv
import itertools
import json

import numpy as np
import pytest

from courtside.masks import decode_rle
from courtside.scoring.frames import box_iou
from courtside.video import Video
from minicourt.__main__ import main
from minicourt.palette import JERSEY_NAMES, JERSEYS, luminance, shade_names
from minicourt.scene import LEVELS, Scene


@pytest.mark.parametrize("level", LEVELS)
def test_same_seed_gives_same_frames_and_another_seed_does_not(level):
    def film(seed):
        scene = Scene(level, seed)
        frames = []
        for _ in range(3):
            scene.step()
            frames.append(scene.render(320, 180))
        return frames

    first, again, other = film(3), film(3), film(4)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a.image, b.image)
        np.testing.assert_array_equal(a.ids, b.ids)
    assert any((a.image != b.image).any() for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("level", LEVELS)
def test_labels_agree_with_the_pixels(level):
    scene = Scene(level, 5)
    for _ in range(10):
        scene.step()
    rendered = scene.render(640, 360)
    assert rendered.image.shape == (360, 640, 3)
    assert rendered.image.dtype == np.uint8
    assert set(np.unique(rendered.ids)) - {0} == set(rendered.boxes)
    for object_id, (x1, y1, x2, y2) in rendered.boxes.items():
        rows, columns = np.nonzero(rendered.ids == object_id)
        assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (x1, y1, x2, y2)
        assert rendered.area[object_id] == len(rows)
        assert 0 < rendered.visible[object_id] <= 1


def test_nearer_people_cover_farther_ones():
    scene = Scene("crowd", 2)
    front, behind = scene.people[0], scene.people[1]
    for person in scene.people:
        person.position = np.array([40.0, scene.far_m])
    behind.position = np.array([0.0, scene.near_m + 2.0])
    alone = scene.render(640, 360).area[behind.object_id]
    front.position = np.array([0.0, scene.near_m + 1.0])
    covered = scene.render(640, 360)
    assert covered.visible[front.object_id] > 0.99
    assert covered.area.get(behind.object_id, 0) < 0.7 * alone


@pytest.mark.parametrize(
    ("level", "players", "referees"), [(name, spec.players, spec.referees) for name, spec in LEVELS.items()]
)
def test_levels_hold_the_people_they_promise(level, players, referees):
    for seed in range(8):
        kinds = [person.kind for person in Scene(level, seed).people]
        assert players[0] <= kinds.count("player") <= players[1]
        assert referees[0] <= kinds.count("referee") <= referees[1]


def _crowded(level: str) -> float:
    """The share of players in the picture whose whole bodies' boxes overlap somebody's by an IoU over 0.3."""
    highest = []
    for seed in range(24):
        scene = Scene(level, seed)
        for frame in range(81):
            if frame % 20 == 0:
                camera, boxes = scene.camera(), []
                for person in scene.people:
                    head, _ = camera.project(np.array([*person.position, person.looks.stature_m]), 16, 9)
                    feet, _ = camera.project(np.array([*person.position, 0.0]), 16, 9)
                    middle, half = (head[0] + feet[0]) / 2, 0.24 * (feet[1] - head[1])
                    if person.kind == "player" and -half < middle < 16 + half:
                        boxes.append([middle - half, head[1], middle + half, feet[1]])
                overlaps = box_iou(np.array(boxes), np.array(boxes))
                np.fill_diagonal(overlaps, 0)
                highest += overlaps.max(axis=1).tolist()
            scene.step()
    return float(np.mean(np.array(highest) > 0.3))


def test_a_game_is_less_crowded_than_a_crowd_and_more_than_a_broadcast_game():
    broadcast = 0.20  # measured on the boxes of a labelled clip of a professional game
    easy, game, crowd = (_crowded(level) for level in ("easy", "game", "crowd"))
    assert easy < game
    assert 1.5 * broadcast < game < 0.75 * crowd


def test_players_leave_and_come_back_in_reentry_only():
    def absences(level, seed):
        scene = Scene(level, seed)
        seen: dict[int, list[bool]] = {
            person.object_id: [] for person in scene.people if person.kind == "player"
        }
        for _ in range(150):
            boxes = scene.render(160, 90).boxes
            for object_id, history in seen.items():
                history.append(object_id in boxes)
            scene.step()
        gaps = []
        for history in seen.values():
            edges = np.flatnonzero(np.diff(np.array(history, int)))
            gaps += [b - a for a, b in itertools.pairwise(edges) if history[a]]
        return [gap for gap in gaps if gap >= 22]

    assert sum(len(absences("reentry", seed)) for seed in range(4)) >= 3
    assert absences("easy", 0) == []


def test_prompts_mean_the_people_who_fit():
    scene = Scene("game", 11)
    meaning = scene.prompts()
    players = {p.object_id: p for p in scene.people if p.kind == "player"}
    assert set(meaning["basketball player"]) == set(players)
    assert meaning["dog"] == []
    for name in JERSEY_NAMES:
        assert set(meaning[f"player in {name}"]) == {i for i, p in players.items() if p.color_name == name}
    assert set(meaning["referee"]) == {p.object_id for p in scene.people if p.kind == "referee"}
    assert not set(meaning["player in dark"]) & set(meaning["player in light"])


def test_shades_follow_luminance():
    assert all(shade_names(c) == ("dark",) for c in JERSEYS["black"])
    assert all(shade_names(c) == ("light",) for c in JERSEYS["white"])
    assert luminance((255, 255, 255)) == pytest.approx(255)


def test_a_clip_on_disk_is_complete_and_consistent(tmp_path):
    folder = tmp_path / "clip"
    assert main(["render", "--level", "game", "--seed", "7", "--frames", "6", "--out", str(folder)]) == 0
    video = Video(folder / "video.mp4")
    assert (video.width, video.height, video.frame_count, video.fps) == (1280, 720, 6, pytest.approx(25))
    rows = [line.split(",") for line in (folder / "gt" / "gt.txt").read_text().splitlines()]
    assert {len(row) for row in rows} == {9}
    masks = json.loads((folder / "masks.json").read_text())
    for frame, object_id, x, y, w, h, *_ in rows:
        mask = decode_rle(masks["frames"][frame][object_id], 720, 1280)
        ys, xs = np.nonzero(mask)
        box = (xs.min(), ys.min(), xs.max() + 1 - xs.min(), ys.max() + 1 - ys.min())
        assert box == tuple(int(v) for v in (x, y, w, h))
    with open(folder / "roster.csv") as file:
        roster = list(csv.DictReader(file))
    meaning = json.loads((folder / "prompts.json").read_text())
    assert [int(row["object_id"]) for row in roster] == meaning["basketball player"]
    assert (folder / "det" / "det.txt").stat().st_size > 0
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize(
    "arguments", [["--frames", "0"], ["--level", "nba"], ["--seed", "-1"], ["--width", "8"]]
)
def test_impossible_settings_are_refused(tmp_path, arguments):
    with pytest.raises(SystemExit) as stop:
        main(["render", "--out", str(tmp_path / "clip"), *arguments])
    assert stop.value.code == 2
