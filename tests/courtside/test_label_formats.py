"""Labels out of the formats of other tools: what is read of each, and the sentence for what cannot be."""

from __future__ import annotations

import json
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest

from courtside import cli, tables
from courtside.errors import LabelsError
from courtside.labels import check_labels, read_labels, sequences
from courtside.masks import decode_rle, encode_rle

VIDEO = SimpleNamespace(
    name="game.mp4", width=100, height=80, fps=25.0, frame_count=10, stated_frame_count=10,
    times_s=np.arange(10) / 25,
)  # fmt: skip


def boxes(labels, object_id):
    """Frame and box of an object's rows, as lists of numbers."""
    own = labels.ground_truth[labels.ground_truth["object_id"] == object_id]
    return own[["frame", "x1", "y1", "x2", "y2"]].to_numpy().round(3).tolist()


def box(frame, x=10.0, y=20.0, *, outside=0, keyframe=1, extra="", inner=""):
    """CVAT's element of a box of 20 x 30 pixels."""
    at = f'xtl="{x:.2f}" ytl="{y:.2f}" xbr="{x + 20:.2f}" ybr="{y + 30:.2f}"'
    state = f'keyframe="{keyframe}" outside="{outside}" occluded="0"'
    return f'<box frame="{frame}" {state} {at} z_order="0"{extra}>{inner}</box>'


def track(number, *shapes, label="player"):
    return f'<track id="{number}" label="{label}" source="manual">{"".join(shapes)}</track>'


def task(*tracks, start=0, stop=9, segments=((0, 9),), step="", head="task"):
    """A whole file as CVAT for video 1.1 writes it, of a task or of a job."""
    parts = "".join(
        f"<segment><id>{i}</id><start>{a}</start><stop>{b}</stop><url>http://cvat/api/jobs/{i}</url></segment>"
        for i, (a, b) in enumerate(segments)
    )
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n<meta>'
        f"<{head}><id>7</id><name>game</name><size>{stop - start + 1}</size><mode>interpolation</mode>"
        f"<overlap>5</overlap><start_frame>{start}</start_frame><stop_frame>{stop}</stop_frame>"
        f"<frame_filter>{step}</frame_filter><segments>{parts}</segments>"
        "<labels><label><name>player</name></label></labels>"
        f"</{head}><original_size><width>100</width><height>80</height></original_size>"
        f"<dumped>2026-11-22</dumped></meta>\n{''.join(tracks)}</annotations>\n"
    )


@pytest.fixture
def xml(tmp_path):
    """Writes CVAT's XML and returns its path."""

    def xml(content, name="annotations.xml"):
        path = tmp_path / name
        path.write_text(content)
        return path

    return xml


def test_cvat_tracks(xml):
    shapes = [box(0), box(1, x=12, keyframe=0), box(2, x=14), box(3, outside=1), box(7, x=40)]
    labels = read_labels(xml(task(track(3, *shapes), track(5, box(9)))), VIDEO)
    assert boxes(labels, 3) == [
        [0, 10, 20, 30, 50],
        [1, 12, 20, 32, 50],
        [2, 14, 20, 34, 50],
        [7, 40, 20, 60, 50],
    ]
    assert boxes(labels, 5) == [[9, 10, 20, 30, 50]]
    assert (labels.width, labels.height, labels.fps, labels.frame_count) == (100, 80, 25, 10)
    assert labels.labelled_frames.tolist() == list(range(10))
    assert (labels.prompts, labels.roster, labels.notes) == (None, None, ())
    tables.check(labels.ground_truth, tables.GROUND_TRUTH)


def test_cvat_needs_no_video_for_the_size(xml):
    labels = read_labels(xml(task(track(0, box(0)))))
    assert (labels.width, labels.height, labels.frame_count, labels.name) == (100, 80, 10, "annotations")
    assert np.isnan(labels.fps)


def test_cvat_labels_only_the_frames_of_its_task(xml):
    labels = read_labels(
        xml(task(track(0, box(2), box(5)), start=2, stop=8, step="step=3", segments=())), VIDEO
    )
    assert labels.labelled_frames.tolist() == [2, 5, 8]
    assert [row[0] for row in boxes(labels, 0)] == [2, 5]


