"""The report: colours, figures, pictures, words and the page, from small tables and videos."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import cv2
import nbformat
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from courtside import tables
from courtside.errors import RunError
from courtside.labels import Labels
from courtside.masks import encode_rle
from courtside.report import blocks, crops, figures, html, overlay, proxy, words
from courtside.report.colors import color_of, ink_on, rgb_of
from courtside.report.matches import followed_by, main_objects
from courtside.report.page import outside_references
from courtside.report.sections import Report
from courtside.run import Settings, execute
from courtside.scoring import score
from courtside.video import Video, VideoWriter

FPS = 25.0


def tracks(rows: list[tuple], masks: list[np.ndarray] | None = None) -> pd.DataFrame:
    """``PLAYER_DETECTIONS`` of rows (frame, tracking_id, x1, y1, x2, y2)."""
    table = pd.DataFrame(rows, columns=["frame", "tracking_id", "x1", "y1", "x2", "y2"])
    table = table.assign(
        video="clip.mp4",
        time_s=table["frame"] / FPS,
        prompt=None,
        class_id=0,
        class_name="player",
        confidence=0.9,
        mask_rle=None if masks is None else [encode_rle(mask) for mask in masks],
        jersey_number=None,
        player_id=None,
    )
    columns = tables.PLAYER_DETECTIONS.columns
    table = table[list(columns)].astype({name: str(column.dtype) for name, column in columns.items()})
    return tables.check(table, tables.PLAYER_DETECTIONS)


def staircase(count: int, frames_each: int = 10, step: int = 3) -> pd.DataFrame:
    """``count`` tracks that begin one after another; later ones are longer."""
    rows = [
        (start * step + frame, start + 1, 10.0, 10.0, 30.0, 60.0)
        for start in range(count)
        for frame in range(frames_each + start)
    ]
    return tracks(rows)


def clip(path: Path, frames: int = 12, size: tuple[int, int] = (160, 90), fps: float = FPS) -> Path:
    """A grey video with a white square that moves right."""
    with VideoWriter(path, *size, fps) as writer:
        for frame in range(frames):
            image = np.full((size[1], size[0], 3), 90, np.uint8)
            image[20:50, 4 + 4 * frame : 24 + 4 * frame] = 240
            writer.write(image)
    return path


class TestColors:
    def test_first_200_ids_have_colours_of_their_own(self):
        assert len({color_of(i) for i in range(1, 201)}) == 200

    @pytest.mark.parametrize("sight", ["normal", "deuteranopia", "protanopia"])
    def test_first_ids_stay_apart_for_every_sight(self, sight):
        # Machado, Oliveira & Fernandes 2009, severity 1, on linear RGB.
        turn = {
            "normal": np.eye(3),
            "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
            "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
        }[sight]
        colors = np.array([rgb_of(i) for i in range(1, 13)], np.float32) / 255
        linear = np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)
        seen = np.clip(linear @ np.array(turn, np.float32).T, 0, 1)
        seen = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)
        lab = cv2.cvtColor(seen[None].astype(np.float32), cv2.COLOR_RGB2LAB)[0]
        distance = np.linalg.norm(lab[:, None] - lab[None], axis=-1)
        # A CIELAB distance of 2.3 is just noticeable (Mahy et al. 1994).
        assert distance[~np.eye(len(lab), dtype=bool)].min() > (5 if sight == "normal" else 2.5) * 2.3

    def test_ink_is_readable_on_every_track(self):
        for i in range(1, 201):
            values = [
                np.array(c) / 255
                for c in (rgb_of(i), (0, 0, 0) if ink_on(color_of(i)) == "#000000" else (255,) * 3)
            ]
            light = [
                float(
                    np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]
                )
                for v in values
            ]
            assert (max(light) + 0.05) / (min(light) + 0.05) >= 4.5


class TestFigures:
    @pytest.mark.parametrize(
        ("name", "frames", "expected"),
        [
            ("nothing", [], []),
            ("one frame", [4], [(4, 4)]),
            ("unbroken", [2, 3, 4], [(2, 4)]),
            ("a gap", [0, 1, 5, 6], [(0, 1), (5, 6)]),
            ("to the last frame", [8, 9], [(8, 9)]),
        ],
    )
    def test_segments(self, name, frames, expected):
        table = pd.DataFrame({"tracking_id": [3] * len(frames), "frame": frames})
        found = figures.segments(table, np.arange(10) / 10)
        assert list(zip(found["first"], found["last"], strict=True)) == expected
        for first, last, start_s, stop_s in found[["first", "last", "start_s", "stop_s"]].itertuples(
            index=False
        ):
            assert (start_s, stop_s) == pytest.approx((first / 10, (last + 1) / 10))

    def test_segments_do_not_join_two_tracks(self):
        table = pd.DataFrame({"tracking_id": [1, 2], "frame": [0, 1]})
        assert len(figures.segments(table, np.arange(3) / 10)) == 2

    def test_105_tracks_make_bounded_pages_with_the_longest_first(self):
        table = staircase(105)
        pages = figures.timeline_pages(table)
        assert [len(page) for page in pages] == [40, 40, 25]
        assert sorted(pages[0]) == list(range(66, 106))
        assert all(page == sorted(page) for page in pages)
        for page in pages:
            size = figures.id_timeline(table, np.arange(500) / FPS, tracking_ids=page).get_size_inches()
            assert size[0] <= 11
            assert size[1] <= 12

    def test_100_true_players_are_bounded_too(self):
        matches = pd.DataFrame(
            {"frame": 0, "object_id": range(100), "tracking_id": pd.array([1] * 100, "Int64")}
        )
        figure = figures.id_timeline(staircase(1), np.arange(30) / FPS, matches=matches)
        assert figure.axes[0].get_title(loc="left").startswith("40 of 100 true players")
        assert figure.get_size_inches()[1] < 15

    @pytest.mark.parametrize("narrow", [False, True])
    def test_every_bar_has_its_tracks_colour(self, narrow):
        table = staircase(5)
        figure = figures.id_timeline(table, np.arange(60) / FPS, narrow=narrow)
        (bars,) = figure.axes[0].collections
        runs = figures.segments(table, np.arange(60) / FPS)
        assert [to_hex(c) for c in bars.get_facecolors()] == [color_of(i) for i in runs["tracking_id"]]
        assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["1", "2", "3", "4", "5"]

    def test_players_take_the_colour_of_who_followed_them_and_switches_are_marked(self):
        matches = pd.DataFrame(
            {
                "frame": [*range(10), *range(10)],
                "object_id": [4] * 10 + [5] * 10,
                "tracking_id": pd.array([1] * 4 + [2] * 6 + [3] * 4 + [pd.NA] * 3 + [3] * 3, "Int64"),
            }
        )
        table = staircase(3)
        times_s = np.arange(60) / FPS
        figure = figures.id_timeline(table, times_s, matches=matches, names={4: "blue 7"})
        players = figure.axes[0]
        (bars,) = players.collections
        assert [to_hex(c) for c in bars.get_facecolors()] == [color_of(i) for i in (1, 2, 3, 3)]
        (marks,) = (line for line in players.lines if line.get_marker() == "v")
        assert list(marks.get_xdata()) == [times_s[4]]
        assert [label.get_text() for label in players.get_yticklabels()] == ["blue 7", "5"]
        assert players.get_title(loc="left").endswith("1 id change")

    def test_no_tracks_are_said_to_be_none(self):
        empty = tables.empty(tables.PLAYER_DETECTIONS)
        title = figures.id_timeline(empty, np.arange(5) / FPS).axes[0].get_title(loc="left")
        assert title == "No tracks: nothing was followed"
        assert not figures.tracks_on_screen(empty, np.arange(5) / FPS).axes[0].lines[0].get_ydata().any()

    def test_unlabelled_frames_are_a_gap_and_not_zero_players(self):
        truth = pd.DataFrame({"frame": [0, 0, 1, 1], "object_id": [1, 2, 1, 2]})
        figure = figures.tracks_on_screen(
            staircase(1, 5), np.arange(5) / FPS, truth=truth, labelled_frames=np.array([0, 1])
        )
        lines = {line.get_label(): line.get_ydata() for line in figure.axes[0].lines}
        np.testing.assert_array_equal(lines["true players"][:5], [2, 2, np.nan, np.nan, np.nan])
        np.testing.assert_array_equal(lines["tracks"][:5], [1] * 5)
        assert "2.0 true players" in figure.axes[0].get_title(loc="left")

    def test_an_hour_is_averaged_and_shown_in_hours(self):
        times_s = np.arange(90_000) / FPS
        rows = np.arange(0, 90_000, 2)
        table = pd.DataFrame({"frame": rows, "tracking_id": 1})
        figure = figures.tracks_on_screen(table, times_s)
        line = figure.axes[0].lines[0].get_ydata()
        assert len(line) == 1001
        assert line == pytest.approx(0.5, abs=0.02)
        figure.canvas.draw()
        assert figure.axes[0].get_xticklabels()[-1].get_text() == "1:00:00"

    def test_errors_lie_in_their_lanes(self):
        events = pd.DataFrame(
            [
                ("miss", 0, 4, 0.0, 0.2, None, 1, None, None),
                ("miss", 2, 3, 0.08, 0.08, None, 2, None, None),
                ("switch", 6, 6, 0.24, 0.0, None, 1, 4, 3),
            ],
            columns=list(tables.EVENTS.columns),
        )
        axis = figures.error_timeline(events, np.arange(10) / FPS).axes[0]
        labels = [label.get_text() for label in axis.get_yticklabels()]
        assert labels == [
            "identity switch (1)",
            "found again (0)",
            "player missed (2), up to 2 at once",
            "false track (0)",
        ]
        (switches,) = (line for line in axis.lines if len(line.get_xdata()))
        assert list(switches.get_xdata()) == [6 / FPS]

    def test_no_errors_are_said_to_be_none(self):
        axis = figures.error_timeline(tables.empty(tables.EVENTS), np.arange(10) / FPS).axes[0]
        assert axis.get_title(loc="left") == "No errors found"


def labels_of(truth: pd.DataFrame, frame_count: int) -> Labels:
    return Labels(
        Path("labels"),
        "clip",
        1000,
        1000,
        FPS,
        frame_count,
        truth,
        None,
        None,
        np.arange(frame_count),
        "0" * 64,
    )


class TestMatches:
    # Each object stands still, far from the others; a letter is its track, "." a miss, " " absence.
    @pytest.mark.parametrize(
        ("name", "objects"),
        [
            ("never lost", {1: "aaaaaaaa"}),
            ("one switch", {1: "aaaabbbb"}),
            ("back and forth", {1: "aabbaabb"}),
            ("lost and found", {1: "aa..aaa."}),
            ("found late", {1: "...aaaaa"}),
            ("lost for good", {1: "aaa....."}),
            ("never found", {1: "........", 2: "aaaaaaaa"}),
            ("switch over a gap", {1: "aaa..bbb"}),
            ("leaves and returns", {1: "aaa  aaa", 2: "bb....bb"}),
            ("two crossing", {1: "aaaabbbb", 2: "bbbbaaaa"}),
            ("track moves on", {1: "aaaa....", 2: "....aaaa"}),
        ],
    )
    def test_it_tells_who_followed_whom(self, name, objects):
        truth, found, expected = [], [], []
        for object_id, row in objects.items():
            x = 100.0 * object_id
            for frame, letter in enumerate(row):
                if letter == " ":
                    continue
                truth.append((frame, object_id, x, 10.0, x + 20, 60.0, False, 1.0, None))
                track = None if letter == "." else ord(letter) - ord("a") + 1
                expected.append((frame, object_id, track))
                if track:
                    found.append((frame, track, x, 10.0, x + 20, 60.0))
        columns = tables.GROUND_TRUTH.columns
        truth = pd.DataFrame(truth, columns=list(columns)).astype(
            {n: str(c.dtype) for n, c in columns.items()}
        )
        detections = tracks(found)
        scores = score(detections, labels_of(truth, 8), times_s=np.arange(8) / FPS)
        matches = followed_by(truth, scores.events, detections, set(objects))
        told = matches["tracking_id"].astype(object).where(matches["tracking_id"].notna(), None)
        assert sorted(zip(matches["frame"], matches["object_id"], told, strict=True)) == sorted(expected)

    def test_ignored_and_unasked_objects_are_left_out(self):
        columns = tables.GROUND_TRUTH.columns
        rows = [(0, i, 10.0 * i, 0.0, 10.0 * i + 5, 5.0, i == 2, 1.0, None) for i in (1, 2, 3)]
        truth = pd.DataFrame(rows, columns=list(columns)).astype(
            {n: str(c.dtype) for n, c in columns.items()}
        )
        detections = tracks([(0, 7, 10.0, 0.0, 15.0, 5.0)])
        matches = followed_by(truth, tables.empty(tables.EVENTS), detections, {1, 2})
        assert matches.values.tolist() == [[0, 1, 7]]
        assert main_objects(matches) == {7: (1, 1)}


class TestWords:
    METRICS = dict.fromkeys(words.METRICS)

    @pytest.mark.parametrize(
        ("name", "metrics", "said"),
        [
            ("no tracks", {"predicted_tracks": 0, "true_objects": 9}, "not one track"),
            ("nobody meant", {"predicted_tracks": 2, "true_objects": 0}, "hold nobody"),
            ("unknown prompts", {}, "do not say whom"),
            (
                "one of each",
                {"predicted_tracks": 1, "true_objects": 1, "num_switches": 0},
                "1 track for 1 true player.",
            ),
        ],
    )
    def test_lead(self, name, metrics, said):
        assert said in words.lead(self.METRICS | metrics)

    def test_undefined_is_never_shown_as_a_number(self):
        shown = words.scored_cards(self.METRICS | {"predicted_tracks": 0, "true_objects": 9})
        assert [card.value for card in shown] == ["0 for 9"] + ["undefined"] * 5
        assert {card.tone for card in shown} == {""}

    def test_every_metric_of_the_scores_has_a_name(self):
        from courtside.scoring import METRICS

        assert set(METRICS) == set(words.METRICS)


class TestPictures:
    def test_the_sharp_unhidden_crop_wins(self, tmp_path):
        path = tmp_path / "clip.mp4"
        noise = np.random.default_rng(0).integers(0, 255, (60, 30, 3), np.uint8)
        with VideoWriter(path, 160, 120, FPS) as writer:
            for frame in range(6):
                image = np.full((120, 160, 3), 90, np.uint8)
                image[30:90, 60:90] = noise if frame in (2, 4) else cv2.GaussianBlur(noise, (0, 0), 6)
                writer.write(image)
        rows = [(frame, 1, 60.0, 30.0, 90.0, 90.0) for frame in range(6)]
        hidden = [(4, 2, 58.0, 28.0, 92.0, 92.0)]
        best = crops.best_crops(Video(path), tracks(rows + hidden), [1, 2], per_track=1)
        assert [crop.frame for crop in best[1]] == [2]
        assert best[1][0].image.shape[0] == 144

    def test_crops_are_spread_over_the_track(self, tmp_path):
        video = Video(clip(tmp_path / "clip.mp4", frames=40))
        table = tracks([(frame, 1, 10.0, 10.0, 60.0, 70.0) for frame in range(40)])
        frames = [crop.frame for crop in crops.best_crops(video, table, [1], budget=20)[1]]
        assert len(frames) == 4
        assert [frame // 10 for frame in frames] == [0, 1, 2, 3]

    def test_a_track_between_the_sampled_frames_has_a_crop(self, tmp_path):
        video = Video(clip(tmp_path / "clip.mp4", frames=40))
        table = tracks([(7, 1, 10.0, 10.0, 60.0, 70.0)])
        assert [crop.frame for crop in crops.best_crops(video, table, [1], budget=2)[1]] == [7]

    def test_a_box_is_drawn_in_the_tracks_colour(self):
        table = tracks([(0, 5, 40.0, 40.0, 120.0, 160.0)])
        drawn = overlay.draw_tracks(np.zeros((200, 300, 3), np.uint8), table)
        assert tuple(drawn[100, 40]) == rgb_of(5)
        assert not drawn[100, 80].any()

    def test_a_mask_is_tinted_and_has_no_box(self):
        mask = np.zeros((200, 300), bool)
        mask[60:100, 60:100] = True
        table = tracks([(0, 5, 40.0, 40.0, 120.0, 160.0)], [mask])
        drawn = overlay.draw_tracks(np.zeros((200, 300, 3), np.uint8), table)
        assert tuple(drawn[80, 80]) == pytest.approx(tuple(0.45 * c for c in rgb_of(5)), abs=2)
        assert not drawn[130, 40].any()

    @pytest.mark.parametrize(
        ("name", "size", "expected"),
        [
            ("4K", (3840, 2160), (1280, 720)),
            ("portrait", (1080, 1920), (720, 1280)),
            ("small", (320, 200), (320, 200)),
        ],
    )
    def test_frames_are_scaled_down_only(self, name, size, expected):
        mask = np.zeros(size[::-1], bool)
        mask[size[1] // 4 : size[1] // 2, size[0] // 4 : size[0] // 2] = True
        table = tracks([(0, 1, 1.0, 1.0, size[0] - 1.0, size[1] - 1.0)], [mask])
        drawn = overlay.draw_tracks(np.zeros((size[1], size[0], 3), np.uint8), table)
        assert drawn.shape == (expected[1], expected[0], 3)
        assert drawn[round(0.4 * expected[1]), round(0.4 * expected[0])].any()

    def test_the_overlay_has_every_frame(self, tmp_path):
        video = Video(clip(tmp_path / "clip.mp4", frames=9, size=(322, 180)))
        table = tracks([(frame, 1, 20.0, 30.0, 100.0, 150.0) for frame in range(3, 9)])
        made = Video(overlay.render_overlay(video, table, tmp_path / "overlay.mp4", progress=False))
        assert (made.frame_count, made.codec, made.fps) == (9, "h264", pytest.approx(FPS))
        blank, boxed = made.frame(0)[90, 20].astype(int), made.frame(5)[90, 20].astype(int)
        assert np.abs(boxed - rgb_of(1)).max() < np.abs(blank - rgb_of(1)).max()

    def test_the_proxy_has_every_frame_without_tracks(self, tmp_path):
        video = Video(clip(tmp_path / "clip.mp4", frames=9, size=(800, 450)))
        table = tracks([(frame, 1, 20.0, 30.0, 780.0, 400.0) for frame in range(9)])
        overlay.render_overlay(video, table, tmp_path / "overlay.mp4", tmp_path / "proxy.mp4", progress=False)
        made = Video(tmp_path / "proxy.mp4")
        assert (made.width, made.height, made.frame_count) == (640, 360, 9)
        expected = cv2.resize(video.frame(5), (640, 360), interpolation=cv2.INTER_AREA).astype(int)
        assert np.abs(made.frame(5) - expected).mean() < 2

    @pytest.mark.parametrize(
        ("name", "limits", "frames", "width"),
        [
            ("as it is", {}, 30, 320),
            ("short", {"max_seconds": 0.4}, 10, 320),
            ("small", {"max_bytes": 600_000}, 30, 240),
            ("cut", {"max_bytes": 150_000}, 10, 240),
        ],
    )
    def test_a_page_gets_as_much_of_the_proxy_as_fits(self, tmp_path, name, limits, frames, width):
        rng = np.random.default_rng(1)
        with VideoWriter(tmp_path / "clip.mp4", 320, 180, FPS) as writer:
            for _ in range(30):
                writer.write(rng.integers(0, 255, (180, 320, 3), np.uint8))
        found = proxy.fit_proxy(tmp_path / "clip.mp4", **limits)
        (tmp_path / "proxy.mp4").write_bytes(found.data)
        made = Video(tmp_path / "proxy.mp4")
        assert len(found.data) <= limits.get("max_bytes", 7_000_000)
        assert (made.frame_count, made.width) == (found.frame_count, found.width)
        assert made.width == width
        assert made.frame_count == pytest.approx(frames, abs=3 if name == "cut" else 0)


class TestBlocks:
    def test_text_is_escaped_everywhere(self):
        bad = "<script>alert(1)</script>"
        shown = blocks.stack(
            blocks.paragraph(bad),
            blocks.note(bad),
            blocks.fold(bad, blocks.paragraph(bad)),
            blocks.cards([blocks.Card(bad, bad, bad)]),
            blocks.table((bad, "b"), [(bad, 1)], bad),
            blocks.frame_strip([(np.zeros((4, 4, 3), np.uint8), bad)]),
            blocks.video_player(b"", bad),
        )
        assert "<script" not in shown._repr_html_()
        assert shown.html.count("&lt;script&gt;") >= 11

    def test_a_picture_has_a_shape_for_phones(self):
        shown = blocks.picture(
            lambda narrow: figures.id_timeline(staircase(2), np.arange(30) / FPS, narrow=narrow), "two"
        )
        assert '<source media="(max-width: 640px)" srcset="data:image/png' in shown.html
        assert 'width="1056"' in shown.html
        assert 'width="374"' in shown.html

    def test_undefined_is_a_dash(self):
        assert "&ndash;" in blocks.table(("a",), [(None,), (0.5,)]).html
        assert ">0.500<" in blocks.table(("a",), [(None,), (0.5,)]).html


def notebook(*cells: nbformat.NotebookNode) -> nbformat.NotebookNode:
    return nbformat.v4.new_notebook(cells=list(cells))


def code(source: str, *outputs: nbformat.NotebookNode, tags: tuple[str, ...] = ()) -> nbformat.NotebookNode:
    return nbformat.v4.new_code_cell(source, outputs=list(outputs), metadata={"tags": list(tags)})


def shows(markup: str) -> nbformat.NotebookNode:
    return nbformat.v4.new_output("display_data", {"text/html": markup, "text/plain": "a block"})


def says(text: str, name: str = "stderr") -> nbformat.NotebookNode:
    return nbformat.v4.new_output("stream", text=text, name=name)


class TestPage:
    def test_code_is_hidden_and_the_rest_is_there(self):
        page = html.to_html(
            notebook(
                nbformat.v4.new_markdown_cell("## How to", metadata={"tags": [html.NOTEBOOK_ONLY]}),
                nbformat.v4.new_markdown_cell("## Seen"),
                code("secret = 1", shows("<h1>A &amp; B</h1>"), says("a warning")),
                code("bar()", says("12%|###"), tags=("progress",)),
            )
        )
        assert "<title>A &amp; B · Courtside</title>" in page
        assert "Seen" in page
        assert "a warning" in page
        for absent in ("secret", "How to", "12%", "<script", "¶"):
            assert absent not in page

    @pytest.mark.parametrize(
        ("name", "markup", "outside"),
        [
            ("image", '<img src="https://x.example/a.png">', ["https://x.example/a.png"]),
            ("no protocol", '<script src="//x.example/a.js"></script>', ["//x.example/a.js"]),
            ("file beside it", '<video poster="a.jpg"></video>', ["a.jpg"]),
            ("style", '<p style="background: url(a.png)">', ["a.png"]),
            ("import", "<style>@import 'a.css';</style>", ["a.css"]),
            ("frame in a frame", "<iframe srcdoc='<img src=\"a.png\">'></iframe>", ["a.png"]),
            ("inside", '<img src="data:image/png;base64,AA"><a href="#x">x</a>', []),
            ("text", "<p>see https://x.example</p>", []),
        ],
    )
    def test_outside_references_are_found(self, name, markup, outside):
        assert outside_references(f"<!DOCTYPE html><html>{markup}</html>") == outside

    def test_a_page_that_would_load_something_is_refused(self, tmp_path):
        source = tmp_path / "a.ipynb"
        nbformat.write(notebook(code("x", shows('<img src="https://x.example/a.png">'))), source)
        with pytest.raises(RunError, match=r"would load https://x\.example/a\.png from elsewhere"):
            html.write_html(source, tmp_path / "a.html")
        assert not (tmp_path / "a.html").exists()

    @pytest.mark.parametrize(
        ("name", "content", "said"),
        [
            ("missing", None, "cannot read the notebook"),
            ("not a notebook", "hello", "cannot read the notebook"),
            ("never run", nbformat.writes(notebook(code("x"))), "has no outputs"),
        ],
    )
    def test_bad_notebooks(self, tmp_path, name, content, said):
        source = tmp_path / "a.ipynb"
        if content is not None:
            source.write_text(content)
        with pytest.raises(RunError, match=said):
            html.write_html(source, tmp_path / "a.html")


class _Words(HTMLParser):
    """The text of a page without its styles."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.hidden = False
        self.feed(markup)

    def handle_starttag(self, tag, attrs):
        self.hidden = tag == "style"

    def handle_endtag(self, tag):
        self.hidden = False

    def handle_data(self, data):
        if not self.hidden:
            self.parts.append(data)


