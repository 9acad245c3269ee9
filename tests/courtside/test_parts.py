"""Where tracks are cut, by what their boxes say."""

import numpy as np
import pandas as pd
import pytest

from courtside.appearance import PLACES, Likeness
from courtside.parts import Part, People, _Sight, _takeovers, longest_unseen, pieces, placed
from courtside.players import Tracklet


@pytest.mark.parametrize(
    ("frames", "spans"),
    [
        ([0, 1, 2, 10, 11], [(0, 2), (10, 11)]),
        ([0, 1, 2, 9, 10], [(0, 10)]),
        ([5], [(5, 5)]),
    ],
)
def test_a_track_is_lost_after_a_third_of_a_second(frames, spans):
    table = pd.DataFrame({"frame": [*range(20), *frames], "tracking_id": [1] * 20 + [2] * len(frames)})
    unseen = longest_unseen(table, 25.0)
    assert pieces(table, unseen) == {1: [(1, 0, 19)], 2: [(2, *span) for span in spans]}


def test_who_is_labelled_in_few_frames_is_not_lost_in_between():
    table = pd.DataFrame({"frame": [0, 10, 20, 30, 80, 0, 10, 20, 30, 40, 50, 60, 70, 80]})
    table["tracking_id"] = [1] * 5 + [2] * 9
    unseen = longest_unseen(table, 25.0)
    assert pieces(table, unseen) == {1: [(1, 0, 30), (1, 80, 80)], 2: [(2, 0, 80)]}


def people(rows: dict[int, tuple[range, float]], tracklets: list[Tracklet], prompts: dict[int, str | None]):
    """Tracks that stand ``left`` in some frames, of which nothing was seen."""
    table = pd.DataFrame(
        {"tracking_id": track, "frame": frame, "time_s": frame / 25, "prompt": prompts[track], "x1": left}
        for track, (frames, left) in rows.items()
        for frame in frames
    )
    table = table.assign(y1=0.0, x2=table["x1"] + 10, y2=20.0)
    nothing = pd.Series(dtype=float)
    parts = [Part.seen(tracklet, tracklet, [], nothing) for tracklet in tracklets]
    return People.of(parts, table, prompts, np.zeros((11, 11)), None, 10)


ONE_PROMPT = {1: None, 2: None}


@pytest.mark.parametrize(
    ("rows", "first_frame", "prompts", "found"),
    [
        # 2 ends where 1 is, or comes to later, or too late, or not at all.
        ({1: (range(31), 0.0), 2: (range(11), 4.0)}, 0, ONE_PROMPT, [(1, 11, 2, 10)]),
        ({1: ([*range(9), *range(14, 31)], 0.0), 2: (range(11), 4.0)}, 0, ONE_PROMPT, [(1, 14, 2, 10)]),
        ({1: ([*range(9), *range(19, 31)], 0.0), 2: (range(11), 4.0)}, 0, ONE_PROMPT, []),
        ({1: (range(31), 0.0), 2: (range(11), 9.5)}, 0, ONE_PROMPT, []),
        # 2 begins where 1 is, or was until then.
        ({1: (range(31), 0.0), 2: (range(20, 31), 4.0)}, 0, ONE_PROMPT, [(1, 20, 2, 20)]),
        ({1: ([*range(15), *range(25, 31)], 0.0), 2: (range(20, 31), 4.0)}, 0, ONE_PROMPT, [(1, 15, 2, 20)]),
        # Nothing of 1 lies before, though its part may begin there; or they are of two prompts.
        ({1: (range(12, 31), 0.0), 2: (range(11), 4.0)}, 8, ONE_PROMPT, []),
        ({1: (range(31), 0.0), 2: (range(11), 4.0)}, 0, {1: "player in white", 2: "player in red"}, []),
    ],
)
def test_a_track_may_go_on_as_one_that_ends_or_begins_about_where_it_is(rows, first_frame, prompts, found):
    tracklets = [Tracklet(1, first_frame, 30), Tracklet(2, rows[2][0][0], rows[2][0][-1])]
    assert [one for one in _takeovers(people(rows, tracklets, prompts), 7.5) if one[0] == 1] == found


def seen(frames: range, color: float) -> list[_Sight]:
    return [_Sight(frame, True, (0, 0, 0), np.full((PLACES, 3), color)) for frame in frames]


def cut_in(tracklets, sights: dict[int, list[_Sight]]) -> list[Part]:
    spans = [(one, [s for s in sights[one.tracking_id] if one[1] <= s.frame <= one[2]]) for one in tracklets]
    return [Part(one, one, [], [], some) for one, some in spans]


UNLIKE = Likeness(np.full((PLACES, 3), 9.0), np.full((PLACES, 3), 900.0))


@pytest.mark.parametrize(
    ("rows", "changes", "placed_at"),
    [
        (range(60), 27, 27),
        (range(60), 30, 30),
        # Further off than 0.4 s it does not go.
        (range(60), 50, 40),
        # Where a track was not seen it can't begin.
        ([*range(24), *range(29, 60)], 26, 29),
    ],
)
def test_a_cut_lies_where_looks_change(rows, changes, placed_at):
    table = pd.DataFrame({"tracking_id": 1, "frame": list(rows)})
    sights = {1: seen(range(changes), 20.0) + seen(range(changes, 60), 60.0)}
    parts = cut_in([Tracklet(1, 0, 29), Tracklet(1, 30, 59)], sights)
    early, late = placed(parts, table, UNLIKE, 25.0)
    assert (early.tracklet, late.tracklet) == ((1, 0, placed_at - 1), (1, placed_at, 59))
    assert all(one.frame < placed_at for one in early.sights)
    assert len(early.sights) + len(late.sights) == 60
    assert early.certain == (1, 0, min(placed_at, 30) - 1)
    assert late.certain == (1, max(placed_at, 30), 59)
    assert placed(parts, table, None, 25.0) == parts


def test_two_who_change_their_tracks_do_so_at_once():
    """One of the two says nothing."""
    table = pd.DataFrame({"tracking_id": [1] * 60 + [2] * 60, "frame": [*range(60)] * 2})
    sights = {1: seen(range(26), 20.0) + seen(range(26, 60), 60.0), 2: seen(range(60), 40.0)}
    spans = [Tracklet(track, *span) for track in (1, 2) for span in ((0, 29), (30, 59))]
    parts = placed(cut_in(spans, sights), table, UNLIKE, 25.0)
    assert [tuple(part.tracklet) for part in parts] == [(1, 0, 25), (1, 26, 59), (2, 0, 25), (2, 26, 59)]


def test_a_track_that_was_lost_between_is_not_cut_elsewhere():
    table = pd.DataFrame({"tracking_id": 1, "frame": [*range(20), *range(30, 60)]})
    sights = {1: seen(range(15), 20.0) + seen(range(15, 60), 60.0)}
    parts = cut_in([Tracklet(1, 0, 19), Tracklet(1, 30, 59)], sights)
    assert placed(parts, table, UNLIKE, 25.0) == parts