def test_cvat_attributes_make_a_roster_and_ignored_objects(xml):
    own = '<attribute name="Team">white</attribute><attribute name="number">07</attribute>'
    ignored = '<attribute name="ignored">true</attribute><attribute name="number">none</attribute>'
    labels = read_labels(xml(task(track(1, box(0, inner=own)), track(2, box(0, x=50, inner=ignored)))), VIDEO)
    assert labels.roster.to_numpy().tolist() == [[1, "white", "07"]]
    assert labels.ground_truth["ignored"].tolist() == [False, True]
    assert labels.notes == ("track 2: 'none' is no jersey number of one or two digits; left out",)


def test_cvat_classes_are_the_prompts_where_there_are_several(xml):
    path = xml(task(track(1, box(0)), track(2, box(0, x=50), label="referee")))
    labels = read_labels(path, VIDEO)
    assert labels.objects_of("Referee") == {2}
    assert labels.objects_of("player in white") is None
    assert "only these prompts have labels: player, referee" in labels.notes[0]
    (path.parent / "prompts.json").write_text('{"player in white": [1]}')
    assert read_labels(path.parent, VIDEO).objects_of("player in white") == {1}


def test_cvat_shapes_that_are_no_boxes(xml):
    mask = np.zeros((80, 100), bool)
    mask[20:22, 10:13] = [[1, 1, 0], [0, 1, 1]]
    state = 'keyframe="1" outside="0" occluded="0" z_order="0"'
    shapes = [
        f'<mask frame="0" {state} rle="0, 2, 2, 2" left="10" top="20" width="3" height="2"></mask>',
        f'<polygon frame="1" {state} points="10.00,20.00;30.00,20.00;30.00,40.00;10.00,40.00"></polygon>',
        f'<ellipse frame="2" {state} cx="50" cy="40" rx="10" ry="5" rotation="90"></ellipse>',
        box(3, extra=' rotation="90.00"'),
        f'<points frame="4" {state} points="10.00,20.00"></points>',
    ]
    labels = read_labels(xml(task(track(0, *shapes))), VIDEO)
    assert boxes(labels, 0) == [
        [0, 10, 20, 13, 22],
        [1, 10, 20, 30, 40],
        [2, 45, 30, 55, 50],
        [3, 5, 25, 35, 45],
    ]
    masks = labels.ground_truth["mask_rle"].tolist()
    assert (decode_rle(masks[0], 80, 100) == mask).all()
    assert decode_rle(masks[1], 80, 100)[20:40, 10:30].all()
    assert labels.ground_truth["mask_rle"].isna().tolist() == [False, False, True, True]
    assert labels.notes == (f"{labels.folder}: 1 shapes of the kind points were not read",)


def test_cvat_keyframes_alone_are_interpolated_and_said_so(xml):
    shapes = [box(0), box(4, x=18), box(6, x=18, outside=1), box(8, x=50), box(9, x=52)]
    labels = read_labels(xml(task(track(0, *shapes))), VIDEO)
    assert [row[:2] for row in boxes(labels, 0)] == [
        [0, 10], [1, 12], [2, 14], [3, 16], [4, 18], [5, 26], [8, 50], [9, 52],
    ]  # fmt: skip
    assert labels.notes == ("4 boxes were interpolated between keyframes, the only ones in the file",)


WHOLE = [box(frame, x=10 + frame, keyframe=int(frame % 3 == 0)) for frame in range(10)]


@pytest.mark.parametrize("names", [("0", "1"), ("9", "10")], ids=["in order", "out of order"])
@pytest.mark.parametrize(
    ("first", "second", "segments"),
    [(range(5), range(5, 10), ((0, 4), (5, 9))), (range(7), range(4, 10), ((0, 6), (4, 9)))],
    ids=["side by side", "overlapping"],
)
def test_cvat_tracks_split_over_jobs_are_one_again(tmp_path, first, second, segments, names):
    other = [box(frame, x=70, y=10, keyframe=0) for frame in range(10)]
    jobs = [
        # The second job counts its tracks anew, and in another order.
        task(track(0, *(WHOLE[i] for i in first)), start=segments[0][0], stop=segments[0][1], head="job"),
        task(
            track(0, *(other[i] for i in second)), track(1, *(WHOLE[i] for i in second)),
            start=segments[1][0], stop=segments[1][1], head="job",
        ),
    ]  # fmt: skip
    # Names say nothing about the order of jobs: job 10 sorts before job 9.
    for name, content in zip(names, jobs, strict=True):
        (tmp_path / f"job_{name}.xml").write_text(content)
    labels = read_labels(tmp_path, VIDEO)
    moving = labels.ground_truth[labels.ground_truth["y1"] == 20]
    assert moving["object_id"].nunique() == 1
    assert moving[["frame", "x1"]].to_numpy().tolist() == [[i, 10 + i] for i in range(10)]
    assert labels.ground_truth["object_id"].nunique() == 2
    assert len(labels.ground_truth) == 10 + len(second)
    assert labels.notes == (
        "1 tracks were joined to their part in the job before; 1 that begin at a border fit none",
    )


