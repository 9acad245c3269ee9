"""From tracks to players: rosters, teams, numbers of a team at once, and which tracks are one player."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from courtside.errors import RosterError
from courtside.jersey.vote import NUMBERS, Vote
from courtside.players import (
    Answer,
    Merge,
    Tracklet,
    answer,
    co_visible,
    crossings,
    in_turn,
    name_teams,
    propose_merges,
)
from courtside.roster import Roster, read_roster
from courtside.teams import REFEREE, cloth_of, find_teams, log_wears, match_teams


def ballot(**evidence: float) -> Vote:
    """Evidence by number, such as ``_28=9.0``; -3 for all others."""
    values = np.full(len(NUMBERS), -3.0)
    for name, value in evidence.items():
        values[NUMBERS.index(name.removeprefix("_"))] = value
    return Vote(values, values, np.zeros(0))


def numbers(votes, teams=None, together=frozenset(), roster=None):
    teams = teams or dict.fromkeys(votes, "red")
    return {track: one.number for track, one in answer(votes, teams, set(together), roster).items()}


def test_a_clear_number_is_given_and_doubt_is_not():
    votes = {1: ballot(_28=20), 2: ballot(_7=4), 3: ballot()}
    told = answer(votes, dict.fromkeys(votes, "red"), set())
    assert [told[track].number for track in votes] == ["28", None, None]
    assert told[1].confidence > 0.99
    assert told[2].why == "7 is not sure enough"
    assert told[3].why == "nothing on it reads as a number"


def test_who_covers_whom_counts_within_a_prompt():
    """Two of one prompt overlap by a third; a track of another prompt shows one of them again."""
    table = pd.DataFrame(
        {
            "tracking_id": [2, 1, 3, 1],
            "frame": [0, 0, 0, 1],
            "prompt": ["player", "player", "player in red", "player"],
            "x1": [5.0, 0, 0, 0],
            "y1": 0.0,
            "x2": [15.0, 10, 10, 10],
            "y2": 10.0,
        }
    )
    found = crossings(table)
    assert found.index.tolist() == [(1, 0), (1, 1), (2, 0), (3, 0)]
    assert found.tolist() == pytest.approx([1 / 3, 0, 1 / 3, 0])
    assert crossings(table.assign(prompt=None)).tolist() == pytest.approx([1, 0, 1 / 3, 1])
    assert len(crossings(table[:0])) == 0


def test_two_on_screen_do_not_share_a_number():
    votes = {1: ballot(_12=20), 2: ballot(_12=13, _17=12.5), 3: ballot(_12=20)}
    assert numbers(votes) == {1: "12", 2: None, 3: "12"}
    # Not greedy: what track 1 takes leaves 17 to track 2.
    assert numbers(votes, together={(1, 2)}) == {1: "12", 2: "17", 3: "12"}


def test_equal_claims_to_one_number_are_a_near_tie():
    votes = {1: ballot(_5=12), 2: ballot(_5=12)}
    told = answer(votes, dict.fromkeys(votes, "red"), {(1, 2)})
    assert [one.number for one in told.values()] == [None, None]
    assert all(one.confidence == pytest.approx(0.5, abs=0.01) for one in told.values())


def test_a_chain_of_conflicts_is_solved_at_once():
    votes = {1: ballot(_1=20), 2: ballot(_1=15, _2=14), 3: ballot(_2=15, _3=14.5), 4: ballot(_3=12, _4=11.5)}
    every = {(a, b) for a in votes for b in votes if a < b}
    assert numbers(votes, together=every) == {1: "1", 2: "2", 3: "3", 4: "4"}


def test_teams_and_referees_part_the_numbers():
    votes = {1: ballot(_10=15), 2: ballot(_10=15), 3: ballot(_10=15), 4: ballot(_10=15)}
    teams = {1: "red", 2: "blue", 3: REFEREE, 4: None}
    every = {(a, b) for a in votes for b in votes if a < b}
    assert numbers(votes, teams, every) == {1: "10", 2: "10", 3: None, 4: "10"}


def test_only_the_rosters_numbers_are_given():
    roster = Roster({"red": ("4", "28"), "blue": ("7",)})
    votes = {1: ballot(_29=9, _28=6), 2: ballot(_7=9), 3: ballot(_7=9)}
    assert numbers(votes, {1: "red", 2: "red", 3: "blue"}, roster=roster) == {1: "28", 2: None, 3: "7"}


def test_more_tracks_than_the_roster_has_stay_unknown():
    roster = Roster({"red": ("4",)})
    votes = {track: ballot(_4=9.0 + 9 * (track == 2)) for track in (1, 2, 3)}
    assert numbers(votes, roster=roster, together={(1, 2), (1, 3), (2, 3)}) == {1: None, 2: "4", 3: None}


def test_merges_join_one_team_and_number_apart_in_time():
    votes = {track: ballot(_9=20) for track in range(1, 6)}
    teams = {1: "red", 2: "red", 3: "blue", 4: None, 5: "red"}
    together = {(1, 3), (2, 4)}
    told = answer(votes, teams, together)
    merges = propose_merges(told, teams, together)
    assert [(merge.first, merge.second, merge.sure) for merge in merges] == [(1, 2, True), (1, 5, True)]
    assert merges[0].confidence == pytest.approx(told[1].confidence * told[2].confidence)


def sureness(**confidence: float) -> dict[int, Answer]:
    """Tracks that all carry number 9, such as ``_1=0.9``."""
    return {int(track[1:]): Answer("9", "9", sure) for track, sure in confidence.items()}


def test_of_two_on_screen_together_the_surer_one_gets_the_third():
    teams = dict.fromkeys((1, 2, 3), "red")
    told = sureness(_1=0.91, _2=0.999, _3=0.99)
    assert propose_merges(told, teams, {(1, 2)}) == [Merge(2, 3, pytest.approx(0.999 * 0.99), True)]


def test_a_doubtful_track_does_not_keep_sure_ones_apart():
    teams = dict.fromkeys((1, 2, 3, 4), "red")
    told = sureness(_1=0.91, _2=0.999, _3=0.9, _4=0.99)
    merges = propose_merges(told, teams, set())
    assert [(merge.first, merge.second, merge.sure) for merge in merges] == [
        (1, 2, False),
        (1, 3, False),
        (2, 4, True),
    ]


def by_looks(*pairs: tuple[int, int, float]):
    """How alike tracks are, by pairs; what is not given is as of two people. Groups are as alike as those of
    their tracks that are most alike."""
    known = {frozenset(pair): value for *pair, value in pairs}

    def alike(one, others):
        return np.array(
            [max(known.get(frozenset((a, b)), -9.0) for a in one for b in each) for each in others]
        )

    return alike


UNREAD = Answer(None, None, 0.0)
NINE, SEVEN = Answer("9", "9", 0.999), Answer("7", "7", 0.999)
LOOKS = {
    # answers, who is seen together, how alike: then who is whom, and what is proposed
    "nothing read": ([NINE, SEVEN, UNREAD], [(1, 2)], [(1, 3, 8.0)], [(1, 3)], []),
    "as like one as the other": ([NINE, SEVEN, UNREAD], [(1, 2)], [(1, 3, 8.0), (2, 3, 8.0)], [], []),
    "like two who may be one": (
        [NINE, UNREAD, UNREAD],
        [],
        [(1, 3, 8.0), (2, 3, 8.0), (1, 2, 8.0)],
        [(1, 2), (1, 3)],
        [],
    ),
    "a little like one": ([NINE, SEVEN, UNREAD], [(1, 2)], [(1, 3, 2.0)], [], [(1, 3)]),
    "seen together": ([NINE, SEVEN, UNREAD], [(1, 3)], [(1, 3, 8.0)], [], []),
    "seen with a part of the player": ([NINE, NINE, UNREAD], [(2, 3)], [(1, 3, 8.0)], [(1, 2)], []),
    "another number": ([NINE, SEVEN, Answer("4", "4", 0.9)], [], [(1, 3, 8.0)], [], []),
    "an unsure number": ([NINE, SEVEN, Answer("9", "9", 0.9)], [(1, 2)], [(1, 3, 8.0)], [(1, 3)], []),
    "an unsure number, nothing else": ([NINE, Answer("9", "9", 0.9)], [], [(1, 2, 0.0)], [], [(1, 2)]),
    "before who was read": ([UNREAD, SEVEN, NINE], [], [(1, 3, 8.0)], [(1, 3)], []),
    "before two that were read": ([UNREAD, NINE, NINE], [], [(1, 3, 8.0)], [(1, 2), (1, 3)], []),
    "nobody was read": ([UNREAD, UNREAD, UNREAD], [], [(1, 3, 8.0)], [(1, 3)], []),
    "one by the other": (
        [NINE, UNREAD, UNREAD, SEVEN],
        [(1, 4)],
        [(1, 2, 9.0), (2, 3, 8.0)],
        [(1, 2), (1, 3)],
        [],
    ),
}


@pytest.mark.parametrize(("told", "together", "alike", "same", "perhaps"), LOOKS.values(), ids=LOOKS.keys())
def test_who_was_not_read_is_whom_they_look_like(told, together, alike, same, perhaps):
    answers = dict(enumerate(told, start=1))
    merges = propose_merges(answers, dict.fromkeys(answers, "red"), set(together), by_looks(*alike))
    assert [merge[:2] for merge in merges if merge.sure] == same
    assert [merge[:2] for merge in merges if not merge.sure] == perhaps
    assert all(0.8 <= merge.confidence <= 1 for merge in merges)


def test_only_people_of_a_team_are_alike():
    answers = {1: NINE, 2: UNREAD, 3: UNREAD, 4: UNREAD}
    teams = {1: "red", 2: "blue", 3: None, 4: REFEREE}
    alike = by_looks(*((1, other, 9.0) for other in (2, 3, 4)), (3, 4, 9.0))
    [merge] = propose_merges(answers, teams, set(), alike)
    assert merge[:2] == (1, 3)


def test_somebody_seen_before_is_likelier_than_somebody_new_and_other_people_count_against_that():
    """1 and 3 are as alike as e^5 to one, 2, who is another player, and 3 as e^3."""
    alike = by_looks((1, 3, 5.0), (2, 3, 3.0))
    [merge] = propose_merges({1: NINE, 2: SEVEN, 3: UNREAD}, dict.fromkeys((1, 2, 3), "red"), set(), alike)
    assert merge == Merge(1, 3, pytest.approx(1 / (1 + np.exp(-5.5) + np.exp(-2))), False)


def test_who_is_on_screen_together():
    table = pd.DataFrame({"frame": [0, 0, 1, 1, 2, 3], "tracking_id": [1, 2, 2, 3, 4, 1]})
    assert co_visible(table) == {(1, 2), (2, 3)}


def test_who_is_on_screen_together_for_more_than_a_moment():
    frames = [(frame, track) for frame in range(6) for track in (1, 2)] + [(4, 3), (5, 3)]
    table = pd.DataFrame(frames, columns=["frame", "tracking_id"])
    assert co_visible(table, 2) == {(1, 2)}
    assert co_visible(table, 1) == {(1, 2), (1, 3), (2, 3)}
    assert co_visible(table, 6) == set()


@pytest.mark.parametrize(
    ("tracklets", "turns"),
    [
        ([(1, 0, 9), (2, 20, 29)], [(1, 0, 9), (2, 20, 29)]),
        ([(1, 0, 20), (2, 18, 50)], [(1, 0, 17), (2, 18, 50)]),
        ([(1, 0, 99), (2, 40, 49)], [(1, 0, 39), (2, 40, 49), (1, 50, 99)]),
        ([(1, 0, 20), (2, 18, 30), (3, 19, 25)], [(1, 0, 17), (2, 18, 18), (3, 19, 25), (2, 26, 30)]),
        ([(4, 5, 5)], [(4, 5, 5)]),
    ],
)
def test_a_player_is_in_one_track_at_a_time(tracklets, turns):
    assert in_turn([Tracklet(*one) for one in tracklets]) == turns


def test_where_a_track_is_hidden_the_player_is_in_another():
    first, second = Tracklet(1, 0, 60), Tracklet(2, 9, 99)
    seen = [[Tracklet(1, 0, 30), Tracklet(1, 50, 60)], [Tracklet(2, 9, 11), Tracklet(2, 54, 99)]]
    assert in_turn([first, second], seen) == [(1, 0, 8), (2, 9, 11), (1, 12, 53), (2, 54, 99)]
    # Alone, a track is the player from end to end; the parts of one that was cut stay apart.
    assert in_turn([second], seen[1:]) == [second]
    parts = [Tracklet(1, 0, 9), Tracklet(1, 20, 29)]
    assert in_turn(parts, [[part] for part in parts]) == parts


# Teams


def crowd(rgb, count: int = 6) -> np.ndarray:
    return np.array(rgb, float) + np.random.default_rng(0).normal(size=(count, 3)) * 6


def test_prompts_name_teams_and_referees():
    prompts = {1: "player in white", 2: "referee", 3: "basketball player"}
    assert find_teams(prompts, {}) == {1: "white", 2: REFEREE, 3: None}


def test_colours_part_two_teams_with_a_margin():
    colors = {i: crowd((220, 200, 40)) for i in (1, 2, 3)} | {i: crowd((15, 45, 140)) for i in (4, 5)}
    colors[6] = crowd((125, 115, 75))
    teams = find_teams(dict.fromkeys(colors), colors)
    assert teams == {1: "yellow", 2: "yellow", 3: "yellow", 4: "blue", 5: "blue", 6: None}


def test_what_was_seen_for_a_moment_makes_no_team():
    """Skin and floor, seen once each, lie further from both teams than these from each other."""
    colors = {i: crowd((220, 120, 30), 20) for i in (1, 2)} | {i: crowd((10, 120, 60), 20) for i in (3, 4)}
    colors |= {i: crowd((95, 40, 140), 1) for i in (5, 6, 7)}
    teams = find_teams(dict.fromkeys(colors), colors)
    assert [teams[i] for i in (1, 2, 3, 4)] == ["orange", "orange", "green", "green"]
    assert teams[5] == teams[6] == teams[7] is None


def test_arms_before_the_chest_are_no_team():
    """Seen from the side everybody shows an arm, which is further from both jerseys than these are apart."""
    arms = [(190, 130, 110), (120, 80, 60), (90, 55, 45), (225, 175, 150), (150, 100, 75), (70, 45, 35)]
    cloths = [(26, 18, 20)] * 3 + [(35, 31, 90)] * 3
    colors = {
        i: np.concatenate([crowd(cloth, 11), crowd(arm, 9)])
        for i, (cloth, arm) in enumerate(zip(cloths, arms, strict=True), start=1)
    }
    colors[7] = crowd((170, 115, 95), 9)
    teams = find_teams(dict.fromkeys(colors), colors)
    assert teams == dict.fromkeys((1, 2, 3), "black") | dict.fromkeys((4, 5, 6), "blue") | {7: None}


def test_light_and_shade_make_no_team():
    shades = {1: (200, 20, 20), 2: (170, 17, 17), 3: (225, 23, 23), 4: (185, 19, 18)}
    colors = {i: crowd(rgb, 15) for i, rgb in shades.items()}
    assert find_teams(dict.fromkeys(colors), colors) == dict.fromkeys(colors, "red")


def test_one_colour_is_one_team_and_no_torso_has_none():
    colors = {1: crowd((200, 20, 20)), 2: crowd((205, 24, 18)), 3: np.zeros((0, 3))}
    assert find_teams(dict.fromkeys(colors), colors) == {1: "red", 2: "red", 3: None}
    assert find_teams({}, {}) == {}


def test_teams_take_the_rosters_names():
    roster = Roster({"Falcons": ("4", "8"), "navy": ("7",)})
    colors = {1: crowd((220, 200, 40)), 2: crowd((20, 20, 100))}
    teams = {1: "yellow", 2: "blue"}
    votes = {1: ballot(_4=9), 2: ballot(_7=9)}
    assert name_teams(teams, colors, votes, roster) == {1: "Falcons", 2: "navy"}
    assert name_teams(teams, colors, votes, None) == teams
    assert match_teams({"Navy": np.zeros(3)}, {"navy": ("7",)}, {}) == {"Navy": "navy"}


# Rosters


def test_a_roster_is_read(tmp_path):
    path = tmp_path / "roster.csv"
    path.write_text("object_id,team,jersey_number\n0,red,0\n1,red,00\n2,blue,7\n\n3,blue,\n")
    roster = read_roster(path)
    assert roster.teams == {"red": ("0", "00"), "blue": ("7",)}
    assert roster.unnumbered == 1
    assert roster.numbers("green") == ("0", "00", "7")


BAD = {
    "a number twice": ("team,number\nred,7\nred,7\n", r"line 3: red has number 7 twice \(line 2\)"),
    "letters": ("team,number\nred,7a\n", "line 2: jersey number '7a'; write one or two digits"),
    "three digits": ("team,number\nred,123\n", "line 2: jersey number '123'"),
    "no team": ("team,number\n,7\n", "line 2: no team; name one"),
    "no column": ("team,shirt\nred,7\n", "line 1: no column jersey_number"),
    "a ragged row": ("team,number\nred,7,8\n", "line 2: 3 columns instead of 2"),
    "nobody": ("team,number\n", "lists nobody"),
    "empty": ("", "line 1: no column team"),
}


@pytest.mark.parametrize(("content", "sentence"), BAD.values(), ids=BAD.keys())
def test_a_bad_roster_is_one_sentence(content, sentence, tmp_path):
    path = tmp_path / "roster.csv"
    path.write_text(content)
    with pytest.raises(RosterError, match=sentence):
        read_roster(path)


def test_a_missing_roster_is_one_sentence(tmp_path):
    with pytest.raises(RosterError, match="cannot be read"):
        read_roster(tmp_path / "none.csv")


def test_who_wears_what_another_one_does():
    random = np.random.default_rng(0)
    blue, gray = (
        np.array(color) + random.normal(0, 3, (30, 3)) for color in ((20, 30, 140), (120, 120, 120))
    )
    cloths = np.array([cloth_of(blue), cloth_of(blue[:0])])
    assert log_wears(blue[:10], cloths)[0] > 30
    # Nothing fits: that is as likely as half of what it is for whoever wears anything, torso by torso.
    assert log_wears(gray[:10], cloths).tolist() == pytest.approx([-10 * np.log(2), 0], rel=0.01)
    assert log_wears(gray, cloths).tolist() == pytest.approx([-20 * np.log(2), 0], rel=0.01)
    assert log_wears(gray[:0], cloths).tolist() == [0, 0]
