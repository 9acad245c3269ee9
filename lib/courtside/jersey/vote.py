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

_VISIBLE = (0.05, 0.2, 0.6)  # shares of a track in which its number can be seen, held equally likely
_TURN_S = 2.0  # for about so long a number stays in sight, or out of it, until the player turns
_MASS, _POWER = 0.09, 2.0
_MOST = (500.0, 2000.0)  # of one crop, for a number of one digit and of two
_USUAL_NOISE = 0.022
_LEAST_NOISE = 1e-4
_WHOLE, _PART = 0.6, 0.1  # of a number of two digits: both are read, or one of them
_NO_NUMBER = 0.3
_ALIKE_S, _ALIKE = 0.3, 0.5  # looks so near in time share their faults: n of them count as their root
_LEADING_ZERO = 0.001
_MOST_AGAINST = 20.0
_TWO_PEOPLE = 0.03  # of tracks that went on with somebody else
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
    chances: Sequence[float] | None = None,
) -> Vote:
    """Add up the evidence of ``readings`` of one track, by a reader with this ``noise``.

    While a number is in sight, a reading shows it with probability q, its share of ``chances`` (by default
    1), and else something without one (a fold, another player in front), so a number's likelihood ratio is
    1 - q + q r with r of :func:`likelihood_ratios`; out of sight it is 1. Players turn: with ``times_s``, the
    frames' times, rising, what is in sight stays so for about two seconds, as does what is not; without, each
    reading is by itself. Summed over all courses that this may take (the forward algorithm of Rabiner, 1989),
    the likelihood is averaged over several shares of the track in which its number is in sight, since nobody
    knows how often a player shows it. So readings without the number say little against it, and outliers
    are discounted.

    Readings close in time count for less than as many apart, since they share their faults: n within about
    0.3 s weigh as much as the square root of n. For each moment at which the track may have gone on with
    somebody else, another number may then explain the readings of its shorter part. Of parts nearly as long
    either may be the shorter one, since people are hidden for some of the time. ``span_s`` are the track's
    first and last moment (by default those of the readings).
    """
    if not readings:
        return Vote(np.zeros(len(NUMBERS)), np.zeros(len(NUMBERS)), np.zeros(0))
    before, after, added = _along(readings, noise, times_s, chances)
    evidence = shared = before[-1]
    if times_s is not None and len(readings) > 1:
        times = np.asarray(times_s, float)
        two = _of_two_people(before, after, times, span_s or (times[0], times[-1]))
        shared = np.logaddexp(np.log(1 - _TWO_PEOPLE) + evidence, np.log(_TWO_PEOPLE) + two)
    return Vote(evidence, shared, np.clip(added[:, int(np.argmax(evidence))], 0, None))


def change(
    readings: Sequence[Reading],
    noise: np.ndarray,
    times_s: Sequence[float],
    places: Sequence[int],
    chances: Sequence[float] | None = None,
) -> Change | None:
    """Where a track most likely went on with somebody else, if it did, by its ``readings`` in order of time.

    One number and none are held against every pair of numbers, of which neither is part of the other, on
    either side of every moment at which it may have done so: after the reading at each of ``places``. None
    where there is no such moment. The other arguments are those of :func:`vote`.
    """
    if not len(places):
        return None
    prior = np.log(_prior())
    before, after, _ = _along(readings, noise, times_s, chances)
    one = np.logaddexp(np.log(1 - _NO_NUMBER) + logsumexp(before[-1] + prior), np.log(_NO_NUMBER))
    early, late = (part[places] + prior for part in (before, after))
    highest = early.max(axis=1), late.max(axis=1)
    shares = [np.exp(part - most[:, None]) for part, most in zip((early, late), highest, strict=True)]
    two = np.log(np.maximum(((shares[0] @ _OTHERS) * shares[1]).sum(axis=1), 1e-300)) + sum(highest)
    odds = logsumexp(two) - np.log(len(two)) - one + np.log(_TWO_PEOPLE / (1 - _TWO_PEOPLE))
    return Change(int(places[two.argmax()]), float(odds))