def test_cvat_tracks_split_inside_one_task_are_one_again(xml):
    content = task(track(0, *WHOLE[:5]), track(1, *WHOLE[5:]), segments=((0, 4), (5, 9)))
    labels = read_labels(xml(content), VIDEO)
    assert [row[0] for row in boxes(labels, 0)] == list(range(10))
    whole = read_labels(xml(task(track(0, *WHOLE[:5]), track(1, *WHOLE[5:])), "whole.xml"), VIDEO)
    assert whole.ground_truth["object_id"].nunique() == 2


LAUGHS = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]>\n<annotations>&b;</annotations>'
BAD_XML = {
    "entities": (LAUGHS, r"defines a document type or entities, .* do not trust it"),
    "outside file": ('<!DOCTYPE x SYSTEM "file:///etc/passwd"><annotations/>', r"document type or entities"),
    "cut short": (task(track(0, box(0)))[:-30], r"annotations\.xml, line \d+: .*; export the labels again"),
    "images": ('<annotations><image id="0" name="a.png"/></annotations>', r"CVAT for images, which has no"),
    "nothing": (task(), r"has no track with a box, polygon or mask; label in track mode"),
    "project": ("<annotations><meta><project/></meta></annotations>", r"of a whole project; export"),
    "no frame": (task(track(4, box("x"))), r"track 4: a shape without a frame number"),
    "no corner": (task(track(4, box(1).replace("xtl", "left"))), r"track 4, frame 1: a box that cannot"),
    "beyond the end": (task(track(4, box(10))), r"track 4, .*: frame 10, but game\.mp4 ends with frame 9"),
    "outside": (task(track(4, box(1, x=200))), r"track 4, frame 1: the box .* lies outside the frame"),
    "other size": (
        task(track(0, box(0))).replace("<width>100", "<width>200"),
        r"labels for 200 x 80 pixels, but game\.mp4 has 100 x 80; use the labels made for this video",
    ),
    "mask runs": (
        task(track(0, '<mask frame="0" rle="1, 2" left="0" top="0" width="2" height="2"/>')),
        r"track 0, frame 0: a mask that cannot be read \(its run lengths do not fill 2 x 2 pixels\)",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("content", "sentence"), BAD_XML.values(), ids=BAD_XML.keys())
def test_bad_cvat_files_name_place_and_fix(xml, content, sentence):
    with pytest.raises(LabelsError, match=sentence):
        read_labels(xml(content), VIDEO)


def zipped(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


MOT = "1,1,10,20,20,30,1,1,1.0\r\n2,1,12,20,20,30,1,1,0.5\r\n2,2,50,20,20,30,1,2,1.0\r\n"


def test_zips_of_cvat(tmp_path):
    picture = {"images/frame_000000.png": b"\x89PNG"}
    video = zipped(tmp_path / "video.zip", {"annotations.xml": task(track(0, box(0))), **picture})
    assert boxes(read_labels(video, VIDEO), 0) == [[0, 10, 20, 30, 50]]
    mot = zipped(tmp_path / "mot.zip", {"gt/gt.txt": MOT, "gt/labels.txt": "player\nreferee", **picture})
    labels = read_labels(mot, VIDEO)
    assert boxes(labels, 1) == [[0, 10, 20, 30, 50], [1, 12, 20, 32, 50]]
    assert labels.ground_truth["visibility"].tolist() == [1, 0.5, 1]
    assert labels.prompts == {"player": (1,), "referee": (2,)}


def test_zips_are_not_trusted(tmp_path, monkeypatch):
    link = zipfile.ZipInfo("annotations.xml")
    link.external_attr = 0o120777 << 16
    bad = {
        "slip": ({"../../annotations.xml": "x"}, r"named '\.\./\.\./annotations\.xml', outside the zip"),
        "absolute": ({"/etc/annotations.xml": "x"}, r"outside the zip; do not trust it"),
        "drive": ({"C:\\annotations.xml": "x"}, r"outside the zip; do not trust it"),
        "link": ({link: "/etc/passwd"}, r"has a link named 'annotations\.xml'"),
        "nothing": ({"readme.md": "x"}, r"holds no annotations\.xml, gt/gt\.txt or single \.json; export"),
    }
    for name, (members, sentence) in bad.items():
        with pytest.raises(LabelsError, match=sentence):
            read_labels(zipped(tmp_path / f"{name}.zip", members), VIDEO)
    (tmp_path / "none.zip").write_bytes(b"PK but no zip")
    with pytest.raises(LabelsError, match=r"none\.zip is no readable zip"):
        read_labels(tmp_path / "none.zip", VIDEO)
    monkeypatch.setattr("courtside.labels.source.MOST_BYTES", 1 << 20)
    bomb = zipped(tmp_path / "bomb.zip", {"annotations.xml": b" " * (2 << 20)})
    assert bomb.stat().st_size < 10_000
    with pytest.raises(LabelsError, match=r"annotations\.xml unpacks to 2 MB, over the 1 MB that are read"):
        read_labels(bomb, VIDEO)
    # A header that lies about the size: the bytes are counted as they come.
    data = bytearray(bomb.read_bytes())
    for at in (data.find(b"PK\x03\x04") + 22, data.find(b"PK\x01\x02") + 24):
        data[at : at + 4] = (1000).to_bytes(4, "little")
    bomb.write_bytes(data)
    with pytest.raises(LabelsError, match=r"bomb\.zip"):
        read_labels(bomb, VIDEO)


def key(frame, x=10.0, enabled=True, **more):
    """A keyframe of Label Studio: a box of 20 x 40 percent."""
    return {"frame": frame, "enabled": enabled, "rotation": 0, "x": x, "y": 20, "width": 20, "height": 40,
            "time": (frame - 1) / 25} | more  # fmt: skip


def region(name, *keys, labels=("player",), count=10, duration=0.4):
    value = {"framesCount": count, "duration": duration, "sequence": list(keys), "labels": list(labels)}
    return {"id": name, "type": "videorectangle", "value": value, "from_name": "box", "to_name": "video"}


def export(*regions, video="1a2b3c4d-game.mp4", **more):
    annotation = {"id": 1, "was_cancelled": False, "result": list(regions), "updated_at": "2026-01-01"} | more
    return {"id": 1, "data": {"video": f"/data/upload/1/{video}"}, "annotations": [annotation]}


@pytest.fixture
def written(tmp_path):
    """Writes JSON and returns its path."""

    def written(content, name="labels.json"):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return written


def test_label_studio_interpolates_and_honours_what_is_switched_off(written):
    keys = [key(1), key(3, x=14, enabled=False), key(6, x=40), key(8, x=44)]
    labels = read_labels(written([export(region("aB3", *keys), region("c", key(10, x=50)))]), VIDEO)
    assert boxes(labels, 1) == [
        [0, 10, 16, 30, 48], [1, 12, 16, 32, 48], [2, 14, 16, 34, 48],
        [5, 40, 16, 60, 48], [6, 42, 16, 62, 48], [7, 44, 16, 64, 48],
        # After the last keyframe the object stays where it is.
        [8, 44, 16, 64, 48], [9, 44, 16, 64, 48],
    ]  # fmt: skip
    assert boxes(labels, 2) == [[9, 50, 16, 70, 48]]
    assert labels.notes == ("4 of 9 boxes were interpolated between 5 keyframes",)


def test_label_studio_boxes_turn_about_their_top_left_corner(written):
    labels = read_labels(written([export(region("a", key(1, x=50, rotation=90, enabled=False)))]), VIDEO)
    assert boxes(labels, 1) == [[0, 18, 16, 50, 36]]


def test_label_studio_counting_at_another_rate_is_brought_to_the_videos_times(written):
    # 20 frames in 0.4 s where the video has 10: every second one of them is the video's.
    labels = read_labels(
        written([export(region("a", key(1), key(11, x=30, enabled=False), count=20))]), VIDEO
    )
    assert [row[:2] for row in boxes(labels, 1)] == [[0, 10], [1, 14], [2, 18], [3, 22], [4, 26], [5, 30]]
    assert any("counted 20 frames where the video has 10" in note for note in labels.notes)


def test_label_studio_takes_the_task_of_the_video_and_its_newest_annotation(written):
    mine = export(region("a", key(1, enabled=False)))
    mine["annotations"].append({"was_cancelled": True, "result": [], "updated_at": "2027-01-01"})
    mine["annotations"].append({"result": [region("b", key(2, enabled=False))], "updated_at": "2026-06-01"})
    labels = read_labels(written([export(video="other.mp4"), mine]), VIDEO)
    assert [row[0] for row in boxes(labels, 1)] == [1]


BAD_LABEL_STUDIO = {
    "no annotation": ([{"data": {}}], r"has no task with annotations; export from Label Studio as JSON"),
    "cancelled": ([export(was_cancelled=True)], r"the task has no annotation; submit it"),
    "two videos": (
        [export(video="a.mp4"), export(video="b.mp4")],
        r"has 2 tasks, 0 of them of a video named game",
    ),
    "no region": ([export()], r"has no videorectangle with a keyframe"),
    "no width": (
        [export(region("a", {"frame": 1, "x": 1}))],
        r"region a: a keyframe without frame, x, y, width",
    ),
    "frame 0": (
        [export(region("a", key(0)))],
        r"region a: keyframe 0, but frames are whole and count from 1",
    ),
    "beyond": (
        [export(region("a", key(11)))],
        r"region a, frame 11: frame 10, but game\.mp4 ends with frame 9",
    ),
    "text": ("[1, ", r"labels\.json, line 1: .*; correct the JSON"),
    "deep": ("[" * 100_000, r"labels\.json"),
}


@pytest.mark.parametrize(("content", "sentence"), BAD_LABEL_STUDIO.values(), ids=BAD_LABEL_STUDIO.keys())
def test_bad_label_studio_files_name_place_and_fix(written, content, sentence):
    with pytest.raises(LabelsError, match=sentence):
        read_labels(written(content), VIDEO)


def test_label_studio_needs_the_video(written):
    with pytest.raises(LabelsError, match=r"gives boxes in percent; name the video"):
        read_labels(written([export(region("a", key(1)))]))


def blob(x, y, width=5, height=6):
    mask = np.zeros((80, 100), bool)
    mask[y : y + height, x : x + width] = True
    return mask


def test_mots(tmp_path):
    rows = [
        f"1 2001 2 80 100 {encode_rle(blob(10, 20))}",
        f"1 10000 10 80 100 {encode_rle(blob(50, 20))}",
        f"10 2001 2 80 100 {encode_rle(blob(12, 20))}",
    ]
    path = tmp_path / "game.txt"
    path.write_text("\n".join(rows) + "\n")
    labels = read_labels(path, VIDEO)
    assert boxes(labels, 2001) == [[0, 10, 20, 15, 26], [9, 12, 20, 17, 26]]
    assert labels.ground_truth["ignored"].tolist() == [False, True, False]
    assert labels.ground_truth["mask_rle"].tolist()[0] == encode_rle(blob(10, 20))
    # The same file in the MOTSChallenge's tree.
    (tmp_path / "MOTS20-02" / "gt").mkdir(parents=True)
    (tmp_path / "MOTS20-02" / "gt" / "gt.txt").write_text(path.read_text())
    (tmp_path / "MOTS20-02" / "seqinfo.ini").write_text(
        "imWidth=100\nimHeight=80\nframeRate=25\nseqLength=10\n"
    )
    assert read_labels(tmp_path / "MOTS20-02").ground_truth.equals(labels.ground_truth)


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ("1 2001 2 80 100 ", r"line 2: .* is not of the form frame id class height width rle"),
        (f"1 1 2 40 50 {encode_rle(blob(1, 1)[:40, :50])}", r"line 2: a mask of 50 x 40 pixels, .* 100 x 80"),
        ("1 1 2 80 100 PP", r"line 2: the mask 'PP' is not COCO's run-length code of 80 x 100 pixels"),
        (f"1 1 2 80 100 {encode_rle(blob(0, 0, 0))}", r"line 2: the mask has no pixel; remove the row"),
        (
            f"1 2001 2 80 100 {encode_rle(blob(1, 1))}",
            r"line 2: object 2001 is already in frame 1 \(line 1\)",
        ),
        (f"0 1 2 80 100 {encode_rle(blob(1, 1))}", r"line 2: frame 0, but frames count from 1; add 1"),
    ],
    ids=["no mask", "other size", "damaged", "empty", "twice", "from 0"],
)
def test_bad_mots_rows_name_line_and_fix(tmp_path, row, sentence):
    path = tmp_path / "game.txt"
    path.write_text(f"1 2001 2 80 100 {encode_rle(blob(10, 20))}\n{row}\n")
    with pytest.raises(LabelsError, match=sentence):
        read_labels(path, VIDEO)


