"""Training clips: who meets whom, and what a clip of a meeting shows."""

from __future__ import annotations

import numpy as np
import pytest

from minicourt.clips import _cross, meetings, moments_of
from minicourt.tiny import IMAGE, TARGET_GRID


def walk(*places):
    """Outlines of people a unit tall, from each one's places across: (T, N, 2)."""
    across = np.array(places, float).T
    return np.stack([across, np.ones_like(across)], axis=-1)


def test_people_meet_who_are_apart_touch_and_part_again():
    still = [0.0] * 7
    passing = [-0.9, -0.6, -0.3, 0.0, 0.3, 0.6, 0.9]
    turning = [-0.9, -0.6, -0.3, 0.05, -0.3, -0.6, -0.9]
    assert meetings(walk(still, passing)) == [(0, 1, 1, 5)]
    assert meetings(walk(still, turning)) == [(0, 1, 1, 5)]
    assert meetings(walk(still, passing), longest=3) == []


def test_people_who_come_near_or_never_part_have_not_met():
    still = [0.0] * 6
    assert meetings(walk(still, [-0.9, -0.5, -0.2, -0.2, -0.5, -0.9])) == []
    assert meetings(walk(still, [-0.9, -0.5, 0.0, 0.0, 0.0, 0.1])) == []
    assert meetings(walk(still, [-0.9, -0.6, -0.5, 0.5, 0.6, 0.9])) == []  # one frame to the next


def test_far_people_are_small_and_must_come_nearer():
    outlines = walk([0.0] * 5, [-0.6, -0.3, 0.0, 0.3, 0.6])
    assert meetings(outlines) == [(0, 1, 0, 4)]
    outlines[..., 1] = 2.0
    assert meetings(outlines) == []


@pytest.mark.parametrize("seed", range(12))
def test_a_meeting_is_looked_at_whole_or_in_part_in_rising_order(seed):
    times, numbers = moments_of(np.random.default_rng(seed), 20, 50, 6)
    assert len(times) == len(numbers) == 6
    assert min(np.diff(times)) > 0
    assert min(np.diff(numbers)) > 0
    assert 17 <= times[0] <= 45
    assert times[-1] <= 53
    if times[0] <= 20 and times[-1] >= 47:  # the last look is after it, or as they part
        assert numbers in (list(range(6)), [0, *range(times[1] - times[0], times[1] - times[0] + 5)])
    else:  # frame by frame
        assert list(np.diff(times)) == [1] * 5
        assert numbers == list(range(6))


def test_a_meeting_too_short_for_as_many_moments_is_left_out():
    looks = [moments_of(np.random.default_rng(seed), 10, 12, 6) for seed in range(20)]
    assert None in looks
    assert all(min(np.diff(look[0])) > 0 for look in looks if look)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_clip_of_a_meeting_shows_both_and_them_together(seed):
    clip = _cross(np.random.default_rng(seed), 6, 4)
    assert clip.images.shape == (6, IMAGE, IMAGE, 3)
    assert clip.masks.shape[:1] + clip.masks.shape[2:] == (6, TARGET_GRID, TARGET_GRID)
    assert clip.frames[0] == 0
    assert clip.there[0, :2].tolist() == [1, 1]
    columns = [[np.flatnonzero(person.numpy().any(0)) for person in moment[:2]] for moment in clip.masks]
    hidden = bool((clip.there[:, :2] == 0).any())
    met = [set(one) & set(other) for one, other in columns]
    assert hidden or any(met)