def _along(
    readings: Sequence[Reading],
    noise: np.ndarray,
    times_s: Sequence[float] | None,
    chances: Sequence[float] | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The evidence for each number along a track, float64 [readings, numbers] each: of the readings up to
    each one, of those after it, and what each one adds to that of all others."""
    there = np.array([reading.problem is None for reading in readings])
    ratios = np.stack([likelihood_ratios(reading.digits, noise) for reading in readings])
    sights = np.where(there, 1.0 if chances is None else np.asarray(chances, float), 0.0)[:, None]
    ratios = (1 - sights + sights * ratios) ** _weights(there, times_s)[:, None]
    gaps = np.full(len(readings) - 1, np.inf) if times_s is None else np.diff(np.asarray(times_s, float))
    early, seen_early = _in_sight(ratios, gaps)
    late, seen_late = (part[::-1] for part in _in_sight(ratios[::-1], gaps[::-1]))
    # A chain of two states looks the same backward, so what all other readings say of one is both together.
    visible = np.array(_VISIBLE)[:, None]
    seen = seen_early * seen_late / visible
    unseen = (1 - seen_early) * (1 - seen_late) / (1 - visible)
    without = early[-1] - np.log((unseen + seen * ratios[:, None]) / (unseen + seen))
    before, after = _mean(early), np.concatenate([_mean(late)[1:], np.zeros((1, len(NUMBERS)))])
    return before, after, before[-1] - _mean(without)


def _in_sight(ratios: np.ndarray, gaps_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The evidence of the readings up to each one, and how likely each number is in sight before it is read.

    Both are float64 [readings, visible shares, numbers]. ``ratios``, [readings, numbers], are how much
    likelier a number in sight makes each reading, ``gaps_s`` [readings - 1] the seconds between them.
    """
    visible = np.array(_VISIBLE)[:, None]
    evidence = np.zeros((len(ratios), len(_VISIBLE), ratios.shape[1]))
    before = np.zeros_like(evidence)
    total, seen = np.zeros_like(evidence[0]), np.broadcast_to(visible, evidence.shape[1:])
    for place, (ratio, gap) in enumerate(zip(ratios, [np.inf, *gaps_s], strict=True)):
        seen = visible + (seen - visible) * np.exp(-gap / _TURN_S)
        before[place] = seen
        likely = 1 - seen + seen * ratio
        evidence[place] = total = total + np.log(likely)
        seen = seen * ratio / likely
    return evidence, before


def _mean(products: np.ndarray) -> np.ndarray:
    """The logarithm of the mean over the visible shares, the second axis."""
    return logsumexp(products, axis=1) - np.log(len(_VISIBLE))


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


def _of_two_people(
    before: np.ndarray, after: np.ndarray, times_s: np.ndarray, span_s: tuple[float, float]
) -> np.ndarray:
    """The evidence that each number is that of a track's longer part, another one being that of the rest.

    ``before`` and ``after`` are as :func:`_along` gives them.
    """
    first, last = span_s
    length = max(last - first, 1e-9)
    shares = (np.clip(times_s, first, last) - first) / length
    terms = []
    for early, late, (start, end) in zip(before, after, pairwise(shares), strict=False):
        first_longer = _longer(end) - _longer(start)
        for mine, other, chance in ((early, late, first_longer), (late, early, end - start - first_longer)):
            if chance > 0:
                terms.append(mine + _any_other(other) + np.log(chance))
    return logsumexp(terms, axis=0) if terms else np.full(len(NUMBERS), -np.inf)


def _longer(share: float) -> float:
    """How sure it is that a part with this share of a track's time is the longer of two, integrated from 0 to
    ``share``: 0 up to a third, 1 from two thirds, evenly rising in between.

    >>> [round(_longer(share), 3) for share in (0.2, 0.5, 1)]
    [0.0, 0.042, 0.5]
    """
    return max(0.0, 3 * min(share, 2 / 3) - 1) ** 2 / 6 + max(0.0, share - 2 / 3)


def _any_other(evidence: np.ndarray) -> np.ndarray:
    """For each number the logarithm of all others' mean likelihood ratio, float64 [numbers]."""
    highest = evidence.max()
    return np.log(np.maximum(_OTHERS @ np.exp(evidence - highest), 1e-300) / len(NUMBERS)) + highest


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
