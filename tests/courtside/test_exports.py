"""Tracks in the formats of other tools: what is written is read back the same, and taken by those tools."""

from __future__ import annotations

import json
import shutil
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import trackeval
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from trackers.eval import evaluate_mot_sequence

from courtside import cli, commands
from courtside.errors import RunError, SettingError
from courtside.exports import FORMATS, default_path, export_tracks, keyframes
from courtside.labels import read_labels
from courtside.masks import decode_rle, encode_rle
from courtside.run import Run, Settings, execute
from courtside.video import Video, VideoWriter

WIDTH, HEIGHT, FRAMES = 96, 64, 20
BOX = ["x1", "y1", "x2", "y2"]


def _mask(left: float, top: int = 20) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[top : top + 24, round(left) : round(left) + 12] = True
    return mask


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """Two players who cross, one of them out of view for a while, with boxes and masks."""
    folder = tmp_path_factory.mktemp("exports") / "clip"
    (folder / "gt").mkdir(parents=True)
    with VideoWriter(folder / "video.mp4", WIDTH, HEIGHT, 25) as writer:
        for frame in range(FRAMES):
            writer.write(np.full((HEIGHT, WIDTH, 3), 40 + frame, np.uint8))
    rows, masks = [], {}
    for frame in range(FRAMES):
        lefts = {1: 5 + 3.25 * frame, 2: 70 - 3.5 * frame if not 14 <= frame < 17 else None}
        masks[str(frame + 1)] = {
            str(one): encode_rle(_mask(left)) for one, left in lefts.items() if left is not None
        }
        rows += [
            f"{frame + 1},{one},{left},20,12,24,1,1,1" for one, left in lefts.items() if left is not None
        ]
    (folder / "gt" / "gt.txt").write_text("\n".join(rows))
    (folder / "seqinfo.ini").write_text(
        f"[Sequence]\nname=clip\nframeRate=25\nseqLength={FRAMES}\nimWidth={WIDTH}\nimHeight={HEIGHT}\n"
    )
    (folder / "masks.json").write_text(json.dumps({"height": HEIGHT, "width": WIDTH, "frames": masks}))
    return folder


@pytest.fixture(scope="module")
def run(clip) -> Run:
    settings = Settings(video=clip / "video.mp4", out=clip.parent / "run", tracker="labels", labels=clip)
    return execute(settings, stages=("track", "score"), progress=False)


@pytest.fixture
def changed(run, tmp_path):
    """Makes a copy of the run whose tracks went through a function."""

    def changed(change) -> Run:
        folder = tmp_path / "changed"
        shutil.copytree(run.folder, folder, dirs_exist_ok=True)
        change(run.detections()).to_parquet(folder / "player_detections.parquet", index=False)
        return Run(folder)

    return changed


@pytest.mark.parametrize(("name", "has_masks"), [("mot", False), ("cvat", False), ("coco", True)])
def test_what_is_written_reads_back_the_same(run, clip, tmp_path, name, has_masks):
    path = tmp_path / f"tracks.{FORMATS[name].suffix}"
    export_tracks(run, name, path)
    truth = read_labels(path, Video(clip / "video.mp4")).ground_truth
    tracks = run.detections().sort_values(["frame", "tracking_id"], ignore_index=True)
    assert truth["frame"].tolist() == tracks["frame"].tolist()
    assert truth["object_id"].tolist() == tracks["tracking_id"].tolist()
    np.testing.assert_allclose(truth[BOX], tracks[BOX], atol=2e-3)
    assert not truth["ignored"].any()
    assert truth["mask_rle"].tolist() == tracks["mask_rle"].tolist() if has_masks else True
    assert truth["mask_rle"].isna().all() != has_masks


def test_csv_is_the_table(run, tmp_path):
    export_tracks(run, "csv", tmp_path / "tracks.csv")
    back = pd.read_csv(tmp_path / "tracks.csv")
    assert list(back.columns) == list(run.detections().columns)
    np.testing.assert_allclose(back[BOX], run.detections()[BOX])


