"""The stage that reads numbers: its tables, its run, its scores, and merging."""

from __future__ import annotations

from html import unescape

import cv2
import numpy as np
import pandas as pd
import pytest

from courtside import cli, tables
from courtside.errors import ModelError
from courtside.jersey import Reading, make_reader
from courtside.labelling import LabelSet
from courtside.labels import read_labels
from courtside.players import tracks_said
from courtside.reading import fill_players, read_players
from courtside.report.player import track_layer
from courtside.report.players import players_section
from courtside.roster import Roster
from courtside.run import Settings, execute
from courtside.scoring import score
from courtside.scoring.jerseys import combine_jerseys, confusion, jersey_rates, reliability
from courtside.video import Video, VideoWriter

WIDTH, HEIGHT, FRAMES = 480, 240, 40
CLOTHS = {1: (20, 30, 140), 2: (20, 30, 140), 3: (200, 30, 30), 4: (200, 30, 30)}
NUMBERS = {1: "7", 2: "7", 3: "7", 4: ""}
LEFTS = {1: 20, 2: 20, 3: 180, 4: 320}
SPANS = {1: range(19), 2: range(21, 40), 3: range(40), 4: range(40)}


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Four tracks of drawn torsos: 1 and 2 carry one number after another, 4 carries none."""
    folder = tmp_path_factory.mktemp("clip")
    (folder / "gt").mkdir()
    rows = []
    with VideoWriter(folder / "video.mp4", WIDTH, HEIGHT, 25) as writer:
        for frame in range(FRAMES):
            image = np.full((HEIGHT, WIDTH, 3), 110, np.uint8)
            for who, cloth in CLOTHS.items():
                if frame not in SPANS[who]:
                    continue
                left = LEFTS[who]
                image[20:220, left : left + 90] = cloth
                at = (left + 36, 104)
                cv2.putText(image, NUMBERS[who], at, cv2.FONT_HERSHEY_SIMPLEX, 0.9, (250, 250, 250), 3)
                rows.append(f"{frame + 1},{who},{left},20,90,200,1,1,1")
            writer.write(image)
    (folder / "gt" / "gt.txt").write_text("\n".join(rows))
    size = f"imWidth={WIDTH}\nimHeight={HEIGHT}\nframeRate=25\nseqLength={FRAMES}\n"
    (folder / "seqinfo.ini").write_text(f"[Sequence]\n{size}")
    (folder / "roster.csv").write_text("object_id,team,jersey_number\n1,blue,7\n2,blue,64\n3,red,7\n4,red,\n")
    return folder


def settings(clip, out, **changes) -> Settings:
    return Settings(video=clip / "video.mp4", out=out, tracker="labels", labels=clip, **changes)


@pytest.fixture(scope="module")
def run(clip, tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    return execute(settings(clip, out), stages=("track", "read", "score"), progress=False)


def test_a_run_reads_its_numbers(run):
    players = run.players().set_index("player_id")
    assert players["jersey_number"].fillna("?").to_dict() == {"P1": "7", "P2": "7", "P3": "?", "P4": "7"}
    assert players["team"].to_dict() == {"P1": "blue", "P2": "red", "P3": "red", "P4": "blue"}
    assert players.loc["P4", "same_as"] == "P1"
    reads = run.reads()
    assert set(reads["tracking_id"]) == {1, 2, 3, 4}
    assert reads.groupby("tracking_id").size().max() <= 44
    assert reads.loc[reads["used"], "why"].isna().all()
    filled = run.detections().drop_duplicates("tracking_id").set_index("tracking_id")
    assert filled["player_id"].to_dict() == {1: "P1", 2: "P4", 3: "P2", 4: "P3"}
    assert filled["jersey_number"].fillna("?").to_dict() == {1: "7", 2: "7", 3: "7", 4: "?"}


def test_numbers_are_scored(run):
    metrics = run.scores()["metrics"]
    names = ("jersey_right", "jersey_wrong", "jersey_unknown", "jersey_unreadable")
    assert [metrics[name] for name in names] == [2, 1, 0, 1]
    assert metrics["merged_fragments_per_object"] == 1.0
    names = ("jersey_accuracy", "jersey_coverage", "jersey_accuracy_answered", "jersey_wrong_rate")
    assert [metrics[name] for name in names] == pytest.approx([2 / 3, 1, 2 / 3, 1 / 4])
    told = run.scores()["protocol"]["jerseys"]
    sure = run.players().set_index("player_id")["confidence"]
    assert {each["player_id"]: (each["object_id"], each["confidence"]) for each in told["tracks"]} == {
        name: (one, sure[name]) for name, one in {"P1": 1, "P2": 3, "P3": 4, "P4": 2}.items()
    }
    assert [(row["true"], row["likeliest"], row["given"]) for row in told["confusion"]] == [("64", "7", 1)]
    both = combine_jerseys([told, None, told])
    assert both["metrics"]["jersey_right"] == 4
    assert [row["tracks"] for row in both["confusion"]] == [2]
    assert sum(row["tracks"] for row in both["reliability"]) == 6


@pytest.mark.parametrize(("with_roster", "least"), [(False, 7), (True, 8)])
def test_numbers_of_a_broadcast_clip(with_roster, least, real_clips, tmp_path):
    """Its tracks given, nine of ten players have a number that somebody could read."""
    folder = real_clips / "basketball-a"
    roster = folder / "roster.csv" if with_roster else None
    known = Settings(
        video=folder / "video.mp4", out=tmp_path / "run", tracker="labels", labels=folder, roster=roster
    )
    metrics = execute(known, stages=("track", "read", "score"), progress=False).scores()["metrics"]
    assert metrics["jersey_right"] >= least
    assert metrics["jersey_wrong"] == 0
    assert metrics["merged_fragments_per_object"] == 1.0


def test_how_sure_is_held_against_how_right():
    """Four at 0.9, of which three are right, one at 0.4 that is wrong, and one that reads as nothing."""
    told = [("7", "7"), ("7", "7"), ("23", "23"), ("23", "28"), (None, "1"), ("5", None)]
    sure = [0.9, 0.9, 0.9, 0.9, 0.4, 0.0]
    tracks = [
        {
            "true": true,
            "likeliest": likeliest,
            "given": likeliest if share > 0.8 else None,
            "confidence": share,
        }
        for (true, likeliest), share in zip(told, sure, strict=True)
    ]
    low, high = reliability(tracks)
    assert (low["tracks"], low["right"], low["confidence"]) == (1, 0, 0.4)
    assert (high["low"], high["high"], high["tracks"], high["right"]) == (0.8, 0.95, 4, 0.75)
    # Wilson 1927 for 3 of 4 by hand: (p + z z / 2n -+ z sqrt(p q / n + z z / 4n n)) / (1 + z z / n).
    z, p, n = 1.959964, 0.75, 4
    middle, half = p + z * z / (2 * n), z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    bounds = np.array([middle - half, middle + half]) / (1 + z * z / n)
    assert [high["right_low"], high["right_high"]] == pytest.approx(bounds, abs=1e-5)
    assert [(row["true"], row["likeliest"]) for row in confusion(tracks)] == [("23", "28"), (None, "1")]
    rates = {"accuracy": 3 / 5, "coverage": 4 / 5, "accuracy_answered": 3 / 4, "wrong_rate": 1 / 6}
    assert jersey_rates(tracks) == pytest.approx({f"jersey_{name}": share for name, share in rates.items()})
    assert set(jersey_rates([]).values()) == {None}
    assert reliability([]) == confusion([]) == []


def test_the_report_holds_numbers_against_the_roster(clip, run):
    page = players_section(run, Video(clip / "video.mp4")).html
    assert "Against the roster of the labels" in page
    assert "<td>64</td><td>7</td>" in page.replace("\n", "").replace(' class="number"', "")


def test_merges_are_applied_when_accepted_and_said(clip, run, capsys):
    assert cli.main(["read", str(run.folder), "--merge", "accept", "--quiet"]) == 0
    assert "P1 (track 1, 2): blue 7" in capsys.readouterr().out
    assert run.status()["read"]["warnings"] == ["tracks were merged into one player: 1 and 2"]
    assert run.detections()["player_id"].nunique() == 3
    section = players_section(run, Video(clip / "video.mp4"))
    assert "2 players of 3 got a number" in section.html
    assert "Nobody's" not in unescape(section.html)
    assert cli.main(["read", str(run.folder), "--merge", "propose", "--quiet"]) == 0
    capsys.readouterr()
    assert "1 merge proposal" in players_section(run, Video(clip / "video.mp4")).html


CROSS = 60


@pytest.fixture(scope="module")
def swapped(tmp_path_factory):
    """Two of one team pass each other, 23 in front of 64; the tracks change the player when they meet."""
    folder = tmp_path_factory.mktemp("swapped")
    tracks, truth = folder / "tracks", folder / "truth"
    for each in (tracks, truth):
        (each / "gt").mkdir(parents=True)
        size = f"imWidth={WIDTH}\nimHeight={HEIGHT}\nframeRate=25\nseqLength={CROSS}\n"
        (each / "seqinfo.ini").write_text(f"[Sequence]\n{size}")
    rows = {tracks: [], truth: []}
    with VideoWriter(folder / "video.mp4", WIDTH, HEIGHT, 25) as writer:
        for frame in range(CROSS):
            image = np.full((HEIGHT, WIDTH, 3), 110, np.uint8)
            for who, text, left in ((2, "64", 360 - 6 * frame), (1, "23", 6 * frame)):
                image[20:220, left : left + 90] = (20, 30, 140)
                at = (left + 26, 104)
                cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.9, (250, 250, 250), 3)
                for each, name in ((truth, who), (tracks, who if frame < CROSS // 2 else 3 - who)):
                    rows[each].append(f"{frame + 1},{name},{left},20,90,200,1,1,1")
            writer.write(image)
    for each, lines in rows.items():
        (each / "gt" / "gt.txt").write_text("\n".join(lines))
    (truth / "roster.csv").write_text("object_id,team,jersey_number\n1,blue,23\n2,blue,64\n")
    return folder


def test_tracks_that_change_the_player_are_cut_where_they_cross(swapped, tmp_path, capsys):
    """Each part gets its own number; joined by number, each player has its rows, once in a frame."""
    at = Settings(video=swapped / "video.mp4", out=tmp_path, tracker="labels", labels=swapped / "tracks")
    run = execute(at, stages=("track", "read"), progress=False)
    players = run.players()
    assert sorted(players["jersey_number"]) == ["23", "23", "64", "64"]
    assert players["tracking_ids"].map(len).eq(1).all()
    [cut] = set(players.loc[players["first_frame"] > 0, "first_frame"])
    assert abs(cut - CROSS // 2) <= 4
    [said] = run.status()["read"]["warnings"]
    assert said.startswith("tracks seem to have gone on with somebody else and were cut: 1 at ")
    assert ", 2 at " in said

    assert cli.main(["read", str(run.folder), "--merge", "accept", "--quiet"]) == 0
    said = capsys.readouterr().out
    assert f"track 1 in frames 0 to {cut - 1}, 2 in frames {cut} to {CROSS - 1}" in said
    detections, players = run.detections(), run.players()
    assert not detections.duplicated(["player_id", "frame"]).any()
    early = detections["frame"] < cut
    assert set(detections.loc[early ^ (detections["tracking_id"] == 2), "jersey_number"]) == {"23"}
    video = Video(swapped / "video.mp4")
    labels = read_labels(swapped / "truth", video)
    scores = score(detections, labels, times_s=video.times_s, players=players)
    assert (scores.metrics["jersey_right"], scores.metrics["jersey_wrong"]) == (2, 0)
    assert scores.metrics["idf1"] < 0.6
    assert scores.metrics["merged_idf1"] > 0.85
    assert f"in frames {cut} to {CROSS - 1}" in players_section(run, video).html


def handed_over(swapped, folder, shared: int):
    """Labels in which a second track takes over 23, while the first goes on for ``shared`` frames."""
    (folder / "gt").mkdir(parents=True)
    (folder / "seqinfo.ini").write_text((swapped / "truth" / "seqinfo.ini").read_text())
    rows = []
    for line in (swapped / "truth" / "gt" / "gt.txt").read_text().split():
        frame, who, rest = line.split(",", 2)
        if who == "1":
            rows += [f"{frame},1,{rest}"] * (int(frame) <= 10 + shared)
            rows += [f"{frame},3,{rest}"] * (int(frame) > 10)
        else:
            rows.append(line)
    (folder / "gt" / "gt.txt").write_text("\n".join(rows))
    return Settings(video=swapped / "video.mp4", out=folder.parent / "run", tracker="labels", labels=folder)


def test_a_player_whom_two_tracks_show_for_a_moment_is_one(swapped, tmp_path, capsys):
    run = execute(handed_over(swapped, tmp_path / "labels", 8), stages=("track", "read"), progress=False)
    assert sorted(run.players()["jersey_number"]) == ["23", "23", "64"]
    assert cli.main(["read", str(run.folder), "--merge", "accept", "--quiet"]) == 0
    capsys.readouterr()
    players = run.players().set_index("jersey_number")
    assert [players.loc["23", name].tolist() for name in ("tracking_ids", "from_frames", "to_frames")] == [
        [1, 3],
        [0, 10],
        [9, CROSS - 1],
    ]
    detections = run.detections()
    nobodys = detections["player_id"].isna()
    assert detections.loc[nobodys, "frame"].tolist() == [*range(10, 18)]
    assert set(detections.loc[nobodys, "tracking_id"]) == {1}
    assert detections.loc[nobodys, "jersey_number"].isna().all()
    assert not detections[~nobodys].duplicated(["player_id", "frame"]).any()
    video = Video(swapped / "video.mp4")
    scores = score(
        detections, read_labels(swapped / "truth", video), times_s=video.times_s, players=run.players()
    )
    assert scores.metrics["idf1"] < 0.9
    # What is left over is nobody's, and no player.
    assert scores.metrics["merged_idf1"] == scores.metrics["merged_fragments_per_object"] == 1.0
    assert scores.metrics["jersey_right"] == 2
    page = unescape(players_section(run, video).html)
    assert "23" in page
    assert f"Nobody's: 8 of {len(detections)} boxes." in page
    with LabelSet(video.path, tmp_path / "mine", start=run.folder) as labels:
        rows = labels.draft.rows
    assert len(rows) == 2 * CROSS
    assert not rows.duplicated(["object_id", "frame"]).any()


LEGS = {1: (120, 80, 60), 2: (235, 205, 180), 3: (60, 40, 30), 4: (170, 120, 90), 5: (120, 80, 60)}
BLUE, YELLOW, GRAY = (20, 30, 140), (230, 200, 40), (120, 120, 120)


def show_legs(folder, lefts: dict[int, int], track_of, cloths: dict[int, tuple] | None = None):
    """People without numbers, told apart by their legs, of whom each is followed by the track that
    ``track_of(who, frame)`` says, or by none, and read."""
    (folder / "gt").mkdir()
    rows, frames = [], 80
    with VideoWriter(folder / "video.mp4", WIDTH, HEIGHT, 25) as writer:
        for frame in range(frames):
            image = np.full((HEIGHT, WIDTH, 3), 110, np.uint8)
            for who, left in lefts.items():
                left += frame // 8
                image[20:130, left : left + 60] = cloths[who] if cloths else BLUE
                image[130:220, left : left + 60] = LEGS[who]
                track = track_of(who, frame)
                if track:
                    rows.append(f"{frame + 1},{track},{left},20,60,200,1,1,1")
            writer.write(image)
    (folder / "gt" / "gt.txt").write_text("\n".join(rows))
    size = f"imWidth={WIDTH}\nimHeight={HEIGHT}\nframeRate=25\nseqLength={frames}\n"
    (folder / "seqinfo.ini").write_text(f"[Sequence]\n{size}")
    return execute(settings(folder, folder / "run"), stages=("track", "read"), progress=False)


def lose_and_find(folder, then: dict[int, int]):
    """Each of three is lost for a while and found again by the tracks ``then``."""

    def track_of(who: int, frame: int) -> int | None:
        middle = 30 + 5 * who
        if abs(frame - middle) <= 8:
            return None
        return who if frame < middle else then[who]

    return show_legs(folder, {1: 30, 2: 180, 3: 330}, track_of)


def spans_of(players: pd.DataFrame) -> set:
    names = ("tracking_ids", "from_frames", "to_frames")
    return {tuple(tuple(map(int, getattr(row, name))) for name in names) for row in players.itertuples()}


def test_tracks_that_show_no_number_are_joined_by_looks(tmp_path):
    run = lose_and_find(tmp_path, {1: 6, 2: 5, 3: 4})
    assert run.players()["jersey_number"].isna().all()
    proposed = run.players().dropna(subset="same_as").set_index("player_id")
    section = players_section(run, Video(tmp_path / "video.mp4")).html
    assert "they look alike and are never on screen together" in section
    assert len(proposed) == 3
    assert proposed["same_confidence"].min() >= 0.95
    assert cli.main(["read", str(run.folder), "--merge", "accept", "--quiet"]) == 0
    assert sorted(run.players()["tracking_ids"].map(list)) == [[1, 6], [2, 5], [3, 4]]


def test_a_track_that_finds_somebody_else_again_is_cut_where_it_was_lost(tmp_path):
    """1 and 2 are taken for each other when they are found again, 3 is not."""
    run = lose_and_find(tmp_path, {1: 2, 2: 1, 3: 3})
    assert run.status()["read"]["warnings"] == [
        "tracks seem to have been found again on somebody else and were cut: 1 at 2.0 s, 2 at 1.8 s"
    ]
    assert sorted(run.players()["tracking_ids"].map(list)) == [[1], [1], [2], [2], [3]]
    assert cli.main(["read", str(run.folder), "--merge", "accept", "--quiet"]) == 0
    assert spans_of(run.players()) == {
        ((1, 2), (0, 44), (26, 79)),
        ((2, 1), (0, 49), (31, 79)),
        ((3,), (0,), (79,)),
    }


def test_who_has_the_legs_of_a_player_but_not_the_jersey_is_somebody_else(tmp_path):
    """A referee, of no team, is seen from when 1 was lost; 2 is found again."""

    def track_of(who: int, frame: int) -> int | None:
        if who == 1:
            return 1 if frame < 40 else None
        if who == 5:
            return 5 if frame >= 43 else None
        return who if who != 2 or frame < 40 else 6 if frame >= 43 else None

    cloths = {1: BLUE, 2: BLUE, 3: YELLOW, 4: YELLOW, 5: GRAY}
    run = show_legs(tmp_path, {1: 5, 2: 80, 3: 155, 4: 230, 5: 305}, track_of, cloths)
    players = run.players().set_index("player_id")
    assert players["team"].fillna("none").tolist().count("none") == 1
    [proposed] = players.dropna(subset="same_as").itertuples()
    assert [list(proposed.tracking_ids), list(players.loc[proposed.same_as, "tracking_ids"])] == [[6], [2]]


@pytest.mark.parametrize("forward", [True, False])
def test_a_track_that_goes_on_as_another_one_is_cut_where_that_one_ends_or_begins(tmp_path, forward):
    """1 shows whom 2 showed from frame 40 on, or until then; whom it showed otherwise 4 finds at once."""

    def track_of(who: int, frame: int) -> int | None:
        before = frame < 40 if forward else frame >= 40
        later = frame >= 43 if forward else frame < 37
        if who == 3:
            return 3
        if who == 2:
            return 2 if before else 1
        return 1 if before else 4 if later else None

    run = show_legs(tmp_path, {1: 30, 2: 70, 3: 330}, track_of)
    assert run.status()["read"]["warnings"] == [
        "tracks seem to have gone on with somebody else and were cut: 1 at 1.6 s"
    ]
    proposed = run.players().dropna(subset="same_as")
    assert len(proposed) == 2
    assert proposed["same_confidence"].min() >= 0.95
    assert cli.main(["read", str(run.folder), "--merge", "accept", "--quiet"]) == 0
    assert spans_of(run.players()) == (
        {((1, 4), (0, 43), (39, 79)), ((2, 1), (0, 40), (39, 79)), ((3,), (0,), (79,))}
        if forward
        else {((4, 1), (0, 40), (36, 79)), ((1, 2), (0, 40), (39, 79)), ((3,), (0,), (79,))}
    )


def test_a_track_that_stays_with_its_player_where_another_one_ends_is_whole(tmp_path):
    """2 is lost beside 1 and found again by 5."""

    def track_of(who: int, frame: int) -> int | None:
        return who if who != 2 or frame < 40 else 5 if frame >= 60 else None

    run = show_legs(tmp_path, {1: 30, 2: 70, 3: 330}, track_of)
    assert run.status()["read"]["warnings"] == []
    assert sorted(run.players()["tracking_ids"].map(list)) == [[1], [2], [3], [5]]


def test_two_tracks_together_for_longer_are_two_players(swapped, tmp_path):
    run = execute(handed_over(swapped, tmp_path / "labels", 20), stages=("track", "read"), progress=False)
    numbers = run.players()["jersey_number"].dropna().tolist()
    assert numbers.count("23") <= 1
    assert run.players()["same_as"].isna().all()


def test_labelling_begins_with_players_not_with_tracks_that_changed_them(swapped, tmp_path):
    at = Settings(video=swapped / "video.mp4", out=tmp_path, tracker="labels", labels=swapped / "tracks")
    run = execute(at, stages=("track", "read"), progress=False)
    with LabelSet(run.settings().video, tmp_path / "labels", start=run.folder) as labels:
        people = {one: labels.draft.person(one).jersey_number for one in (1, 2, 3, 4)}
        rows = labels.draft.rows
    assert sorted(people.values()) == ["23", "23", "64", "64"]
    assert rows.groupby("object_id")["frame"].agg(["min", "max"]).loc[[1, 2], "max"].max() < CROSS - 1


def test_labelling_begins_with_who_a_mask_lies_on_for_a_moment(clip, tmp_path):
    """In frame 21 track 4 lies where 3 is, which isn't seen from 20 to 22."""
    (tmp_path / "labels" / "gt").mkdir(parents=True)
    rows = [line.split(",") for line in (clip / "gt" / "gt.txt").read_text().splitlines()]
    rows = [row for row in rows if row[1] != "3" or int(row[0]) not in (21, 22, 23)]
    rows = [[*row[:2], "185", *row[3:]] if row[:2] == ["22", "4"] else row for row in rows]
    (tmp_path / "labels" / "gt" / "gt.txt").write_text("\n".join(map(",".join, rows)))
    (tmp_path / "labels" / "seqinfo.ini").write_bytes((clip / "seqinfo.ini").read_bytes())
    at = Settings(
        video=clip / "video.mp4", out=tmp_path / "run", tracker="labels", labels=tmp_path / "labels"
    )
    run = execute(at, stages=("track", "read"), progress=False)
    with LabelSet(at.video, tmp_path / "mine", start=run.folder) as labels:
        found = labels.draft.rows
    frames = found.groupby("object_id")["frame"].agg(list)
    assert frames.loc[3] == [frame for frame in range(FRAMES) if frame not in (20, 22)]
    assert frames.loc[4] == [frame for frame in range(FRAMES) if frame != 21]
    assert frames.index.tolist() == [1, 2, 3, 4]
    layer = track_layer(run.detections(), FRAMES, None, None, [], None, (WIDTH, HEIGHT))
    assert layer["names"] == ["1 #7", "2 #7", "3 #7", "4"]