def seen(block: blocks.Block) -> str:
    return " ".join(" ".join(_Words(block.html).parts).split())


SECTIONS = (
    "headline", "player", "timeline", "on_screen", "frames", "contact_sheet", "players", "score_table",
    "prompt_table", "errors", "left_out", "settings",
)  # fmt: skip


def write_labels(folder: Path, frames: int, size: tuple[int, int], rows: list[str]) -> Path:
    (folder / "gt").mkdir(parents=True)
    (folder / "gt" / "gt.txt").write_text("\n".join(rows) + "\n")
    (folder / "seqinfo.ini").write_text(
        f"[Sequence]\nname=clip\nframeRate=25\nseqLength={frames}\nimWidth={size[0]}\nimHeight={size[1]}\n"
    )
    return folder


def linked_run(folder: Path, labelled: bool, boxes: list[str] | None = None) -> Report:
    """A run of ByteTrack on a clip of a moving square, boxes of which are given."""
    path = clip(folder / "clip.mp4", frames=20)
    square = [f"{f + 1},-1,{4 + 4 * f},20,20,30,0.9" for f in range(20)]
    (folder / "det").mkdir()
    (folder / "det" / "det.txt").write_text("\n".join(square if boxes is None else boxes) + "\n")
    (folder / "det" / "README.md").write_text("Made up\nfor a test.\n\nNot shown.\n")
    rows = [f"{f + 1},3,{4 + 4 * f},20,20,30,1,1,1" for f in range(20)]
    rows += [f"{f + 1},4,100,40,20,30,0,1,1" for f in range(5)]
    settings = Settings(
        video=path,
        out=folder / "run",
        tracker="bytetrack",
        detections=folder / "det" / "det.txt",
        labels=write_labels(folder / "labels", 20, (160, 90), rows) if labelled else None,
    )
    return Report(execute(settings, stages=("track", "score", "overlay"), progress=False))