def test_mots_masks_do_not_overlap_and_the_confident_track_wins(changed, clip, tmp_path):
    def doubted(tracks):
        return tracks.assign(confidence=np.where(tracks["tracking_id"] == 1, 0.5, 0.9))

    run = changed(doubted)
    said = export_tracks(run, "mots", tmp_path / "clip.txt")
    truth = read_labels(tmp_path / "clip.txt", Video(clip / "video.mp4")).ground_truth
    tracks = run.detections()
    shared = 0
    for frame, own in truth.groupby("frame"):
        masks = {row.object_id: decode_rle(row.mask_rle, HEIGHT, WIDTH) for row in own.itertuples()}
        assert not any((a & b).any() for a, b in combinations(masks.values(), 2))
        whole = tracks[tracks["frame"] == frame].set_index("tracking_id")["mask_rle"]
        whole = {one: decode_rle(rle, HEIGHT, WIDTH) for one, rle in whole.items()}
        if 2 in whole:
            assert (masks[2002] == whole[2]).all()
            assert (masks.get(2001, False) == (whole[1] & ~whole[2])).all()
            shared += bool((whole[1] & whole[2]).any())
    assert shared > 2
    assert said[0] == f"{shared} masks overlapped a more confident one and lost the pixels they shared"


def test_a_mask_that_is_all_anothers_is_left_out_and_said_so(changed, tmp_path):
    run = changed(lambda tracks: tracks.assign(mask_rle=encode_rle(_mask(30))))
    said = export_tracks(run, "mots", tmp_path / "clip.txt")
    rows = [line.split() for line in (tmp_path / "clip.txt").read_text().splitlines()]
    assert len(rows) == FRAMES
    assert "17 masks had no pixel of their own and were left out" in said


def test_trackers_evaluation_takes_mot_as_it_is(run, clip, tmp_path):
    export_tracks(run, "mot", tmp_path / "clip.txt")
    result = evaluate_mot_sequence(
        clip / "gt" / "gt.txt", tmp_path / "clip.txt", ["CLEAR", "HOTA", "Identity"]
    )
    assert (result.CLEAR.MOTA, result.Identity.IDF1, round(result.HOTA.HOTA, 6)) == (1, 1, 1)


def test_trackeval_takes_mot_and_mots_as_they_are(run, clip, tmp_path):
    for kind in ("MOT17", "MOTS"):
        for part in ("gt", "trackers"):
            (tmp_path / part / f"{kind}-train").mkdir(parents=True)
        shutil.copytree(clip, tmp_path / "gt" / f"{kind}-train" / "clip")
        data = tmp_path / "trackers" / f"{kind}-train" / "courtside" / "data"
        data.mkdir(parents=True)
        export_tracks(run, kind[:4].lower().removesuffix("1"), data / "clip.txt")
    shutil.copy(
        tmp_path / "trackers/MOTS-train/courtside/data/clip.txt", tmp_path / "gt/MOTS-train/clip/gt/gt.txt"
    )
    shared = {"GT_FOLDER": str(tmp_path / "gt"), "TRACKERS_FOLDER": str(tmp_path / "trackers"),
              "SEQ_INFO": {"clip": FRAMES}, "PRINT_CONFIG": False}  # fmt: skip
    sets = [
        trackeval.datasets.MotChallenge2DBox(shared | {"BENCHMARK": "MOT17"}),
        trackeval.datasets.MOTSChallenge(shared),
    ]
    for dataset in sets:
        raw = dataset.get_raw_seq_data("courtside", "clip")
        data = dataset.get_preprocessed_seq_data(raw, "pedestrian")
        assert trackeval.metrics.CLEAR({"PRINT_CONFIG": False}).eval_sequence(data)["MOTA"] == 1
        assert trackeval.metrics.HOTA().eval_sequence(data)["HOTA"].mean() == pytest.approx(1)


# pycocotools' own decoder is older than NumPy 2.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_coco_is_read_by_its_own_tool(run, tmp_path):
    export_tracks(run, "coco", tmp_path / "tracks.json")
    read = COCO(str(tmp_path / "tracks.json"))
    assert len(read.imgs) == FRAMES
    tracks = run.detections()
    assert len(read.anns) == len(tracks)
    for annotation, row in zip(read.anns.values(), tracks.itertuples(), strict=True):
        assert (read.annToMask(annotation) == decode_rle(row.mask_rle, HEIGHT, WIDTH)).all()
        assert annotation["area"] == coco_mask.area(annotation["segmentation"])