def test_a_bad_roster_is_one_sentence(run, tmp_path, capsys):
    roster = tmp_path / "roster.csv"
    roster.write_text("team,number\nblue,63\nblue,63\n")
    assert cli.main(["read", str(run.folder), "--roster", str(roster), "--quiet"]) == 2
    assert "line 3: blue has number 63 twice" in capsys.readouterr().err


class Absent:
    name, settings, noise = "absent", {}, np.zeros((11, 11))

    def read(self, images):
        raise ModelError("the weights are missing: get them")


class Fragile:
    name, settings, noise = "fragile", {}, np.zeros((11, 11))

    def read(self, images):
        if len(images) > 1:
            raise ValueError("too many")
        if images[0].mean() > 100:
            raise ValueError("too bright")
        return [Reading(np.zeros((11, 11)))]


def test_without_a_reader_the_numbers_are_unknown_and_it_is_said(clip, run):
    done = read_players(Video(clip / "video.mp4"), run.detections(), Absent(), progress=False)
    assert done.warnings == ["no numbers were read: the weights are missing: get them"]
    assert done.players["jersey_number"].isna().all()
    assert len(done.reads) == 0
    silent = read_players(Video(clip / "video.mp4"), run.detections(), None, progress=False)
    assert (len(silent.players), silent.warnings) == (4, [])