def coco_rle(mask):
    return {"size": [80, 100], "counts": encode_rle(mask)}


def test_youtube_vis(written):
    uncompressed = {"size": [80, 100], "counts": [10 * 80 + 20, 6, 7174]}
    content = {
        "videos": [{"id": 4, "width": 100, "height": 80, "length": 10, "file_names": ["game/0.jpg"] * 10}],
        "categories": [{"id": 1, "name": "player"}],
        "annotations": [
            {"id": 7, "video_id": 4, "category_id": 1, "iscrowd": 0,
             "segmentations": [coco_rle(blob(10, 20)), None, uncompressed] + [None] * 7,
             "bboxes": [[10, 20, 5, 6], None, None] + [None] * 7},
            {"id": 8, "video_id": 4, "category_id": 1, "iscrowd": 1,
             "segmentations": [[[50, 20, 60, 20, 60, 30, 50, 30]]] + [None] * 9, "bboxes": None},
        ],
    }  # fmt: skip
    for video in (VIDEO, None):
        labels = read_labels(written(content), video)
        assert boxes(labels, 7) == [[0, 10, 20, 15, 26], [2, 10, 20, 11, 26]]
        assert boxes(labels, 8) == [[0, 50, 20, 60, 30]]
        assert labels.ground_truth["ignored"].tolist() == [False, True, False]
        assert decode_rle(labels.ground_truth["mask_rle"].tolist()[0], 80, 100).sum() == 30
    short = SimpleNamespace(**(vars(VIDEO) | {"frame_count": 9, "stated_frame_count": 9}))
    with pytest.raises(
        LabelsError, match=r"labels for 10 frames, but game\.mp4 has 9; use the labels made for all"
    ):
        read_labels(written(content), short)


