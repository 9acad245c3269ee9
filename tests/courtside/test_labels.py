"""Labels and detections from files: what is read, and the sentence for each thing that is wrong."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from courtside import tables
from courtside.errors import LabelsError
from courtside.labels import read_detections, read_labels
from courtside.video import Video

SIZE = {"width": 100, "height": 80, "fps": 25.0, "stated_frame_count": 5}
VIDEO = SimpleNamespace(name="game.mp4", frame_count=5, times_s=np.arange(5) / 25, **SIZE)
CUT = SimpleNamespace(name="cut.mp4", frame_count=3, times_s=np.arange(3) / 25, **SIZE)
SEQINFO = "[Sequence]\nname=game\nframeRate=29.97\nseqLength=5\nimWidth=100\nimHeight=80\n"
GT = "1,1,10,10,20,30,1,1,0.5\n1,2,50,10,20,30,1,1,1\n5,1,12,10,20,30,0,1,-1\n"


@pytest.fixture
def write(tmp_path):
    """Writes a labels folder; each argument replaces or adds a file, None removes it."""

    def write(**files):
        names = {
            "gt": "gt/gt.txt", "seqinfo": "seqinfo.ini", "labelled": "labelled_frames.txt",
            "prompts": "prompts.json", "masks": "masks.json", "roster": "roster.csv", "det": "det/det.txt",
        }  # fmt: skip
        for name, content in ({"gt": GT, "seqinfo": SEQINFO} | files).items():
            path = tmp_path / "game" / names[name]
            path.parent.mkdir(parents=True, exist_ok=True)
            if content is not None:
                path.write_text(content if isinstance(content, str) else json.dumps(content))
        return tmp_path / "game"

    return write


def test_a_whole_folder(write):
    folder = write(
        labelled="1\n2\n5\n",
        prompts={"player": [1, 2], "Referee": [11], "dog": []},
        masks={"height": 80, "width": 100, "frames": {"1": {"2": "PZ"}}},
        roster="id,team,number\n1,white,00\n2,,\n",
    )
    labels = read_labels(folder, VIDEO)
    assert (labels.name, labels.width, labels.height, labels.fps, labels.frame_count) == (
        "game",
        100,
        80,
        29.97,
        5,
    )
    truth = tables.check(labels.ground_truth, tables.GROUND_TRUTH)
    assert truth[["frame", "object_id"]].to_numpy().tolist() == [[0, 1], [0, 2], [4, 1]]
    assert truth[["x1", "y1", "x2", "y2"]].to_numpy()[0].tolist() == [10, 10, 30, 40]
    assert truth["ignored"].tolist() == [False, False, True]
    assert truth["visibility"].tolist()[:2] == [0.5, 1.0]
    assert np.isnan(truth["visibility"].iloc[2])
    assert truth["mask_rle"].fillna("").tolist() == ["", "PZ", ""]
    assert labels.labelled_frames.tolist() == [0, 1, 4]
    assert labels.roster["jersey_number"].fillna("?").tolist() == ["00", "?"]
    assert labels.roster["team"].fillna("?").tolist() == ["white", "?"]


def test_prompts_tell_nobody_from_unknown(write):
    labels = read_labels(write(prompts={"player in white": [1, 2], "dog": []}))
    assert labels.objects_of("Player  in white ") == {1, 2}
    assert labels.objects_of("dog") == set()
    assert labels.objects_of("referee") is None


def test_without_prompts_file_a_prompt_means_all_objects(write):
    assert read_labels(write()).objects_of("anything") == {1, 2}


def test_without_a_list_every_frame_is_labelled(write):
    assert read_labels(write()).labelled_frames.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    "gt",
    [
        "1,1,10,10,20,30,1,1,0.5\n",
        "1 1 10 10 20 30 1 1 0.5\n",
        "1, 1, 10.0, 10.00, 20, 30, 1, 1, 0.5,\r\n\r\n",
        "\ufeff1.0\t1.0\t10\t10\t2e1\t30\t1\t1\t0.5",
    ],
    ids=["commas", "spaces", "comma, space, floats, CRLF, trailing comma", "byte order mark and tabs"],
)
def test_ways_of_writing_a_row(write, gt):
    row = read_labels(write(gt=gt)).ground_truth.iloc[0]
    assert (row["frame"], row["object_id"], row["x2"], row["y2"]) == (0, 1, 30, 40)
    assert row["visibility"] == 0.5


def test_ten_columns_end_in_world_coordinates(write):
    truth = read_labels(write(gt="1,1,10,10,20,30,1,4.4,5.5,0\n")).ground_truth
    assert truth["visibility"].isna().all()
    assert not truth["ignored"].any()


def test_boxes_may_reach_over_the_edge(write):
    truth = read_labels(write(gt="1,1,-15,70,20,30,1,1,1\n"), VIDEO).ground_truth
    assert truth[["x1", "y1", "x2", "y2"]].to_numpy().tolist() == [[-15, 70, 5, 100]]


def test_no_rows_are_fine_where_frames_are_known_to_hold_nobody(write):
    assert len(read_labels(write(gt="", labelled="1\n")).ground_truth) == 0


def test_the_hash_follows_the_content_of_the_labels_only(write):
    before = read_labels(write()).sha256
    assert read_labels(write(det="1,-1,1,1,5,5,0.5\n")).sha256 == before
    assert read_labels(write(labelled="1\n")).sha256 != before
    assert len(before) == 64


ROW = "1,1,10,10,20,30,1,1,1\n"
BAD_LABELS = {
    "no gt.txt": (dict(gt=None), r"gt\.txt is missing; write rows of frame,id"),
    "empty gt.txt": (dict(gt="\n\n"), r"gt\.txt has no rows; .*labelled_frames\.txt"),
    "missing column": (
        dict(gt=ROW + "2,1,10,10,20,30,1,1\n"),
        r"gt\.txt, line 2: 8 columns .* 9 as above; write",
    ),
    "too few columns": (
        dict(gt="1,1,10,10,20,30,1\n"),
        r"line 1: 7 columns instead of 9 to 10; write frame,id",
    ),
    "empty column": (dict(gt="1,1,,10,10,20,30,1,1,1\n"), r"line 1: column 3 is '', not a number; write"),
    "header": (dict(gt="frame,id,x,y,w,h,conf,class,vis\n" + ROW), r"line 1: column 1 is 'frame', .* header"),
    "NaN": (dict(gt=ROW + "\n2,1,nan,10,20,30,1,1,1\n"), r"line 3: column 3 is nan; give a finite number"),
    "from 0": (
        dict(gt=ROW + "0,1,10,10,20,30,1,1,1\n"),
        r"line 2: frame 0, .* count from 1; add 1 to each frame",
    ),
    "shifted by one": (
        dict(gt="2,1,10,10,20,30,1,1,1\n6,1,10,10,20,30,1,1,1\n"),
        r"line 2: frame 6, but seqLength .* ends with frame 5; subtract 1 from each frame",
    ),
    "longer than the video": (
        dict(gt=ROW + "7,1,10,10,20,30,1,1,1\n"),
        r"line 2: frame 7, but seqLength of seqinfo\.ini ends with frame 5; use the file that belongs",
    ),
    "half a frame": (
        dict(gt="1.5,1,10,10,20,30,1,1,1\n"),
        r"line 1: frame 1\.5 is not a whole number; number",
    ),
    "no id": (
        dict(gt="1,-1,10,10,20,30,1,1,1\n"),
        r"line 1: object id -1 is not .*; give each object its own id",
    ),
    "id twice": (
        dict(gt=ROW + "1,2,50,10,5,5,1,1,1\n" + ROW),
        r"line 3: object 1 is already in frame 1 \(line 1\); give",
    ),
    "outside": (
        dict(gt="1,1,100,10,20,30,1,1,1\n"),
        r"line 1: the box x 100 to 120.*outside .* 100 x 80 .*; scale",
    ),
    "above": (dict(gt="1,1,10,-30,20,30,1,1,1\n"), r"line 1: the box .* y -30 to 0 lies outside"),
    "negative size": (dict(gt="1,1,10,10,20,-30,1,1,1\n"), r"line 1: a box of 20 x -30 pixels; .* positive"),
    "visibility": (dict(gt="1,1,10,10,20,30,1,1,7\n"), r"line 1: visibility 7 is not in \[0, 1\]; write -1"),
    "no seqinfo": (dict(seqinfo=None), r"seqinfo\.ini is missing; write a section \[Sequence\]"),
    "no frame rate": (
        dict(seqinfo=SEQINFO.replace("frameRate", "rate")),
        r"seqinfo\.ini has no frameRate; write",
    ),
    "no number": (
        dict(seqinfo=SEQINFO.replace("100", "wide")),
        r"seqinfo\.ini, line 5: imWidth is 'wide'; give",
    ),
    "no length": (
        dict(seqinfo=SEQINFO.replace("=5", "=0")),
        r"line 4: seqLength is '0'; give a positive whole",
    ),
    "other size": (
        dict(seqinfo=SEQINFO.replace("100", "200")),
        r"seqinfo\.ini, line 5: labels for 200 x 80 pixels, but game\.mp4 has 100 x 80; use .* or scale",
    ),
    "turned": (
        dict(seqinfo="imWidth=80\nimHeight=100\nframeRate=25\nseqLength=5\n"),
        r"line 1: labels for 80 x 100 pixels, .* or label the upright picture",
    ),
    "longer labels": (
        dict(seqinfo=SEQINFO.replace("=5", "=6")),
        r"line 4: labels for 6 frames, .* has 5; use",
    ),
    "shorter labels": (
        dict(seqinfo=SEQINFO.replace("=5", "=4"), gt=ROW),
        r"labels for 4 frames, .* has 5; .*labelled_",
    ),
    "labelled frame 0": (dict(labelled="0\n1\n"), r"labelled_frames\.txt, line 1: frame 0, .*; add 1"),
    "labelled frame 6": (
        dict(labelled="1\n6\n"),
        r"labelled_frames\.txt, line 2: frame 6, .* ends with frame 5",
    ),
    "labelled in a row": (
        dict(labelled="1,2\n"),
        r"labelled_frames\.txt, line 1: 2 columns instead of 1; write one",
    ),
    "none labelled": (dict(labelled="\n"), r"labelled_frames\.txt lists no frame; write one number a line"),
    "broken prompts": (dict(prompts='{\n"a": [1,}'), r"prompts\.json, line 2: .*; correct the JSON"),
    "listed prompts": (dict(prompts="[1]"), r"prompts\.json, line 1: not a JSON object; write"),
    "prompt of text": (
        dict(prompts={"a": ["one"]}),
        r"prompts\.json: prompt 'a' has \['one'\]; list its object ids",
    ),
    "prompt twice": (
        dict(prompts={"a b": [1], "A  b": [2]}),
        r"prompts\.json: prompts 'A  b' and 'a b' are the same",
    ),
    "mask size": (
        dict(masks={"height": 80, "width": 10, "frames": {}}),
        r"masks\.json: width is 10, but 100 in seqinfo",
    ),
    "no mask frames": (dict(masks={"height": 80, "width": 100}), r'masks\.json: "frames" is missing; write'),
    "mask frame": (
        dict(masks={"height": 80, "width": 100, "frames": {"a": {}}}),
        r"masks\.json: frame 'a' is not",
    ),
    "mask of nobody": (
        dict(masks={"height": 80, "width": 100, "frames": {"2": {"1": "PZ"}}}),
        r"masks\.json: frame 2, object '1' has no row in gt\.txt; add its box",
    ),
    "mask as list": (
        dict(masks={"height": 80, "width": 100, "frames": {"1": {"1": [3]}}}),
        r"masks\.json: frame 1, object 1 is no string; write COCO's",
    ),
    "roster header": (
        dict(roster="object_id,jersey_number\n1,2\n"),
        r"roster\.csv, line 1: no column team; write",
    ),
    "roster id": (
        dict(roster="id,team,number\nx,white,2\n"),
        r"roster\.csv, line 2: object id 'x' is no whole number",
    ),
    "roster number": (
        dict(roster="id,team,number\n1,white,123\n"),
        r"line 2: jersey number '123'; write one or two",
    ),
    "roster twice": (
        dict(roster="id,team,number\n1,a,2\n1,a,3\n"),
        r"line 3: object 1 occurs twice; keep one",
    ),
    "roster columns": (
        dict(roster="id,team,number\n1,white\n"),
        r"roster\.csv, line 2: 2 columns instead of 3",
    ),
}


@pytest.mark.parametrize(("files", "sentence"), BAD_LABELS.values(), ids=BAD_LABELS.keys())
def test_bad_labels_name_file_line_and_fix(write, files, sentence):
    with pytest.raises(LabelsError, match=sentence) as error:
        read_labels(write(**files), VIDEO)
    assert "\n" not in str(error.value)


def test_bytes_that_are_no_text(write):
    folder = write()
    (folder / "gt" / "gt.txt").write_bytes(b"1,1,\xff\xfe")
    with pytest.raises(LabelsError, match=r"gt\.txt is not text in UTF-8 \(byte 4\); save it as plain text"):
        read_labels(folder)


def test_a_bare_file_needs_the_video_for_its_size(write):
    path = write() / "gt" / "gt.txt"
    with pytest.raises(LabelsError, match=r"gt\.txt does not say how large the video is; name the video"):
        read_labels(path)
    labels = read_labels(path, VIDEO)
    assert (labels.folder, labels.name, labels.frame_count, len(labels.ground_truth)) == (path, "gt", 5, 3)


def test_detections_in_order_of_frame(write):
    path = write(det="2,-1,10,10,20,30,0.25,-1,-1,-1\n1,-1,0,0,5.5,6,1,-1,-1,-1\n") / "det" / "det.txt"
    table = tables.check(read_detections(path, VIDEO), tables.DETECTIONS)
    assert table.to_numpy().tolist() == [[0, 0, 0, 5.5, 6, 1], [1, 10, 10, 30, 40, 0.25]]


def test_a_detector_that_found_nothing(write):
    table = read_detections(write(det="") / "det" / "det.txt")
    assert len(tables.check(table, tables.DETECTIONS)) == 0


BAD_DETECTIONS = {
    "NaN": ("1,-1,10,10,20,nan,0.5,-1,-1,-1\n", r"det\.txt, line 1: column 6 is nan; give a finite number"),
    "infinite": ("1,-1,10,10,20,30,inf,-1,-1,-1\n", r"line 1: column 7 is inf; give a finite number"),
    "negative size": ("1,-1,10,10,-20,30,0.5\n", r"line 1: a box of -20 x 30 pixels; .* positive"),
    "too few columns": ("1,-1,10,10,20,30\n", r"line 1: 6 columns instead of 7 to 10; write frame,-1,left"),
    "too many columns": ("1,-1,10,10,20,30,0.5,1,1,1,1\n", r"line 1: 11 columns instead of 7 to 10"),
    "other columns": ("1,-1,1,1,2,3,1\n1,-1,1,1,2,3,1,1\n", r"line 2: 8 columns instead of 7 as above"),
    "no number": ("1,-1,10,10,20,30,high\n", r"line 1: column 7 is 'high', not a number"),
    "confidence": ("1,-1,10,10,20,30,63.5\n", r"line 1: confidence 63\.5 is not in \[0, 1\]; rescale"),
    "from 0": ("0,-1,10,10,20,30,0.5\n", r"line 1: frame 0, but frames count from 1; add 1"),
    "another video": (
        "1,-1,1,1,2,3,1\n9,-1,1,1,2,3,1\n",
        r"line 2: frame 9, but game\.mp4 ends with frame 5; use",
    ),
    "outside": ("1,-1,10,90,20,30,0.5\n", r"line 1: the box .* lies outside the frame of 100 x 80"),
}


@pytest.mark.parametrize(("content", "sentence"), BAD_DETECTIONS.values(), ids=BAD_DETECTIONS.keys())
def test_bad_detections_name_file_line_and_fix(write, content, sentence):
    with pytest.raises(LabelsError, match=sentence):
        read_detections(write(det=content) / "det" / "det.txt", VIDEO)


def test_detections_path_that_is_not_a_file(write):
    folder = write()
    with pytest.raises(LabelsError, match=r"game is a folder; give the detections file in it"):
        read_detections(folder)
    with pytest.raises(LabelsError, match=r"det\.txt is missing; write rows of frame,-1,left"):
        read_detections(folder / "det.txt")


@pytest.mark.parametrize(
    ("clip", "objects", "boxes", "frames"),
    [("basketball-a", 10, 3000, 300), ("tud-campus", 8, 359, 71), ("tud-stadtmitte", 10, 1156, 179)],
)
def test_real_clips(real_clips, clip, objects, boxes, frames):
    labels = read_labels(real_clips / clip)
    assert labels.ground_truth["object_id"].nunique() == objects
    assert (len(labels.ground_truth), labels.frame_count) == (boxes, frames)
    video = Video(real_clips / clip / "video.mp4")
    rows = (real_clips / clip / "det" / "det.txt").read_text().splitlines()
    assert len(read_detections(real_clips / clip / "det" / "det.txt", video)) == len(rows)


def test_of_a_video_cut_short_what_is_left_counts(write):
    folder = write(labelled="1\n2\n5\n", det="1,-1,10,10,20,30,0.9\n5,-1,10,10,20,30,0.9\n")
    labels = read_labels(folder, CUT)
    assert (labels.frame_count, labels.lost_frames) == (3, 2)
    assert labels.ground_truth["frame"].max() == 0
    assert labels.labelled_frames.tolist() == [0, 1]
    assert read_detections(folder / "det" / "det.txt", CUT)["frame"].tolist() == [0]


def test_a_video_that_is_whole_but_shorter_is_another_video(write):
    short = SimpleNamespace(**(vars(CUT) | {"stated_frame_count": 3}))
    folder = write(det="5,-1,10,10,20,30,0.9\n")
    with pytest.raises(LabelsError, match=r"labels for 5 frames, but cut.mp4 has 3"):
        read_labels(folder, short)
    with pytest.raises(LabelsError, match=r"frame 5, but cut.mp4 ends with frame 3"):
        read_detections(folder / "det" / "det.txt", short)