def test_a_run_is_read_with_other_weights_of_its_reader(clip, tmp_path, capsys):
    """None of these folders holds weights, so the numbers stay unknown and it is said which are missing."""
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    first, second = (str(tmp_path / name) for name in ("first", "second"))
    at = settings(clip, tmp_path / "run", reader="smolvlm", reader_model=first)
    run = execute(at, stages=("track", "read"), progress=False)
    assert cli.main(["read", str(run.folder), "--reader-model", second, "--quiet"]) == 0
    capsys.readouterr()
    assert (run.settings().reader, run.settings().reader_model) == ("smolvlm", second)
    [said] = run.status()["read"]["warnings"]
    assert second in said


def test_crops_that_fail_are_counted(clip, run):
    done = read_players(Video(clip / "video.mp4"), run.detections(), Fragile(), progress=False)
    failed = done.reads["why"].fillna("").str.startswith("the reader failed: too bright").sum()
    expected = [f"{failed} of {len(done.reads)} crops could not be read by fragile (too bright)"] * int(
        failed > 0
    )
    assert done.warnings == expected


def test_a_box_that_slips_onto_somebody_hidden_is_that_ones(clip, run, tmp_path):
    """In frame 21 track 4 lies where 3 is, which isn't seen from 20 to 22."""
    found = run.detections()
    found = found[(found["tracking_id"] != 3) | ~found["frame"].between(20, 22)].reset_index(drop=True)
    slipped = (found["tracking_id"] == 4) & (found["frame"] == 21)
    found.loc[slipped, ["x1", "x2"]] = [185.0, 275.0]
    found[["player_id", "jersey_number"]] = None
    done = read_players(Video(clip / "video.mp4"), found, None, progress=False)
    assert done.warnings == [
        "tracks lay on somebody else who was hidden for a moment, and are theirs then: 4 at 0.8 s"
    ]
    assert spans_of(done.players) == {
        ((1,), (0,), (18,)),
        ((2,), (21,), (39,)),
        ((3, 4, 3), (0, 21, 22), (20, 21, 39)),
        ((4, 4), (0, 22), (20, 39)),
    }
    assert tracks_said(done.players)[1:3] == [
        "3, 4 in frame 21",
        "4 in frames 0 to 20, 4 in frames 22 to 39",
    ]
    path = tmp_path / "player_detections.parquet"
    path.write_bytes(run.detections_path.read_bytes())
    fill_players(path, done.players)
    filled = pd.read_parquet(path).merge(found[["tracking_id", "frame"]])
    slipped = (filled["tracking_id"] == 4) & (filled["frame"] == 21)
    assert filled.loc[slipped, "player_id"].tolist() == ["P2"]
    assert set(filled.loc[~slipped & (filled["tracking_id"] == 4), "player_id"]) == {"P3"}


