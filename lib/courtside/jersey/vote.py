"""What the readings of one track say together: Bayes over every number, with none and unknown allowed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp

from courtside.jersey.readers import END, Reading

__all__ = [
    "ABSTAIN_BELOW",
    "NUMBERS",
    "Change",
    "Vote",
    "agreement",
    "change",
    "likelihood_ratios",
    "posterior",
    "vote",
    "wearing",
]

NUMBERS = (*(str(number) for number in range(100)), *(f"0{digit}" for digit in range(10)))
"""Every number that a jersey may carry: "0" to "99", then "00" to "09". "0" is not "00"."""

ABSTAIN_BELOW = 0.8
"""A number less probable than this is not given."""

_VISIBLE = (0.03, 0.1, 0.3, 0.7)  # shares of a track's crops that show its number, held equally likely
_MASS, _POWER = 0.09, 2.0
_MOST = (500.0, 2000.0)  # of one crop, for a number of one digit and of two
_USUAL_NOISE = 0.022
_LEAST_NOISE = 1e-4
_WHOLE, _PART = 0.6, 0.1  # of a number of two digits: both are read, or one of them
_NO_NUMBER = 0.3
_ALIKE_S, _ALIKE = 0.3, 0.15  # looks so near in time share their faults: n of them count as n ** 0.85
_LEADING_ZERO = 0.001
_MOST_AGAINST = 20.0
_TWO_PEOPLE = 0.05  # of tracks that went on with somebody else
# Of two numbers, whether the one is no part of the other: half of "25" is read as "2" for seconds on end.
_OTHERS = np.array([[one not in two and two not in one for two in NUMBERS] for one in NUMBERS], float)


@dataclass(frozen=True, slots=True, eq=False)
class Vote:
    """The evidence of one track.

    ``evidence`` is float64 [len(NUMBERS)]: for each number the natural logarithm of how much likelier it
    makes the readings than a torso without a legible number does. ``shared`` is the same where the track may
    have gone on with somebody else, for the number of whoever it is on for longer. ``weights`` is float64
    [readings]: how much each reading speaks for the number with most evidence, in the same unit; 0 for one
    that was rejected or could not be read.
    """

    evidence: np.ndarray = field(repr=False)
    shared: np.ndarray = field(repr=False)
    weights: np.ndarray = field(repr=False)


class Change(NamedTuple):
    """A track that went on with somebody else after the reading at the place ``last``, as its numbers say.

    ``log_odds`` is how much likelier that is than that it shows one person, as a natural logarithm.
    """

    last: int
    log_odds: float


def vote(
    readings: Sequence[Reading],
    noise: np.ndarray,
    times_s: Sequence[float] | None = None,
    span_s: tuple[float, float] | None = None,
) -> Vote:
    """Add up the evidence of ``readings`` of one track, by a reader with this ``noise``.

    A reading shows the number with probability v, and else something without one (a fold, a side view,
    another player in front), so a number's likelihood ratio is 1 - v + v r with r of
    :func:`likelihood_ratios`. No reading can speak against a number by more than log(1 - v), so outliers
    are discounted. The products over the readings are averaged over several v, since nobody knows how
    often a player shows the number.

    With ``times_s``, those of the frames, rising, readings close in time count for less than as many apart,
    since they share their faults: n within about 0.3 s weigh as much as n to the power 0.85. For each moment
    at which the track may have gone on with somebody else, another number may then explain the readings of
    its shorter part. Of parts nearly as long either may be the shorter one, since people are hidden for some
    of the time. ``span_s`` are the track's first and last moment (by default those of the readings).
    """
    if not readings:
        return Vote(np.zeros(len(NUMBERS)), np.zeros(len(NUMBERS)), np.zeros(0))
    steps = _steps(readings, noise, times_s)
    products = steps.sum(axis=1)
    evidence = shared = _mean(products)
    if times_s is not None and len(readings) > 1:
        two = _of_two_people(steps, np.asarray(times_s, float), span_s or (times_s[0], times_s[-1]))
        shared = np.logaddexp(np.log(1 - _TWO_PEOPLE) + evidence, np.log(_TWO_PEOPLE) + two)
    best = int(np.argmax(evidence))
    return Vote(evidence, shared, np.clip(steps[np.argmax(products[:, best]), :, best], 0, None))


def change(
    readings: Sequence[Reading], noise: np.ndarray, times_s: Sequence[float], places: Sequence[int]
) -> Change | None:
    """Where a track most likely went on with somebody else, if it did, by its ``readings`` in order of time.

    One number and none are held against every pair of numbers, of which neither is part of the other, on
    either side of every moment at which it may have done so: after the reading at each of ``places``. None
    where there is no such moment.
    """
    if not len(places):
        return None
    prior = np.log(_prior())
    before = np.cumsum(_steps(readings, noise, times_s), axis=1)
    after = before[:, -1:] - before
    one = np.logaddexp(np.log(1 - _NO_NUMBER) + logsumexp(_mean(before[:, -1]) + prior), np.log(_NO_NUMBER))
    early, late = (_mean(part[:, places]) + prior for part in (before, after))
    highest = early.max(axis=1), late.max(axis=1)
    shares = [np.exp(part - most[:, None]) for part, most in zip((early, late), highest, strict=True)]
    two = np.log(np.maximum(((shares[0] @ _OTHERS) * shares[1]).sum(axis=1), 1e-300)) + sum(highest)
    odds = logsumexp(two) - np.log(len(two)) - one + np.log(_TWO_PEOPLE / (1 - _TWO_PEOPLE))
    return Change(int(places[two.argmax()]), float(odds))


def _steps(readings: Sequence[Reading], noise: np.ndarray, times_s: Sequence[float] | None) -> np.ndarray:
    """What each reading adds to each number's evidence, float64 [visible shares, readings, numbers]."""
    there = [reading.problem is None for reading in readings]
    ratios = np.stack([likelihood_ratios(reading.digits, noise) for reading in readings])
    ratios[~np.array(there)] = 1.0
    shares = np.array(_VISIBLE)[:, None, None]
    return np.log(1 - shares + shares * ratios) * _weights(there, times_s)[:, None]


