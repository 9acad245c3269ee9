"""Whose a box is where one player's mask slips onto another, who is hidden, and which is nobody's."""

import numpy as np
import pandas as pd
import pytest

from courtside.course import lend, let_go
from courtside.players import Tracklet, owners

FPS = 25


def boxes(lefts: dict[int, dict[int, float]], prompts: dict[int, str | None] | None = None) -> pd.DataFrame:
    """Boxes of 10 by 20 px by track and frame, each with its left edge."""
    table = pd.DataFrame(
        {"tracking_id": track, "frame": frame, "time_s": frame / FPS, "x1": float(left)}
        for track, frames in lefts.items()
        for frame, left in frames.items()
    )
    prompt = [(prompts or {}).get(track) for track in table["tracking_id"]]
    return table.assign(prompt=prompt, y1=0.0, x2=table["x1"] + 10, y2=20.0)


def crossing(slips: range = range(9, 12), hidden: range = range(8, 13)) -> dict[int, dict[int, float]]:
    """One goes right and another left; the first is ``hidden``, and the second ``slips`` onto it.

    They meet at 20 in frame 10. What slips is 3 px behind where the first one is, or more.
    """
    first = {frame: 2.0 * frame for frame in range(21) if frame not in hidden}
    second = {frame: 2.0 * frame - 1 if frame in slips else 60 - 4.0 * frame for frame in range(21)}
    return {1: first, 2: second}


BOTH = [[Tracklet(1, 0, 20)], [Tracklet(2, 0, 20)]]


def test_what_slips_onto_somebody_hidden_is_that_one():
    parts, loans = lend(boxes(crossing(range(12, 14), range(11, 15))), BOTH)
    assert parts[0] == [(1, 0, 11), (2, 12, 13), (1, 14, 20)]
    assert parts[1] == [(2, 0, 11), (2, 14, 20)]
    assert loans == [((2, 12, 13), 0)]


@pytest.mark.parametrize(
    ("slips", "hidden"),
    [
        (range(0), range(8, 13)),  # each goes on its own way
        (range(12, 14), range(0)),  # there are two boxes, so nobody is hidden
        (range(12, 14), range(11, 21)),  # where the first one goes after that is not known
    ],
)
def test_who_is_where_it_must_be_lends_nothing(slips, hidden):
    assert lend(boxes(crossing(slips, hidden)), BOTH) == (BOTH, [])


def test_after_a_second_there_is_no_saying_where_somebody_is():
    lefts = {1: dict.fromkeys([0, 26], 0.0), 2: {frame: 0.0 if frame == 12 else 30.0 for frame in range(27)}}
    parts = [[Tracklet(1, 0, 26)], [Tracklet(2, 0, 26)]]
    assert lend(boxes(lefts), parts) == (parts, [])
    lefts[1] = dict.fromkeys([0, 25], 0.0)
    assert lend(boxes(lefts), parts)[1] == [((2, 12, 12), 0)]


def test_a_number_read_there_and_another_prompt_keep_a_box():
    lefts = crossing(range(12, 14), range(11, 15))
    assert lend(boxes(lefts), BOTH, {(2, 12), (2, 13)}) == (BOTH, [])
    assert lend(boxes(lefts), BOTH, {(2, 12)})[1] == [((2, 13, 13), 0)]
    assert lend(boxes(lefts, {1: "player", 2: "player in red"}), BOTH) == (BOTH, [])


def test_what_is_nobodys_is_whose_course_it_lies_on():
    """The first track goes on for a while beside the one that took over from it."""
    lefts = {1: {frame: 0.0 for frame in range(12)}, 2: {frame: 0.0 for frame in (8, 9, 11, 12, 13)}}
    parts, loans = lend(boxes(lefts), [[Tracklet(1, 0, 7), Tracklet(2, 8, 13)]])
    assert parts == [[(1, 0, 7), (2, 8, 9), (1, 10, 10), (2, 11, 13)]]
    assert loans == [((1, 10, 10), 0)]


def test_what_two_lend_of_one_track_is_one_part():
    """The track that slips changes its player meanwhile."""
    lefts = {1: {frame: 0.0 for frame in range(12) if frame not in (5, 6)}}
    lefts[2] = {frame: 1.0 if frame in (5, 6) else 40.0 for frame in range(12)}
    players = [[Tracklet(1, 0, 11)], [Tracklet(2, 0, 5)], [Tracklet(2, 6, 11)]]
    parts, loans = lend(boxes(lefts), players)
    assert parts == [[(1, 0, 4), (2, 5, 6), (1, 7, 11)], [(2, 0, 4)], [(2, 7, 11)]]
    assert loans == [((2, 5, 5), 0), ((2, 6, 6), 0)]


def test_nobody_is_lent_whole():
    lefts = {1: {frame: 0.0 for frame in range(12) if frame != 5}, 2: {5: 0.0}}
    parts = [[Tracklet(1, 0, 11)], [Tracklet(2, 5, 5)]]
    assert lend(boxes(lefts), parts) == (parts, [])


def test_a_box_is_lent_to_the_one_it_fits_best():
    lefts = {
        1: {frame: 0.0 for frame in range(12) if frame != 5},
        2: {frame: 3.0 for frame in range(12) if frame != 5},
        3: {frame: 2.0 if frame == 5 else 40.0 for frame in range(12)},
    }
    players = [[Tracklet(track, 0, 11)] for track in lefts]
    assert lend(boxes(lefts), players)[1] == [((3, 5, 5), 1)]