def test_a_box_that_leaves_its_course_for_a_moment_is_nobodys(clip, run, tmp_path):
    found = run.detections()
    astray = (found["tracking_id"] == 4) & (found["frame"] == 21)
    found.loc[astray, ["x1", "x2"]] += 60.0
    found[["player_id", "jersey_number"]] = None
    done = read_players(Video(clip / "video.mp4"), found, None, progress=False)
    assert not done.warnings
    assert ((4, 4), (0, 22), (20, 39)) in spans_of(done.players)
    assert tracks_said(done.players)[2:] == ["4", "2"]
    path = tmp_path / "player_detections.parquet"
    path.write_bytes(run.detections_path.read_bytes())
    fill_players(path, done.players)
    filled = pd.read_parquet(path)
    nobodys = filled["player_id"].isna()
    assert filled.loc[nobodys, ["tracking_id", "frame"]].to_numpy().tolist() == [[4, 21]]


def test_a_number_on_somebody_elses_jersey_is_said_to_be(tmp_path):
    """Somebody in navy stands in front of somebody in yellow, whose number is never to be seen."""
    path = tmp_path / "game.mp4"
    with VideoWriter(path, 320, 240, 25) as writer:
        for frame in range(12):
            image = np.full((240, 320, 3), 110, np.uint8)
            image[20:220, 120:210] = (30, 30, 110) if frame in (7, 8) else (210, 180, 40)
            if frame in (7, 8):
                cv2.putText(image, "3", (153, 107), cv2.FONT_HERSHEY_SIMPLEX, 1.2, (250, 250, 250), 3)
            writer.write(image)
    columns = {"frame": np.arange(12), "time_s": np.arange(12) / 25, "tracking_id": 1, "class_id": 0}
    box = dict(zip(("x1", "y1", "x2", "y2"), (120, 20, 210, 220), strict=True))
    table = pd.DataFrame({**columns, **box, "video": "game.mp4", "class_name": "person", "confidence": 1.0})
    table = table.reindex(columns=list(tables.PLAYER_DETECTIONS.columns))
    table = tables.typed(table, tables.PLAYER_DETECTIONS)
    done = read_players(Video(path), table, make_reader("rapidocr"), progress=False)
    said = done.reads.set_index("frame")
    assert said.loc[[8], "why"].tolist() == ["it is on somebody else's jersey"]
    assert said.loc[8, "text"] == "3"
    assert said["weight"].tolist() == [0.0] * len(said)
    assert done.players["jersey_number"].isna().all()


def test_more_tracks_than_the_roster_has_is_said(clip, run):
    roster = Roster({"blue": ("63",), "red": ("28",)})
    done = read_players(Video(clip / "video.mp4"), run.detections(), None, roster=roster, progress=False)
    assert any("2 tracks of red are on screen at once" in said for said in done.warnings)


def test_nobody_on_screen(clip):
    nobody = tables.empty(tables.PLAYER_DETECTIONS)
    done = read_players(Video(clip / "video.mp4"), nobody, None, progress=False)
    assert (len(done.players), len(done.reads)) == (0, 0)


def test_filling_keeps_all_other_columns_and_the_note(run, tmp_path):
    from courtside.files import read_note

    path = tmp_path / "table.parquet"
    path.write_bytes(run.detections_path.read_bytes())
    before, note = pd.read_parquet(path), read_note(path)
    fill_players(path, run.players())
    after = pd.read_parquet(path)
    names = [name for name in before if name not in ("jersey_number", "player_id")]
    pd.testing.assert_frame_equal(before[names], after[names])
    assert read_note(path) == note != {}