def images(**more):
    """COCO with a video_id: two images of each of two videos, and an annotation in three of them."""
    return {
        "videos": [{"id": 1, "name": "game"}, {"id": 2, "name": "other"}],
        "images": [
            {"id": 11, "video_id": 1, "file_name": "game/2.jpg", "width": 100, "height": 80, "frame_id": 2},
            {"id": 10, "video_id": 1, "file_name": "game/1.jpg", "width": 100, "height": 80, "frame_id": 1},
            {"id": 20, "video_id": 2, "file_name": "other/1.jpg", "width": 640, "height": 480, "frame_id": 1},
        ],
        "annotations": [
            {"id": 1, "image_id": 11, "track_id": 3, "category_id": 1, "bbox": [10, 20, 5, 6], "iscrowd": 0},
            {"id": 2, "image_id": 10, "instance_id": 3, "category_id": 1, "bbox": [9, 20, 5, 6]} | more,
            {"id": 3, "image_id": 20, "track_id": 3, "category_id": 1, "bbox": [0, 0, 5, 6]},
        ],
    }  # fmt: skip


def test_coco_images_with_a_video_id(written):
    labels = read_labels(written(images()), VIDEO)
    assert boxes(labels, 3) == [[0, 9, 20, 14, 26], [1, 10, 20, 15, 26]]
    assert labels.labelled_frames.tolist() == [0, 1]
    attributes = images(instance_id=None, attributes={"track_id": 3})
    assert read_labels(written(attributes), VIDEO).ground_truth.equals(labels.ground_truth)
    crowds = images(iscrowd=1)
    assert read_labels(written(crowds), VIDEO).ground_truth["ignored"].tolist() == [True, False]
    crowds["annotations"][0]["iscrowd"] = 1
    all_crowds = read_labels(written(crowds), VIDEO)
    assert not all_crowds.ground_truth["ignored"].any()
    assert "calls every object a crowd" in all_crowds.notes[0]


