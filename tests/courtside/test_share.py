"""Sharing: heads are hidden in every picture, names and paths are gone, and nothing else changes."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from courtside.errors import RunError, SettingError
from courtside.masks import encode_rle
from courtside.report.faces import FacelessVideo, head_regions, heads_of, link, pixelate
from courtside.report.share import share
from courtside.run import Run, Settings, execute
from courtside.video import Video, VideoWriter

FPS, FRAMES, SIZE = 25.0, 30, (320, 180)
TIMES = np.arange(FRAMES) / FPS
STAGES = ("track", "score", "overlay")
WIDE, HIGH, FACE = 40, 120, 24


def at(frames: list[int], box: tuple = (50, 50, 90, 150), who: int = 1) -> pd.DataFrame:
    table = pd.DataFrame(
        [(frame, who, *box) for frame in frames], columns=["frame", "who", "x1", "y1", "x2", "y2"]
    )
    return table.astype({"x1": float, "y1": float, "x2": float, "y2": float})


class TestHeads:
    @pytest.mark.parametrize(
        ("name", "box", "head", "covers_all"),
        [
            ("standing", (100, 20, 140, 120), (108, 20, 132, 36), False),
            ("arms out", (80, 20, 160, 120), (105, 20, 135, 40), False),
            ("cut off at the chest", (100, 20, 160, 80), (110, 20, 150, 55), False),
            ("lying", (50, 100, 200, 140), (170, 105, 200, 135), True),
        ],
    )
    def test_where_heads_are(self, name, box, head, covers_all):
        (found,) = heads_of(np.array([box], float))
        assert found[0] <= head[0]
        assert found[1] <= head[1]
        assert found[2] >= head[2]
        assert found[3] >= head[3]
        assert (found[3] >= box[3]) == covers_all

    @pytest.mark.parametrize(
        ("name", "frames", "hidden"),
        [
            ("throughout", list(range(30)), set(range(30))),
            ("half a second around", [14], set(range(2, 27))),
            ("over a gap", [2, 28], set(range(30))),
            ("and cut off by the ends", [0], set(range(13))),
        ],
    )
    def test_when_heads_are_hidden(self, name, frames, hidden):
        regions = head_regions([at(frames)], TIMES, SIZE)
        assert {frame for frame, each in enumerate(regions) if len(each)} == hidden

    def test_between_two_boxes_the_region_moves(self):
        regions = head_regions([pd.concat([at([5]), at([15], (150, 50, 190, 150))])], TIMES, SIZE)
        assert regions[10][0].tolist() == pytest.approx(
            (heads_of([[50, 50, 90, 150]])[0] + [50, 0, 50, 0]).tolist()
        )

    def test_a_mask_says_more_than_its_box(self):
        mask = np.zeros(SIZE[::-1], bool)
        mask[90:150, 60:80] = True
        table = at([5]).assign(mask_rle=[encode_rle(mask)])
        regions = head_regions([table], TIMES, SIZE)
        np.testing.assert_allclose(regions[5][0], heads_of([[60, 90, 80, 150]])[0])

    def test_boxes_without_ids_are_linked_while_they_overlap(self):
        moving = [(frame, 50 + 4 * frame, 50, 90 + 4 * frame, 150) for frame in range(10) if frame != 5]
        still = [(frame, 250, 50, 290, 150) for frame in range(10)]
        table = pd.DataFrame(moving + still, columns=["frame", "x1", "y1", "x2", "y2"]).astype(float)
        linked = link(table.assign(frame=table["frame"].astype(int)))
        assert linked.groupby("who").size().sort_values().tolist() == [9, 10]

    def test_a_hidden_region_is_a_few_flat_blocks(self):
        noise = np.random.default_rng(0).integers(0, 255, (180, 320, 3), np.uint8)
        hidden = pixelate(noise, np.array([[50.0, 40, 98, 76], [-20, -20, 12, 10]]))
        part = hidden[40:76, 50:98]
        assert len(np.unique(part.reshape(-1, 3), axis=0)) <= 12
        untouched = np.ones((180, 320), bool)
        untouched[40:76, 50:98] = untouched[:10, :12] = False
        np.testing.assert_array_equal(hidden[untouched], noise[untouched])

    def test_every_way_to_a_frame_hides(self, tmp_path):
        path = players(tmp_path / "clip.mp4")
        regions = head_regions([at(list(range(FRAMES)), (40, 30, 80, 150))], TIMES, SIZE)
        video, plain = FacelessVideo(path, regions), Video(path)
        several = [*video.frames(3, 9, 2), *video.frames_at([4, 20])]
        assert [each.index for each in several] == [3, 5, 7, 4, 20]
        for image, frame in [(video.frame(7), 7), *((each.image, each.index) for each in several)]:
            np.testing.assert_array_equal(image, pixelate(plain.frame(frame), regions[frame]))


def spot(image: np.ndarray, x: int) -> None:
    """A player at x whose face is a fine checkerboard, which nothing but a sharp picture shows."""
    image[30 : 30 + HIGH, x : x + WIDE] = (200, 60, 60)
    board = np.indices((FACE, FACE)).sum(axis=0) // 3 % 2 * 255
    image[32 : 32 + FACE, x + 8 : x + 8 + FACE] = board[..., None]


def players(path: Path) -> Path:
    with VideoWriter(path, *SIZE, FPS) as writer:
        for frame in range(FRAMES):
            image = np.full((*SIZE[::-1], 3), 110, np.uint8)
            for x in (40 + frame, 150, 260):
                spot(image, x)
            writer.write(image)
    return path


def faces_in(image: np.ndarray) -> float:
    """How much fine black and white a picture has: the largest mean contrast of a patch of a face's size."""
    scale = 320 / image.shape[1]
    image = cv2.resize(image, None, fx=scale, fy=scale) if image.shape[1] > 320 else image
    edges = np.abs(cv2.Laplacian(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32), cv2.CV_32F))
    return float(cv2.blur(edges, (16, 16)).max())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A tracked player, a labelled one nobody asked for, and a bystander whom only the detector saw."""
    folder = tmp_path_factory.mktemp("anna-u12-final")
    path = players(folder / "anna-kowalski.mp4")
    truth, found = [], []
    for frame in range(FRAMES):
        truth += [
            f"{frame + 1},{i},{x},30,{WIDE},{HIGH},{int(i == 1)},1,1" for i, x in ((1, 40 + frame), (2, 150))
        ]
        found += [
            f"{frame + 1},-1,{40 + frame},30,{WIDE},{HIGH},0.9",
            f"{frame + 1},-1,260,30,{WIDE},{HIGH},0.2",
        ]
    for name, text in {
        "gt/gt.txt": "\n".join(truth),
        "det/det.txt": "\n".join(found),
        "det/README.md": "Boxes of Anna's coach.",
        "roster.csv": "object_id,team,jersey_number\n1,Saint Mary,7\n2,Saint Mary,8",
        "seqinfo.ini": "[Sequence]\nname=anna\nframeRate=25\nseqLength=30\nimWidth=320\nimHeight=180",
    }.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text + "\n")
    settings = Settings(
        video=path,
        out=folder / "run",
        tracker="bytetrack",
        detections=folder / "det" / "det.txt",
        labels=folder,
        roster=folder / "roster.csv",
    )
    return execute(settings, stages=("track", "read", "score", "overlay"), progress=False)


@pytest.fixture(scope="module")
def shared(run: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, str], dict[str, str]]:
    """The shared page, and the hashes of every file of the run and its inputs before and after."""
    before = hashes(run.folder.parent)
    path = share(run, tmp_path_factory.mktemp("shared") / "game.html", hide_faces=True, progress=False)
    return path.read_text(), before, hashes(run.folder.parent)


def hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def pictures(page: str) -> list[np.ndarray]:
    found = re.findall(r"data:image/jpeg;base64,([A-Za-z0-9+/=]+)", page)
    return [cv2.imdecode(np.frombuffer(base64.b64decode(each), np.uint8), cv2.IMREAD_COLOR) for each in found]


def clip_in(page: str, folder: Path) -> list[np.ndarray]:
    (each,) = re.findall(r"data:video/mp4;base64,([A-Za-z0-9+/=]+)", page)
    (folder / "clip.mp4").write_bytes(base64.b64decode(each))
    return [frame.image for frame in Video(folder / "clip.mp4").frames()]


class TestShare:
    def test_no_picture_shows_a_face(self, shared, run, tmp_path):
        page, _, _ = shared
        seen = [*pictures(page), *clip_in(page, tmp_path)]
        assert len(seen) > FRAMES + 5
        whole = max(faces_in(frame.image) for frame in run.video().frames())
        assert whole > 100
        assert max(map(faces_in, seen[-FRAMES:])) < 0.4 * whole
        # The overlays of the other pictures are sharp too, so the three faces are looked for in their places.
        for image in pictures(page):
            if image.shape[1] > image.shape[0]:
                scale = image.shape[1] / SIZE[0]
                for x in (150, 260):
                    y1, y2, x1, x2 = (round(scale * v) for v in (34, 54, x + 10, x + 30))
                    assert faces_in(image[y1:y2, x1:x2]) < 0.4 * whole

    def test_names_and_paths_are_gone(self, shared, run):
        page, _, _ = shared
        words = re.sub(r"[A-Za-z0-9+/=]{200,}", "", page)
        for private in (
            "anna",
            "Anna",
            "kowalski",
            "Saint",
            "Mary",
            "coach",
            str(run.folder),
            str(Path.home()),
        ):
            assert private not in words
        for kept in ("team A 7", "Shared clip", "bytetrack"):
            assert kept in words

    def test_the_report_says_what_was_done(self, shared):
        assert "Faces are hidden: in every picture and in the video" in shared[0]
        assert "People whom nothing found are not hidden" in shared[0]

    def test_nothing_else_changes(self, shared):
        assert shared[1] == shared[2]

    def test_it_has_the_sections_of_the_report(self, shared):
        for heading in ("Watch it", "Who was followed, and when", "Who is who", "Scores", "How it was made"):
            assert heading in shared[0]
        assert shared[0].count('class="courtside-player"') == 1
        assert "When each player's number was read" in shared[0].replace("&#x27;", "'")

    def test_without_the_flag_faces_stay_and_that_is_said(self, run, tmp_path):
        page = share(run, tmp_path / "game.html", progress=False).read_text()
        assert "Faces are not hidden" in page
        assert max(map(faces_in, clip_in(page, tmp_path))) > 100
        assert "anna" not in re.sub(r"[A-Za-z0-9+/=]{200,}", "", page)

    @pytest.mark.parametrize(
        ("name", "out", "error", "said"),
        [
            ("no page", "game.mp4", SettingError, "is no HTML file: name it game.html"),
            ("no such folder", "nowhere/game.html", SettingError, "is not there"),
        ],
    )
    def test_where_it_cannot_be_written(self, run, tmp_path, name, out, error, said):
        with pytest.raises(error, match=said):
            share(run, tmp_path / out, hide_faces=True, progress=False)
        assert not list(tmp_path.iterdir())

    def test_the_runs_own_report_is_not_replaced(self, run):
        with pytest.raises(SettingError, match="own report"):
            share(run, run.report_path, progress=False)

    def test_the_command(self, run, tmp_path, capsys):
        from courtside.cli import main

        assert main(["share", str(tmp_path), "--hide-faces", "--out", str(tmp_path / "a.html")]) == 2
        assert "not a run folder" in capsys.readouterr().err

    @pytest.mark.filterwarnings("ignore:no players")
    def test_with_nobody_to_hide_it_refuses(self, tmp_path):
        path = players(tmp_path / "clip.mp4")
        (tmp_path / "det.txt").write_text("")
        settings = Settings(
            video=path, out=tmp_path / "run", tracker="bytetrack", detections=tmp_path / "det.txt"
        )
        done = execute(settings, stages=STAGES, progress=False)
        with pytest.raises(RunError, match="nobody was found"):
            share(done, tmp_path / "game.html", hide_faces=True, progress=False)
        assert not (tmp_path / "game.html").exists()