def _mean(products: np.ndarray) -> np.ndarray:
    """The logarithm of the mean over the visible shares, the first axis."""
    return logsumexp(products, axis=0) - np.log(len(_VISIBLE))


def _prior() -> np.ndarray:
    """How probable each number is of one that is worn, float64 [len(NUMBERS)]: "01" to "09" are rare."""
    prior = np.ones(len(NUMBERS))
    prior[-9:] = _LEADING_ZERO
    return prior / prior.sum()


def _worn_prior(allowed: Sequence[str] | None) -> np.ndarray:
    """How probable each number is of one that is worn by a team of ``allowed`` numbers, float64."""
    if allowed is None:
        return _prior()
    prior = np.array([float(number in allowed) for number in NUMBERS])
    return prior / max(prior.sum(), 1.0)


def _of_two_people(steps: np.ndarray, times_s: np.ndarray, span_s: tuple[float, float]) -> np.ndarray:
    """The evidence that each number is that of a track's longer part, another one being that of the rest.

    ``steps`` is float64 [visible shares, readings, numbers].
    """
    first, last = span_s
    length = max(last - first, 1e-9)
    shares = (np.clip(times_s, first, last) - first) / length
    before = np.cumsum(steps, axis=1)
    after = before[:, -1:] - before
    terms = []
    for place, (start, end) in enumerate(pairwise(shares)):
        early, late = before[:, place], after[:, place]
        first_longer = _longer(end) - _longer(start)
        for mine, other, chance in ((early, late, first_longer), (late, early, end - start - first_longer)):
            if chance > 0:
                terms.append(mine + _any_other(other) + np.log(chance))
    if not terms:
        return np.full(steps.shape[2], -np.inf)
    return logsumexp(np.concatenate(terms), axis=0) - np.log(len(_VISIBLE))


def _longer(share: float) -> float:
    """How sure it is that a part with this share of a track's time is the longer of two, integrated from 0 to
    ``share``: 0 up to a third, 1 from two thirds, evenly rising in between.

    >>> [round(_longer(share), 3) for share in (0.2, 0.5, 1)]
    [0.0, 0.042, 0.5]
    """
    return max(0.0, 3 * min(share, 2 / 3) - 1) ** 2 / 6 + max(0.0, share - 2 / 3)