@pytest.mark.parametrize("seed", range(20))
def test_each_box_stays_somebodys_and_nobody_is_in_two_places(seed):
    """Six who walk at random, seen now and then, each track of two players in turn."""
    rng = np.random.default_rng(seed)
    lefts = {}
    for track in range(1, 7):
        way = np.cumsum(rng.normal(0, 4, 40)) + rng.uniform(0, 30)
        seen = np.flatnonzero(rng.random(40) < 0.7)
        lefts[track] = {int(frame): float(way[frame]) for frame in seen}
    table = boxes(lefts)
    players = [[Tracklet(track, 0, 19), Tracklet(track % 6 + 1, 20, 39)] for track in lefts]
    parts, loans = lend(table, players)
    tracks, frames = table["tracking_id"].to_numpy(), table["frame"].to_numpy()
    whose = np.full(len(table), -1)
    for place, own in enumerate(parts):
        mine = owners(own, tracks, frames) >= 0
        assert (whose[mine] < 0).all()
        whose[mine] = place
        assert not pd.Series(frames[mine]).duplicated().any()
    assert (whose >= 0).all()
    before = np.select([owners(own, tracks, frames) >= 0 for own in players], range(6))
    lent = owners([loan.tracklet for loan in loans], tracks, frames)
    assert np.array_equal(
        whose, np.where(lent >= 0, np.array([loan.place for loan in loans] + [-1])[lent], before)
    )
    assert loans


# Let go


def test_what_leaves_its_course_for_a_moment_is_nobodys():
    lefts = {1: {frame: 2.0 * frame + (6.0 if frame == 10 else 0.0) for frame in range(21)}}
    assert let_go(boxes(lefts), [[Tracklet(1, 0, 20)]]) == [[(1, 0, 9), (1, 11, 20)]]


def test_who_turns_round_is_on_course():
    """With 10 m/s2, for a player of 1.8 m, from 4 m/s one way to 4 m/s the other."""
    lefts = {1: {frame: 20.0 - 0.09 * (frame - 10) ** 2 for frame in range(21)}}
    players = [[Tracklet(1, 0, 20)]]
    assert let_go(boxes(lefts), players) == players


def test_a_jolt_of_the_camera_is_nobodys_fault():
    lefts = {track: {frame: 40.0 * track + frame for frame in range(21)} for track in range(1, 6)}
    for own in lefts.values():
        own[10] += 8
    players = [[Tracklet(track, 0, 20)] for track in lefts]
    assert let_go(boxes(lefts), players) == players
    lefts[3][10] -= 8
    assert let_go(boxes(lefts), players) == [*players[:2], [(3, 0, 9), (3, 11, 20)], *players[3:]]


@pytest.mark.parametrize(
    ("aside", "hidden", "gone"), [(5.0, True, False), (3.0, True, True), (3.0, False, False)]
)
def test_what_lies_on_two_is_nobodys_where_one_is_hidden(aside, hidden, gone):
    """The second is to the right of the first, whose box reaches half over."""
    lefts = {1: dict.fromkeys(range(21), 0.0) | {10: 3.0}, 2: dict.fromkeys(range(21), 3.0 + aside)}
    if hidden:
        del lefts[2][10]
    players = [[Tracklet(1, 0, 20)], [Tracklet(2, 0, 20)]]
    without = [[(1, 0, 9), (1, 11, 20)], players[1]]
    assert let_go(boxes(lefts), players) == (without if gone else players)


def test_a_number_read_there_and_another_prompt_keep_a_moment():
    lefts = {1: dict.fromkeys(range(21), 0.0) | {10: 3.0}, 2: dict.fromkeys(range(21), 6.0)}
    del lefts[2][10]
    players = [[Tracklet(1, 0, 20)], [Tracklet(2, 0, 20)]]
    assert let_go(boxes(lefts), players) != players
    assert let_go(boxes(lefts), players, {(1, 10)}) == players
    assert let_go(boxes(lefts, {1: "player", 2: "player in red"}), players) == players


def test_a_box_all_by_itself_is_nobodys():
    lefts = {1: dict.fromkeys([*range(11), 15, *range(19, 21)], 0.0), 2: dict.fromkeys(range(21), 40.0)}
    players = [[Tracklet(1, 0, 20)], [Tracklet(2, 0, 20)]]
    assert let_go(boxes(lefts), players) == [[(1, 0, 14), (1, 16, 20)], players[1]]


@pytest.mark.parametrize("frames", [[5], [5, 15]])
def test_nobody_is_let_go_whole(frames):
    lefts = {1: dict.fromkeys(frames, 0.0), 2: dict.fromkeys(range(21), 40.0)}
    players = [[Tracklet(1, 0, 20)], [Tracklet(2, 0, 20)]]
    assert let_go(boxes(lefts), players) == players


def test_boxes_of_every_25th_frame_have_no_course():
    """As where only one frame a second is labelled."""
    lefts = {track: {frame: frame * track / 2 for frame in range(0, 200, 25)} for track in (1, 2)}
    players = [[Tracklet(1, 0, 199)], [Tracklet(2, 0, 199)]]
    assert let_go(boxes(lefts), players) == players


def test_parts_end_with_what_is_let_go():
    """No part is left of frames in which the track is not seen."""
    lefts = {1: dict.fromkeys([*range(11), 18], 0.0), 2: dict.fromkeys(range(21), 40.0)}
    players = [[Tracklet(1, 0, 20)], [Tracklet(2, 0, 9)], [Tracklet(2, 10, 20)]]
    assert let_go(boxes(lefts), players) == [[(1, 0, 17)], *players[1:]]