BAD_COCO = {
    "no annotations": ({"images": []}, r"has no annotations; give a COCO \.json"),
    "unnamed videos": (images() | {"videos": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]},
                       r"has 2 videos \(a, b\), 0 of them named game; name the video"),
    "no identity": (images(instance_id=None), r"annotation 2 has no track_id; boxes without identity"),
    "no box": (images(bbox=None), r"annotation 2, frame 0: no box and no mask that can be read"),
    "mask size": (images(segmentation={"size": [8, 10], "counts": "PP"}), r"annotation 2, .* of \[8, 10\]"),
    "no image id": (images() | {"annotations": [{"id": 1}]}, r"is not as COCO has it \(KeyError"),
    "of others": (images() | {"annotations": []}, r"has no annotation of this video"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "sentence"), BAD_COCO.values(), ids=BAD_COCO.keys())
def test_bad_coco_files_name_place_and_fix(written, content, sentence):
    with pytest.raises(LabelsError, match=sentence):
        read_labels(written(content), VIDEO)


def tree(root, *names):
    """Sequences as SportsMOT and DanceTrack have them."""
    for name in names:
        (root / name / "gt").mkdir(parents=True)
        (root / name / "img1").mkdir()
        (root / name / "gt" / "gt.txt").write_text(
            "1, 0, 10, 20, 20, 30, 1, 1, 1\n2, 0, 12, 20, 20, 30, 1, 1, 1\n"
        )
        (root / name / "seqinfo.ini").write_text(
            f"[Sequence]\nname={name.rsplit('/', 1)[-1]}\nimDir=img1\nframeRate=25\nseqLength=10\n"
            "imWidth=100\nimHeight=80\nimExt=.jpg\n"
        )
    return root