def _any_other(products: np.ndarray) -> np.ndarray:
    """For each number the logarithm of all others' mean likelihood ratio, float64 [shares, numbers]."""
    highest = products.max(axis=1, keepdims=True)
    others = np.exp(products - highest) @ _OTHERS.T
    return np.log(np.maximum(others, 1e-300) / len(NUMBERS)) + highest


def _weights(there: Sequence[bool], times_s: Sequence[float] | None) -> np.ndarray:
    if times_s is None:
        return np.ones(len(there))
    times = np.asarray(times_s, float)
    alike = np.exp(-(((times[:, None] - times[None]) / _ALIKE_S) ** 2)) @ np.asarray(there, float)
    return np.maximum(alike, 1.0) ** -_ALIKE


def likelihood_ratios(digits: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """How much likelier each of ``NUMBERS`` makes a reading than no number does, float64 [len(NUMBERS)].

    ``digits`` and ``noise`` are float64 (11, 11) as in :class:`Reading`. What is written on a torso is read
    in all of its windows and a fold in one, so the ratio grows with the square of a string's probability,
    and is the smaller the more often noise gives that string. A window may show one digit of two: "2" is
    what "25" gives in part, and speaks for both. At most 500, and 2,000 for two digits, which noise hardly
    ever gives, so that one crop alone never decides.
    """
    ratio = (digits / _MASS) ** _POWER * _USUAL_NOISE / np.maximum(noise, _LEAST_NOISE)
    one, two = ratio[:10, END], ratio[:10, :10]
    pair = _WHOLE * two + _PART * (one[:, None] + one[None, :])
    one, pair = (np.minimum(each, most) for each, most in zip((one, pair), _MOST, strict=True))
    return np.concatenate([one, pair[1:].ravel(), pair[0]])


def posterior(vote: Vote, allowed: Sequence[str] | None = None) -> tuple[np.ndarray, float]:
    """The probability of each of ``NUMBERS``, float64, and that of none of them.

    ``allowed`` restricts the numbers to those of a roster, of equal prior probability; without it, "01" to
    "09" are held to be rare. A track without a legible number has a prior probability of 0.3. Whether one
    person wore all that was read or two did can't be known, so of both answers the lower probability counts,
    and the sum falls short of 1 where they differ: a number that was read well on part of a track only is
    not given to the whole.
    """
    prior = _worn_prior(allowed)
    if not prior.any():
        return prior, 1.0
    prior *= 1 - _NO_NUMBER
    chances, none = zip(*(_normalised(each, prior) for each in (vote.evidence, vote.shared)), strict=True)
    return np.minimum(*chances), max(none)


def wearing(votes: Sequence[Vote], allowed: Sequence[str] | None = None) -> np.ndarray:
    """How much likelier each of ``NUMBERS`` makes what was read of one person, float64, than any number does.

    ``votes`` are of the person's tracks, on each of which the number may also not be legible. ``allowed`` is
    as in :func:`posterior`.
    """
    prior = _worn_prior(allowed)
    likely = np.ones(len(NUMBERS))
    for each in votes:
        chances, none = posterior(each, allowed)
        likely *= none + np.divide(chances, prior, out=np.zeros(len(NUMBERS)), where=prior > 0)
    return likely / max(float(prior @ likely), 1e-300)


def agreement(one: np.ndarray, others: np.ndarray, allowed: Sequence[str] | None = None) -> np.ndarray:
    """The natural logarithms, float64 [n], of how much likelier what was read of ``one`` and of each of
    ``others`` is if they are one person, from what :func:`wearing` says of them: at least -20."""
    prior = _worn_prior(allowed)
    if not prior.any():
        return np.zeros(len(others))
    return np.log(np.maximum((prior * one * others).sum(axis=1), np.exp(-_MOST_AGAINST)))


def _normalised(evidence: np.ndarray, prior: np.ndarray) -> tuple[np.ndarray, float]:
    highest = max(0.0, float(evidence[prior > 0].max()))
    weight = prior * np.exp(evidence - highest)
    none = _NO_NUMBER * np.exp(-highest)
    total = float(weight.sum() + none)
    return weight / total, none / total
