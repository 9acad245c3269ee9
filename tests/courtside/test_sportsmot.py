"""SportsMOT's tree and protocol, on two small sequences laid out as the data set is."""

from __future__ import annotations

import cv2
import numpy as np
import pandas as pd
import pytest
from trackers.eval import evaluate_mot_sequences

from courtside import cli
from courtside.errors import LabelsError
from courtside.sportsmot import COLUMNS, evaluate, find_sequences
from courtside.video import Video

FRAMES = 8


def _write_sequence(folder, left, labelled=True):
    (folder / "img1").mkdir(parents=True)
    (folder / "det").mkdir()
    for frame in range(FRAMES):
        image = np.full((64, 96, 3), 40, np.uint8)
        image[20:44, left + frame : left + frame + 12] = 220
        cv2.imwrite(str(folder / "img1" / f"{frame + 1:06d}.jpg"), image)
    (folder / "seqinfo.ini").write_text(
        f"[Sequence]\nname={folder.name}\nimDir=img1\nframeRate=25\nseqLength={FRAMES}\n"
        "imWidth=96\nimHeight=64\nimExt=.jpg\n"
    )
    rows = [(frame + 1, left + frame) for frame in range(FRAMES)]
    # The detector misses the first and doubles the last, so that the figures are none that come by chance.
    boxes = [(frame, x + 1, 0.9) for frame, x in rows[1:]] + [(FRAMES, 70, 0.9)]
    (folder / "det" / "det.txt").write_text("".join(f"{f},-1,{x},20,12,24,{s}\n" for f, x, s in boxes))
    if labelled:
        (folder / "gt").mkdir()
        (folder / "gt" / "gt.txt").write_text("".join(f"{f}, 0, {x}, 20, 12, 24, 1, 1, 1\n" for f, x in rows))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("sportsmot")
    lists = {
        "train": ["v_t"], "val": ["v_b", "v_football", "v_a"], "test": ["v_c"],
        "basketball": ["v_a", "v_b", "v_c"],
    }  # fmt: skip
    (root / "splits_txt").mkdir()
    for name, names in lists.items():
        (root / "splits_txt" / f"{name}.txt").write_text("\n".join(names))
    _write_sequence(root / "dataset" / "val" / "v_a", 5)
    _write_sequence(root / "dataset" / "val" / "v_b", 40)
    _write_sequence(root / "dataset" / "test" / "v_c", 5, labelled=False)
    return root


def test_the_sequences_of_a_sport_in_a_split(root):
    assert [path.name for path in find_sequences(root)] == ["v_b", "v_a"]
    assert [path.name for path in find_sequences(root, "test")] == ["v_c"]


def test_what_is_missing_is_named(root, tmp_path):
    with pytest.raises(LabelsError, match=r"there is no .*val\.txt; name the folder of SportsMOT that holds"):
        find_sequences(tmp_path)
    with pytest.raises(LabelsError, match=r"train\.txt and basketball\.txt have no sequence in common"):
        find_sequences(root, "train")
    (tmp_path / "splits_txt").mkdir()
    for name in ("val", "basketball"):
        (tmp_path / "splits_txt" / f"{name}.txt").write_text("v_a v_b")
    with pytest.raises(
        LabelsError, match=r"there is no folder .*dataset/val or .*val; unpack that split there"
    ):
        find_sequences(tmp_path)
    (tmp_path / "val" / "v_a" / "img1").mkdir(parents=True)
    with pytest.raises(
        LabelsError, match=r"lacks the pictures of 1 of 2 basketball sequences, such as v_b/img1"
    ):
        find_sequences(tmp_path)


def test_pictures_go_by_their_sequence(root):
    video = Video(root / "dataset" / "val" / "v_a" / "img1")
    assert (video.name, video.fps, video.frame_count, video.warnings) == ("v_a", 25, FRAMES, [])


def test_the_protocol_is_trackevals(root, tmp_path, capsys):
    command = ["sportsmot", str(root), "--tracker", "bytetrack", "--out", str(tmp_path), "--quiet"]
    assert cli.main(command) == 0
    shown = capsys.readouterr().out
    assert f"summary: {tmp_path / 'summary.csv'}" in shown
    summary = pd.read_csv(tmp_path / "summary.csv")
    assert list(summary.columns) == list(COLUMNS)
    assert summary["sequence"].tolist() == ["v_b", "v_a", "COMBINED"]
    result = evaluate_mot_sequences(
        root / "dataset" / "val", tmp_path / "bytetrack" / "data", metrics=["CLEAR", "HOTA", "Identity"]
    )
    for row, theirs in zip(
        summary.itertuples(),
        [result.sequences["v_b"], result.sequences["v_a"], result.aggregate],
        strict=True,
    ):
        expected = (
            theirs.HOTA.HOTA,
            theirs.HOTA.DetA,
            theirs.HOTA.AssA,
            theirs.Identity.IDF1,
            theirs.CLEAR.MOTA,
        )
        ours = (row.HOTA, row.DetA, row.AssA, row.IDF1, row.MOTA)
        np.testing.assert_allclose(ours, [100 * value for value in expected], atol=0.006)
        assert (row.IDSW, row.Frag) == (theirs.CLEAR.IDSW, theirs.CLEAR.Frag)
    assert 0 < summary["HOTA"].iloc[2] < 100


def test_the_test_split_has_tracks_to_hand_in_but_no_scores(root, tmp_path):
    summary, failed = evaluate(root, tmp_path, split="test", tracker="ocsort", progress=False)
    assert (summary["sequence"].tolist(), failed) == (["v_c"], 0)
    assert summary["HOTA"].isna().all()
    assert (tmp_path / "ocsort" / "data" / "v_c.txt").is_file()


def test_a_sequence_that_fails_says_why_and_the_others_go_on(root, tmp_path, capsys):
    broken = root / "dataset" / "val" / "v_b" / "det" / "det.txt"
    kept = broken.read_text()
    broken.write_text("1,-1,nan,20,12,24,0.9\n")
    try:
        assert (
            cli.main(["sportsmot", str(root), "--tracker", "bytetrack", "--out", str(tmp_path), "--quiet"])
            == 1
        )
    finally:
        broken.write_text(kept)
    summary = pd.read_csv(tmp_path / "summary.csv")
    assert summary["sequence"].tolist() == ["v_b", "v_a", "COMBINED 1 of 2"]
    assert "det.txt, line 1: column 3 is nan" in summary["why"].iloc[0]
    assert pd.isna(summary["HOTA"].iloc[0])