def test_trees_of_sequences(tmp_path):
    root = tree(tmp_path, "dataset/train/v_1_c001", "dataset/val/v_2_c001", "dancetrack0001")
    assert [path.name for path in sequences(root)] == ["dancetrack0001", "v_1_c001", "v_2_c001"]
    labels = read_labels(sequences(root)[1])
    assert (labels.name, labels.fps, boxes(labels, 0)[1]) == ("v_1_c001", 25, [1, 12, 20, 32, 50])
    with pytest.raises(
        LabelsError, match=r"holds 3 labelled videos; name one of them, such as .*dancetrack0001"
    ):
        read_labels(root)


def test_a_folder_of_several_exports_is_ambiguous(tmp_path):
    (tmp_path / "a.json").write_text("[]")
    (tmp_path / "b.xml").write_text(task(track(0, box(0))))
    with pytest.raises(LabelsError, match=r"holds several exports \(a\.json, b\.xml\); keep one"):
        read_labels(tmp_path, VIDEO)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(LabelsError, match=r"empty holds no labels; put gt/gt\.txt, a CVAT \.xml or \.zip"):
        read_labels(empty, VIDEO)
    with pytest.raises(LabelsError, match=r"there are no labels at .*nowhere; check the path"):
        read_labels(tmp_path / "nowhere", VIDEO)
    (tmp_path / "labels.docx").write_bytes(b"PK")
    with pytest.raises(LabelsError, match=r"labels\.docx is of no format that is read; give gt/gt\.txt"):
        read_labels(tmp_path / "labels.docx", VIDEO)


def test_the_hash_covers_an_export_and_what_lies_beside_it(tmp_path, xml):
    path = xml(task(track(0, box(0))))
    before = read_labels(tmp_path, VIDEO).sha256
    (tmp_path / "notes.md").write_text("nothing")
    assert read_labels(tmp_path, VIDEO).sha256 == before
    (tmp_path / "roster.csv").write_text("id,team,number\n0,white,7\n")
    labels = read_labels(tmp_path, VIDEO)
    assert labels.sha256 != before
    assert labels.roster["jersey_number"].tolist() == ["7"]
    assert read_labels(path, VIDEO).sha256 == before


def test_everything_wrong_is_said_at_once(tmp_path):
    folder = tree(tmp_path, "game") / "game"
    rows = [
        "1,1,10,20,20,30,1,1,1", "0,1,10,20,20,30,1,1,1", "2,1,nan,20,20,30,1,1,1", "3,1,10,20,20,30,1,1",
        "1,1,12,20,20,30,1,1,1", "4,1,10,20,0,30,1,1,1", "5,1,500,20,20,30,1,1,1", "6,1,510,20,20,30,1,1,1",
        "7,1,520,20,20,30,1,1,1", "8,x,10,20,20,30,1,1,1", "99,1,10,20,20,30,1,1,1", "9,2,10,20,20,30,1,1,1",
    ]  # fmt: skip
    (folder / "gt" / "gt.txt").write_text("\n".join(rows))
    (folder / "roster.csv").write_text("id,team,number\n1,white,100\n2,white,7\n9,white,8\n")
    (folder / "prompts.json").write_text('{"player": ["one"], "referee": [11]}')
    (folder / "labelled_frames.txt").write_text("1\n2\n55\n")
    check = check_labels(folder, VIDEO)
    gt = folder / "gt" / "gt.txt"
    expected = [
        ("labelled_frames.txt, line 3: frame 55, but seqLength",),
        (f"{gt}, line 4: 8 columns instead of 9 as above",),
        (f"{gt}, line 10: column 2 is 'x', not a number",),
        (f"{gt}, line 3: column 3 is nan",),
        (f"{gt}, line 2: frame 0, but frames count from 1",),
        (f"{gt}, line 11: frame 99, but seqLength",),
        (f"{gt}, line 5: object 1 is already in frame 1 (line 1)",),
        (f"{gt}, line 6: a box of 0 x 30 pixels",),
        (f"{gt}, line 7: the box x 500 to 520", "(the same at lines 8-9)"),
        ("prompts.json: prompt 'player' has ['one']",),
        ("roster.csv, line 2: jersey number '100'",),
    ]
    assert len(check.errors) == len(expected)
    for error, parts in zip(check.errors, expected, strict=True):
        assert all(part in error for part in parts), error
    assert len(check.labels.ground_truth) == 2
    assert check.warnings[:2] == (
        "prompt 'referee' means objects that are nowhere: 11",
        "the roster names objects that are nowhere: 9",
    )