def test_cvat_interpolates_the_boxes_from_the_keyframes(run, clip, tmp_path):
    said = export_tracks(run, "cvat", tmp_path / "tracks.xml")
    assert said == [
        "in CVAT, give the task the labels person before uploading",
        "boxes alone were written, since CVAT has no tracks of masks",
    ]
    text = (tmp_path / "tracks.xml").read_text()
    assert text.count('keyframe="1" outside="0"') < 10
    assert text.count('outside="1"') == 1
    # What CVAT keeps of the file: the keyframes. It makes the others anew.
    kept = [line for line in text.splitlines() if 'keyframe="0"' not in line]
    (tmp_path / "kept.xml").write_text("\n".join(kept))
    video = Video(clip / "video.mp4")
    whole, back = (read_labels(tmp_path / name, video).ground_truth for name in ("tracks.xml", "kept.xml"))
    assert back[["frame", "object_id"]].equals(whole[["frame", "object_id"]])
    np.testing.assert_allclose(back[BOX], whole[BOX], atol=1)


def test_tracks_corrected_in_cvat_are_labels_to_score_against(run, clip, tmp_path):
    export_tracks(run, "cvat", tmp_path / "whole.xml")
    text = (tmp_path / "whole.xml").read_text()
    (tmp_path / "keyframes.xml").write_text(
        "\n".join(line for line in text.splitlines() if 'keyframe="0"' not in line)
    )
    for name, said in (("whole", []), ("keyframes", ["boxes were interpolated between keyframes"])):
        labels = tmp_path / f"{name}.xml"
        settings = Settings(video=clip / "video.mp4", out=tmp_path / name, tracker="labels", labels=labels)
        done = execute(settings, stages=("track", "score"), progress=False)
        assert done.scores()["metrics"]["mota"] == 1
        assert done.scores()["metrics"]["true_objects"] == 2
        warnings = done.status()["score"]["warnings"]
        assert len(warnings) == len(said)
        assert all(part in warning for part, warning in zip(said, warnings, strict=True))


def test_keyframes_restore_every_box_within_the_tolerance():
    random = np.random.default_rng(3)
    boxes = np.cumsum(random.normal(size=(200, 4)), axis=0)
    for tolerance in (0.0, 0.5, 3.0):
        keys = keyframes(boxes, tolerance)
        frames = np.arange(len(boxes))
        back = np.column_stack([np.interp(frames, frames[keys], column[keys]) for column in boxes.T])
        assert np.abs(back - boxes).max() <= tolerance + 1e-9
    assert keyframes(boxes, 3.0).sum() < keyframes(boxes, 0.5).sum() < 200
    assert keyframes(boxes[:1], 1.0).tolist() == [True]


def test_no_tracks_make_files_without_rows(changed, clip, tmp_path):
    run = changed(lambda tracks: tracks.iloc[:0])
    for name, format in FORMATS.items():
        export_tracks(run, name, tmp_path / f"none-{name}.{format.suffix}")
    assert (tmp_path / "none-mot.txt").read_text() == ""
    assert json.loads((tmp_path / "none-coco.json").read_text())["annotations"] == []


def test_what_cannot_be_written(run, changed, tmp_path):
    with pytest.raises(SettingError, match=r"no format 'yolo': choose one of mot, mots, coco, cvat, csv"):
        export_tracks(run, "yolo", tmp_path / "x")
    boxes = changed(lambda tracks: tracks.assign(mask_rle=pd.array([None] * len(tracks), dtype="string")))
    with pytest.raises(RunError, match=r"track 1 has none in frame 0; export as mot, or track with"):
        export_tracks(boxes, "mots", tmp_path / "x.txt")
    assert list(tmp_path.glob("x*")) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"cannot write .*tracks\.txt"):
        export_tracks(run, "mot", tmp_path / "file" / "tracks.txt")
    with pytest.raises(RunError, match=r"is not a run folder|is pending"):
        export_tracks(Run(tmp_path), "mot", tmp_path / "x.txt")


def test_the_command(run, tmp_path, capsys):
    assert (
        cli.main(["export", str(run.folder), "--format", "mot", "--out", str(tmp_path / "a" / "t.txt")]) == 0
    )
    assert capsys.readouterr().out == f"mot: {tmp_path / 'a' / 't.txt'}\n"
    assert len((tmp_path / "a" / "t.txt").read_text().splitlines()) == 2 * FRAMES - 3
    assert default_path(run, "coco") == run.folder / "tracks-coco.json"
    for wrong, sentence in (
        (["export", str(run.folder)], "say where to: --format with one RUN for a file, or --to URL"),
        (["export", "--format", "mot"], "name the run to export: courtside export RUN --format mot"),
    ):
        assert cli.main(wrong) == 2
        assert sentence in capsys.readouterr().err


def test_the_formats_of_the_command_are_those_there_are():
    assert tuple(FORMATS) == commands.FORMATS
