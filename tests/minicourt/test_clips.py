"""Training clips: who meets whom, and what a clip of a meeting shows."""

from __future__ import annotations

import numpy as np
import pytest

from minicourt.clips import _cross, meetings
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


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_clip_of_a_meeting_shows_both_apart_then_together_then_apart(seed):
    clip = _cross(np.random.default_rng(seed), 6, 4)
    assert clip.images.shape == (6, IMAGE, IMAGE, 3)
    assert clip.masks.shape[:1] + clip.masks.shape[2:] == (6, TARGET_GRID, TARGET_GRID)
    assert clip.frames == list(range(6))
    columns = [[np.flatnonzero(person.numpy().any(0)) for person in moment[:2]] for moment in clip.masks]
    gaps = [abs(one.mean() - other.mean()) for one, other in columns if len(one) and len(other)]
    assert len(gaps) >= 2
    assert min(gaps[1:-1], default=0.0) < 0.5 * gaps[0]