def test_what_looks_wrong_is_said_too(tmp_path):
    folder = tree(tmp_path, "game") / "game"
    rows = [f"{frame},1,{10 if frame < 4 else 75},5,10,20,1,1,1" for frame in range(1, 6)]
    rows += [f"{frame},2,50,40,10,20,1,1,1" for frame in range(1, 6)]
    rows += [f"{frame},3,50,40.5,10,20,1,1,1" for frame in range(2, 4)]
    (folder / "gt" / "gt.txt").write_text("\n".join(rows))
    (folder / "roster.csv").write_text("id,team,number\n1,white,7\n2,white,7\n")
    masks = {"height": 80, "width": 100, "frames": {"1": {"2": encode_rle(blob(0, 0))}}}
    (folder / "masks.json").write_text(json.dumps(masks))
    check = check_labels(folder)
    assert check.errors == ()
    assert check.warnings == (
        "objects 1 and 2 are both white 7, and in view at once in frames 0, 1, 2, 3, 4",
        "5 labelled frames have no box: 5, 6, 7, 8, 9; right if nobody was in view",
        "objects 2 and 3 have the same box in frames 1, 2; one person twice?",
        "object 1 jumps, by up to 65 pixels, into frames 3; two people under one id?",
        "1 masks do not fill their box: frames 0 (object 2)",
    )
    masks["frames"]["1"]["2"] = "PP"
    (folder / "masks.json").write_text(json.dumps(masks))
    assert "frame 1, object 2: the mask 'PP' is not COCO's run-length code" in check_labels(folder).errors[0]


def test_good_labels_have_nothing_wrong(real_clips):
    for name in ("basketball-a", "tud-campus", "tud-stadtmitte"):
        check = check_labels(real_clips / name)
        assert (check.errors, check.notes) == ((), ())
        assert not any("mask" in warning or "nowhere" in warning for warning in check.warnings)


def test_a_file_that_is_missing_stops_nothing_else(tmp_path):
    folder = tree(tmp_path, "game") / "game"
    (folder / "seqinfo.ini").unlink()
    (folder / "gt" / "gt.txt").write_text("1,1,nan,20,20,30,1,1,1\n2,1,10,20,20,30,1,1,1\n")
    errors = check_labels(folder).errors
    assert "seqinfo.ini is missing" in errors[0]
    assert "line 1: column 3 is nan" in errors[1]


def test_the_command_says_all_and_by_its_exit_code_whether_labels_can_be_read(tmp_path, capsys):
    root = tree(tmp_path, "val/v_1", "val/v_2")
    assert cli.main(["labels", "check", str(root / "val" / "v_1")]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{root}/val/v_1: 1 objects, 2 boxes, 0 masks in 10 labelled of 10 frames of 100 x 80 pixels",
        "  warning: 8 labelled frames have no box: 2, 3, 4, 5, 6, 7 and 2 more; right if nobody was in view",
    ]
    (root / "val" / "v_2" / "gt" / "gt.txt").write_text("0,1,1,1,5,5,1,1,1\n1,1,1,1,5,0,1,1,1\n")
    assert cli.main(["labels", "check", str(root)]) == 1
    shown = capsys.readouterr().out.splitlines()
    assert [line for line in shown if "v_2" in line] == [
        f"{root}/val/v_2: 0 objects, 0 boxes, 0 masks in 10 labelled of 10 frames of 100 x 80 pixels",
        f"  error: {root}/val/v_2/gt/gt.txt, line 1: frame 0, but frames count from 1; "
        "add 1 to each frame of this file",
        f"  error: {root}/val/v_2/gt/gt.txt, line 2: a box of 5 x 0 pixels; width and height must be "
        "positive, so correct the row or remove it",
    ]
    assert shown[-1] == "2 labelled videos, 1 of them with errors"
    assert cli.main(["labels", "check", str(root / "nothing")]) == 1
    assert "error: there are no labels at" in capsys.readouterr().out
