"""What people look like: colours of bodies, and whether two tracks are of one person."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_t

from courtside.appearance import BANDS, PLACES, SHADES, Likeness, _scales, body_colors, look, moments

JERSEY = slice(PLACES // 4, PLACES // 2)
LABS = {(255, 255, 255): (100, 0, 0), (0, 0, 0): (0, 0, 0), (255, 0, 0): (53.2, 80.1, 67.2)}


def body(box=(40, 20, 100, 220), cloths=tuple(LABS)) -> tuple[np.ndarray, np.ndarray]:
    """A picture (240, 160) of somebody whose bands have these colours in turn, and the mask."""
    image, mask = np.full((240, 160, 3), 90, np.uint8), np.zeros((240, 160), bool)
    x1, y1, x2, y2 = box
    edges = np.round(y1 + np.arange(BANDS + 1) / BANDS * (y2 - y1)).astype(int)
    for place in range(BANDS):
        image[edges[place] : edges[place + 1], x1 + 15 : x2 - 15] = cloths[place % len(cloths)]
    mask[y1:y2, x1 + 15 : x2 - 15] = True
    return image, mask


@pytest.mark.parametrize("masked", [True, False])
def test_each_band_of_a_body_has_its_colour(masked):
    image, mask = body()
    colors = body_colors(image, (40, 20, 100, 220), mask if masked else None)
    wanted = [tuple(LABS.values())[place // len(SHADES) % len(LABS)] for place in range(PLACES)]
    assert colors == pytest.approx(np.array(wanted), abs=0.5)


def test_a_band_has_a_dark_and_a_light_colour():
    image, mask = body(cloths=((0, 0, 0),))
    image[:, 55:70] = (255, 255, 255)
    colors = body_colors(image, (40, 20, 100, 220), mask)
    assert colors[:: len(SHADES), 0] == pytest.approx(0, abs=0.5)
    assert colors[1 :: len(SHADES), 0] == pytest.approx(100, abs=0.5)


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
    assert np.isnan(colors[: PLACES // 4]).all()
    assert np.isfinite(colors[-PLACES // 4 :]).all()
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
    looks = np.arange(14.0)[:, None, None] * np.ones((1, PLACES, 3))
    looks[3] = np.nan
    assert moments(looks)[:, 0, 0].tolist() == [(2 + 4) / 2, 9.5]
    assert len(moments(looks[:1])) == len(moments(looks[:0])) == 0
    assert len(moments(np.zeros((5000, PLACES, 3)))) <= 40


def crowd(people: int, times: int, seed: int = 0, turn: float = 3.0) -> dict[int, np.ndarray]:
    """Moments of people in one jersey, each in ``times`` tracks: ids that differ by ``people`` are one's."""
    random = np.random.default_rng(seed)
    selves = random.uniform(0, 100, (people, PLACES, 3))
    selves[:, JERSEY] = 50.0
    return {
        who + people * time: selves[who] + random.normal(0, turn, (5, PLACES, 3))
        for time in range(times)
        for who in range(people)
    }


def learnt(looks: dict[int, np.ndarray], people: int) -> Likeness:
    return Likeness.learn(looks, [(one, other) for one in range(people) for other in range(one)])


def test_one_person_is_told_from_others_of_the_team():
    looks = crowd(5, 2)
    likeness = learnt(looks, 5)
    for who in range(5):
        ratios = likeness.log_ratios(look(looks[who + 5]), np.array([look(looks[one]) for one in range(5)]))
        assert ratios[who] > 5
        assert (np.delete(ratios, who) < -2).all()
    # What all wear says nothing.
    assert np.all(likeness.others[JERSEY] < 2 * likeness.own[JERSEY])
    assert np.all(likeness.others[: JERSEY.start].min(axis=1) > 5 * likeness.own[: JERSEY.start].max(axis=1))


def test_people_who_look_alike_stay_undecided():
    looks = crowd(5, 2, turn=60.0)
    likeness = learnt(looks, 5)
    ratios = [likeness.log_ratios(look(looks[who + 5]), look(looks[who])[None]).item() for who in range(5)]
    assert max(ratios) < 3


def test_who_was_astray_in_part_is_still_known():
    """Shoes that are somebody else's do not make it somebody else."""
    looks = crowd(5, 2)
    likeness = learnt(looks, 5)
    turned = look(looks[5])
    turned[-PLACES // 4 :] += 70.0
    ratios = likeness.log_ratios(turned, np.array([look(looks[one]) for one in range(5)]))
    assert ratios.argmax() == 0
    assert ratios[0] > 3


def test_too_little_teaches_nothing():
    looks = crowd(2, 1)
    assert Likeness.learn(looks, []) is None
    assert Likeness.learn({}, []) is None
    assert Likeness.learn({0: looks[0][:1], 1: looks[1][:1]}, [(0, 1)]) is None
    assert Likeness.learn(looks, [(0, 1)]) is not None
    assert Likeness.learn(looks, [(0, 1), (0, 9)]) is not None


def test_what_was_not_seen_says_nothing():
    looks = crowd(3, 1)
    likeness = learnt(looks, 3)
    nothing, whole = look(looks[0][:0]), look(looks[0])
    assert np.isnan(nothing).all()
    assert likeness.log_ratios(whole, nothing[None]) == pytest.approx(0)
    assert likeness.log_ratios(nothing, whole[None]) == pytest.approx(0)
    legs = np.where(np.arange(PLACES)[:, None] > PLACES // 2, whole, np.nan)
    assert 0 < likeness.log_ratios(legs, whole[None]) < likeness.log_ratios(whole, whole[None])


def test_places_that_nobody_shows_are_no_obstacle():
    looks = crowd(3, 1)
    for moments_of in looks.values():
        moments_of[:, 0] = np.nan
    likeness = learnt(looks, 3)
    assert np.isfinite(likeness.own).all()
    assert np.isfinite(likeness.others).all()
    assert likeness.log_ratios(look(looks[0]), look(looks[0])[None]) > 5


def test_scales_are_the_likeliest():
    random = np.random.default_rng(1)
    away = multivariate_t([0, 0, 0], np.diag([400.0, 900.0, 100.0]), df=1, seed=random).rvs(4000)
    scales = _scales(np.repeat(away[:, None], PLACES, axis=1))
    assert scales == pytest.approx(np.tile([400.0, 900.0, 100.0], (PLACES, 1)), rel=0.1)


def test_the_ratio_is_that_of_two_heavy_tailed_densities():
    own, others = np.full((PLACES, 3), 13.5), np.full((PLACES, 3), 813.5)
    one = np.full((PLACES, 3), np.nan)
    one[0] = 10.0, 20.0, 30.0
    away = np.array([4.0, -3.0, 12.0])
    said = [multivariate_t([0, 0, 0], np.eye(3) * scale, df=1).logpdf(away) for scale in (13.5, 813.5)]
    ratio = np.exp(0.3 * (said[0] - said[1]))
    wanted = np.log((0.94 * ratio + 0.06) / (0.999 + 0.001 * ratio))
    assert Likeness(own, others).log_ratios(one, (one + away)[None]) == pytest.approx(wanted)
    # Whoever looks like nobody may have been followed astray, and two people may look like one.
    far = Likeness(own, others).log_ratios(np.zeros((PLACES, 3)), np.full((1, PLACES, 3), 1000.0))
    assert far == pytest.approx(np.log(0.06), abs=0.01)
    same = Likeness(own, others).log_ratios(np.zeros((PLACES, 3)), np.zeros((1, PLACES, 3)))
    assert same == pytest.approx(np.log(0.94 / 0.001), abs=0.05)