class TestReport:
    def test_with_labels(self, tmp_path):
        report = linked_run(tmp_path, labelled=True)
        shown = {name: seen(getattr(report, name)()) for name in SECTIONS}
        assert "The tracker made 1 track for 1 true player." in shown["headline"]
        assert "1 for 1" in shown["headline"]
        assert "About the detections: Made up for a test." in shown["headline"]
        assert "Not shown" not in shown["headline"]
        assert "IoU 0.5 or more, 20 frames scored, 5 labels ignored" in shown["score_table"]
        assert "ignored labels 5" in shown["left_out"]
        assert "mostly on player 3" in shown["contact_sheet"]
        assert "No prompt was given" in shown["prompt_table"]
        assert "cpu" in shown["settings"].lower()
        assert str(tmp_path) not in " ".join(shown.values())

    def test_without_labels_nothing_looks_like_a_score(self, tmp_path):
        report = linked_run(tmp_path, labelled=False)
        shown = {name: seen(getattr(report, name)()) for name in SECTIONS}
        assert "There are no hand labels" in shown["headline"]
        assert "MOTA" not in " ".join(shown.values())
        for name in ("score_table", "errors"):
            assert "nothing was scored" in shown[name]

    @pytest.mark.filterwarnings("ignore:no players")
    @pytest.mark.parametrize("labelled", [False, True])
    def test_without_tracks_every_section_says_so(self, tmp_path, labelled):
        report = linked_run(tmp_path, labelled, boxes=["1,-1,5,5,20,30,0.05"])
        shown = {name: seen(getattr(report, name)()) for name in SECTIONS}
        assert "No players were found" in shown["headline"]
        assert "There are no tracks" in shown["contact_sheet"]
        if labelled:
            assert "undefined" in shown["headline"]
            assert "not one track" in shown["headline"]

    def test_with_prompts_and_masks(self, tmp_path, random_sam3):
        path = clip(tmp_path / "clip.mp4", frames=8)
        rows = [f"{f + 1},{i},{4 + 4 * f + 60 * i},20,20,30,1,1,1" for f in range(8) for i in (0, 1)]
        labels = write_labels(tmp_path / "labels", 8, (160, 90), rows)
        (labels / "prompts.json").write_text(json.dumps({"player": [0], "dog": []}))
        settings = Settings(
            video=path,
            out=tmp_path / "run",
            tracker="sam3",
            prompts=("player", "dog", "cat <b>"),
            model=random_sam3,
            device="cpu",
            labels=labels,
        )
        report = Report(execute(settings, stages=("track", "score", "overlay"), progress=False))
        assert report.detections["mask_rle"].notna().all()
        shown = {name: getattr(report, name)() for name in SECTIONS}
        prompts = seen(shown["prompt_table"])
        assert 'The labels do not say whom "cat <b>" means' in prompts
        assert "<b>" not in shown["prompt_table"].html
        assert "labels of people no prompt means 8" in seen(shown["left_out"])
        assert report.truth["object_id"].unique().tolist() == [0]
