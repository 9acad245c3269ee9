"""What people look like: colours of bodies, and whether two tracks are of one person."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import t as student

from courtside.appearance import BANDS, Likeness, Look, body_colors, moments

COUNT = len(BANDS) - 1
LABS = {(255, 255, 255): (100, 0, 0), (0, 0, 0): (0, 0, 0), (255, 0, 0): (53.2, 80.1, 67.2)}


def body(box=(40, 20, 100, 220), cloths=tuple(LABS)) -> tuple[np.ndarray, np.ndarray]:
    """A picture (240, 160) of somebody whose bands have these colours in turn, and the mask."""
    image, mask = np.full((240, 160, 3), 90, np.uint8), np.zeros((240, 160), bool)
    x1, y1, x2, y2 = box
    edges = np.round(y1 + np.array(BANDS) * (y2 - y1)).astype(int)
    for place, (top, bottom) in enumerate(pairwise(edges)):
        image[top:bottom, x1 + 15 : x2 - 15] = cloths[place % len(cloths)]
    mask[y1:y2, x1 + 15 : x2 - 15] = True
    return image, mask


@pytest.mark.parametrize("masked", [True, False])
def test_each_band_of_a_body_has_its_colour(masked):
    image, mask = body()
    colors = body_colors(image, (40, 20, 100, 220), mask if masked else None)
    wanted = [tuple(LABS.values())[place % len(LABS)] for place in range(COUNT)]
    assert colors == pytest.approx(np.array(wanted), abs=0.5)


def test_what_lies_behind_does_not_count():
    image, mask = body()
    image[~mask] = (0, 255, 0)
    assert np.array_equal(
        body_colors(image, (40, 20, 100, 220), mask), body_colors(body()[0], (40, 20, 100, 220), mask)
    )


def test_what_is_hidden_or_outside_has_no_colour():
    image, mask = body()
    mask[:120] = False
    colors = body_colors(image, (40, 20, 100, 220), mask)
    assert np.isnan(colors[:3]).all()
    assert np.isfinite(colors[-3:]).all()
    assert np.isnan(body_colors(image, (40, 0, 100, 200), mask)).all()
    assert np.isnan(body_colors(image, (40, 20, 100, 240), mask)).all()
    # The sides may be cut off: the height is known all the same.
    assert np.isfinite(body_colors(image, (-20, 20, 100, 220), None)).all()
    assert np.isnan(body_colors(image, (60, 20, 63, 24), None)).all()


def test_a_body_of_any_size_costs_and_says_the_same():
    image, mask = body()
    large = image.repeat(8, 0).repeat(8, 1), mask.repeat(8, 0).repeat(8, 1)
    colors = body_colors(large[0], (320, 160, 800, 1760), large[1])
    assert colors == pytest.approx(body_colors(image, (40, 20, 100, 220), mask), abs=0.5)


def test_moments_are_medians_of_looks_in_a_row():
    looks = np.arange(14.0)[:, None, None] * np.ones((1, COUNT, 3))
    looks[3] = np.nan
    assert moments(looks)[:, 0, 0].tolist() == [(2 + 4) / 2, 9.5]
    assert len(moments(looks[:1])) == len(moments(looks[:0])) == 0
    assert len(moments(np.zeros((5000, COUNT, 3)))) <= 40


def crowd(people: int, times: int, seed: int = 0, turn: float = 3.0) -> dict[int, np.ndarray]:
    """Moments of people in one jersey, each in ``times`` tracks: ids that differ by ``people`` are one's."""
    random = np.random.default_rng(seed)
    selves = random.uniform(0, 100, (people, COUNT, 3))
    selves[:, 2:4] = 50.0
    return {
        who + people * time: selves[who] + random.normal(0, turn, (5, COUNT, 3))
        for time in range(times)
        for who in range(people)
    }


def test_one_person_is_told_from_others_of_the_team():
    looks = crowd(5, 2)
    likeness = Likeness.learn(looks, [(one, other) for one in range(5) for other in range(one)])
    for who in range(5):
        ratios = likeness.log_ratios(Look.of(looks[who + 5]), [Look.of(looks[one]) for one in range(5)])
        assert ratios[who] > 3
        assert (np.delete(ratios, who) < -3).all()
    # What all wear says nothing.
    assert np.all(likeness.between[2:4] < 0.05 * likeness.between[[0, 1, 4]].mean())


def test_people_who_look_alike_stay_undecided():
    looks = crowd(5, 2, turn=60.0)
    likeness = Likeness.learn(looks, [(one, other) for one in range(5) for other in range(one)])
    ratios = [likeness.log_ratios(Look.of(looks[who + 5]), [Look.of(looks[who])])[0] for who in range(5)]
    assert max(ratios) < 3


def test_too_little_teaches_nothing():
    looks = crowd(2, 1)
    assert Likeness.learn(looks, []) is None
    assert Likeness.learn({}, []) is None
    assert Likeness.learn({0: looks[0][:1], 1: looks[1][:1]}, [(0, 1)]) is None
    assert Likeness.learn(looks, [(0, 1)]) is not None
    assert Likeness.learn(looks, [(0, 1), (0, 9)]) is not None


def test_what_was_not_seen_says_nothing():
    looks = crowd(3, 1)
    likeness = Likeness.learn(looks, [(0, 1), (0, 2), (1, 2)])
    nothing, whole = Look.of(np.zeros((0, COUNT, 3))), Look.of(looks[0])
    assert likeness.log_ratios(whole, [nothing]) == likeness.log_ratios(nothing, [whole]) == [0.0]
    legs = whole._replace(colors=np.where(np.arange(COUNT)[:, None] > 4, whole.colors, np.nan))
    assert 0 < likeness.log_ratios(legs, [whole])[0] < likeness.log_ratios(whole, [whole])[0]


def test_the_ratio_is_that_of_two_heavy_tailed_densities():
    within, between = np.full((COUNT, 3), 9.0), np.full((COUNT, 3), 400.0)
    colors = np.full((COUNT, 3), np.nan)
    colors[0] = 10.0, 20.0, 30.0
    away = np.array([4.0, -3.0, 12.0])
    one, other = Look(colors, 2), Look(colors + away, 1)
    noise = 9.0 * (1 / 2 + 1)
    wanted = student.logpdf(away, 3, scale=noise**0.5) - student.logpdf(away, 3, scale=(noise + 800) ** 0.5)
    assert Likeness(within, between).log_ratios(one, [other]) == pytest.approx([wanted.sum() / 2])
    # One band never decides alone.
    far = Look(colors + 1000.0, 1)
    assert Likeness(within, between).log_ratios(one, [far]) == pytest.approx([-2.5])
