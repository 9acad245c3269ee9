"""Runs of the same clips beside each other: metrics, their differences, and how sure a difference is."""

from __future__ import annotations

import operator
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from courtside import watch
from courtside.errors import CourtsideError, RunError, SettingError
from courtside.folder import Run
from courtside.scoring import METRICS, Counts, Scores, combine
from courtside.scoring.counts import metrics_of
from courtside.settings import absolute, clip_name

__all__ = ["BETTER", "Clip", "Comparison", "compare", "failing", "find_sides"]

BETTER = {
    "idf1": 1, "hota": 1, "assa": 1, "deta": 1, "mota": 1, "precision": 1, "recall": 1, "motp_iou": 1,
    "purity": 1, "longest_correct_run_s": 1, "num_switches": -1, "num_fragmentations": -1,
    "fragments_per_object": -1, "predicted_tracks": 0, "jersey_right": 1, "jersey_wrong": -1,
    "jersey_unknown": -1,
}  # fmt: skip
"""The metrics that are compared, and whether more of them is better (1), worse (-1) or neither (0)."""

_RESAMPLES = 1000
_FEWEST_CLIPS = 6  # that a sign test could call sure: all alike by chance once in 2 ** 5
_INTERVAL = (2.5, 97.5)
_CONDITION = re.compile(r"\s*([A-Za-z][\w ]*?)\s*(<=|>=|<|>)\s*([-+]?(?:\d+\.?\d*|\.\d+))\s*")
_SIGNS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


@dataclass(frozen=True, eq=False)
class Clip:
    """A clip with the run of each side on it, in the order of the sides, and what was scored and timed."""

    name: str
    runs: tuple[Run, ...]
    scores: tuple[Scores, ...]
    frames_per_s: tuple[float | None, ...]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Sides by ``names``, the first being what others are compared with, over the ``clips`` that all have.

    ``notes`` say what was left out, and what makes the comparison less than fair.
    """

    names: tuple[str, ...]
    clips: tuple[Clip, ...]
    notes: tuple[str, ...]

    def combined(self, side: int = 1) -> pd.DataFrame:
        """A row a metric over all clips: ``metric, first, second, difference, low, high, sure``.

        ``second`` is the side's, ``difference`` second minus first. ``low`` and ``high`` bound the middle
        95 % of differences when clips are drawn again with replacement, both sides' runs on a clip together
        (paired bootstrap, Efron 1979; 1,000 draws with a fixed seed, counts summed before metrics are made).
        They are NaN for one clip, which says nothing of others, and for what is no sum of counts. ``sure``
        says that they leave 0 out and stand on 6 clips or more; of fewer, all differ alike too often.
        """
        sums = [combine([clip.scores[at] for clip in self.clips]).metrics for at in (0, side)]
        draws = self._draws(side)
        rows = []
        for name in BETTER:
            first, second = (_number(one.get(name)) for one in sums)
            low, high = np.nan, np.nan
            found = draws.get(name, np.zeros(0))
            if np.isfinite(found).any():
                low, high = np.nanpercentile(found, _INTERVAL)
            sure = len(self.clips) >= _FEWEST_CLIPS and (low > 0 or high < 0)
            rows.append((name, first, second, second - first, low, high, sure))
        columns = ["metric", "first", "second", "difference", "low", "high", "sure"]
        table = pd.DataFrame(rows, columns=columns)
        return table.dropna(subset=["first", "second"], how="all", ignore_index=True)

    def per_clip(self, side: int = 1) -> pd.DataFrame:
        """A row a clip and metric: ``clip`` (its place), ``metric, first, second, difference``."""
        rows = []
        for place, clip in enumerate(self.clips):
            for name in BETTER:
                first, second = (_number(clip.scores[at].metrics.get(name)) for at in (0, side))
                rows.append((place, name, first, second, second - first))
        return pd.DataFrame(rows, columns=["clip", "metric", "first", "second", "difference"])

    def speeds(self) -> pd.DataFrame:
        """A row a side: ``tracker`` (its name), ``frames_per_s`` over the clips that were timed, metrics."""
        rows = []
        for at, name in enumerate(self.names):
            scores = [clip.scores[at] for clip in self.clips]
            timed = [
                (score.protocol["frames_scored"] + score.protocol["frames_unlabelled"], clip.frames_per_s[at])
                for score, clip in zip(scores, self.clips, strict=True)
                if clip.frames_per_s[at]
            ]
            spent = sum(frames / speed for frames, speed in timed)
            pace = sum(frames for frames, _ in timed) / spent if timed else None
            metrics = combine(scores).metrics
            rows.append({"tracker": name, "frames_per_s": pace, **{key: metrics.get(key) for key in BETTER}})
        return pd.DataFrame(rows)

    def _draws(self, side: int) -> dict[str, np.ndarray]:
        """Each metric's differences over the resamples, float64 [resamples], NaN where undefined."""
        if len(self.clips) < 2:
            return {}
        counts = [
            [Counts.from_json(clip.scores[at].protocol["counts"]) for clip in self.clips] for at in (0, side)
        ]
        n = len(self.clips)
        weights = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=_RESAMPLES)
        metrics = [[metrics_of(one) for one in _weighted(own, weights)] for own in counts]
        names = [name for name in BETTER if name in METRICS and not name.startswith("jersey")]
        return {
            name: np.array([_number(b[name]) - _number(a[name]) for a, b in zip(*metrics, strict=True)])
            for name in names
        }


def find_sides(paths: Sequence[str | Path]) -> dict[str, dict[str, Run]]:
    """The runs to compare, by side and by place below its path.

    A path is a run folder, or a folder with runs somewhere below. One path alone is a folder of sides, such
    as ``reports/eval``, which has a folder for each tracker. Sides go by what differs in their paths.
    Raises :class:`RunError` for what holds no run, and :class:`SettingError` for fewer than two sides.
    """
    folders = [absolute(path) for path in paths]
    if len(folders) == 1:
        inside = sorted(each for each in folders[0].iterdir() if each.is_dir()) if folders[0].is_dir() else []
        folders = [folder for folder in inside if any(_below(folder))]
    if len(folders) < 2:
        raise SettingError(
            "there is nothing to compare with: name two run folders or more, or a folder with several inside"
        )
    sides = {}
    for name, folder in zip(_short(folders), folders, strict=True):
        sides[name] = {path.relative_to(folder).as_posix(): Run(path) for path in _below(folder)}
        if not sides[name]:
            raise RunError(f"there is no run in {folder}: name a run folder, or one that has some below it")
    return sides


def compare(sides: Mapping[str, Mapping[str, Run]]) -> Comparison:
    """Pair the runs of ``sides`` by their videos; runs on one video by prompts too, then by their place.

    A clip that a side lacks, or on which a run isn't finished or scored, is left out of all, and noted; so is
    a side without any. Raises :class:`RunError` where no clip is left, or where runs on a clip were scored by
    different labels or another protocol, so that their difference would mean nothing.
    """
    notes: list[str] = []
    read = [_read_all(name, runs, notes) for name, runs in sides.items()]
    if sum(map(bool, read)) > 1:
        # A side on which nothing went well would leave no clip for the others.
        sides = {name: runs for (name, runs), side in zip(sides.items(), read, strict=True) if side}
        read = [side for side in read if side]
    # As little as tells the runs of every side apart.
    length = next(n for n in (1, 2, 3) if all(len({key[:n] for key in side}) == len(side) for side in read))
    found = [{key[:length]: scored for key, scored in side.items()} for side in read]
    keys = list(dict.fromkeys(key for side in found for key in side))
    shared = [key for key in keys if all(key in side for side in found)]
    for key in keys:
        lacking = [name for name, side in zip(sides, found, strict=True) if key not in side]
        if lacking:
            clip = _named(next(side[key] for side in found if key in side), key)
            notes.append(f"{clip} is left out: {' and '.join(lacking)} has no finished, scored run on it")
    clips = tuple(_clip(key, [side[key] for side in found], sides, notes) for key in shared)
    if not clips:
        raise RunError(
            f"{' and '.join(sides)} have no clip in common that both tracked and scored: {'; '.join(notes)}"
        )
    return Comparison(tuple(sides), clips, tuple(dict.fromkeys(notes)))


def failing(comparison: Comparison, conditions: Sequence[str]) -> list[str]:
    """A sentence for each condition on a difference, such as ``"IDF1 < -0.01"``, that holds for a later side.

    A difference that is undefined fails too: nobody knows that it is small. Raises :class:`SettingError` for
    a condition that can't be read.
    """
    tests = [_condition(text) for text in conditions]
    said = []
    for side in range(1, len(comparison.names)):
        table = comparison.combined(side).set_index("metric")
        who = f"{comparison.names[side]} against {comparison.names[0]}"
        for text, metric, holds in tests:
            difference = table["difference"].get(metric, np.nan)
            if np.isnan(difference):
                said.append(f"{who}: the difference in {metric} is undefined, so {text!r} can't be ruled out")
            elif holds(difference):
                said.append(f"{who}: {metric} differs by {difference:+.4f}, so {text!r} holds")
    return said


@dataclass(frozen=True, slots=True)
class _Scored:
    run: Run
    name: str
    scores: Scores
    frames_per_s: float | None


def _below(folder: Path) -> list[Path]:
    found = sorted(path.parent for path in folder.rglob(watch.STATUS))
    return [path for path in found if (path / "config.json").is_file()]


def _short(folders: Sequence[Path]) -> list[str]:
    """Each folder's path without what all have in common at the start.

    >>> _short([Path("/r/eval/sam3/a"), Path("/r/eval/botsort/a")])
    ['sam3/a', 'botsort/a']
    """
    if len(set(folders)) < len(folders):
        raise SettingError(f"{Counter(folders).most_common(1)[0][0]} is named twice: name each side once")
    parts = [folder.parts for folder in folders]
    same = 0
    while all(len(each) > same + 1 for each in parts) and len({each[same] for each in parts}) == 1:
        same += 1
    return ["/".join(each[same:]) for each in parts]


def _read_all(side: str, runs: Mapping[str, Run], notes: list[str]) -> dict[tuple[str, str, str], _Scored]:
    """The finished, scored runs of a side by video, prompts and place."""
    found = {}
    for place, run in runs.items():
        try:
            scored, video, prompts = _read(run)
            found[video, prompts, place] = scored
        except CourtsideError as error:
            notes.append(f"{side}: {error}")
    return found


def _read(run: Run) -> tuple[_Scored, str, str]:
    run.require("track")
    config, content = run.config(), run.scores()
    video = config["inputs"]["video"]
    name = clip_name(video["path"])
    if content is None:
        raise RunError(f"{run.folder} was not scored: courtside score {run.folder} --labels DIR")
    if content["metrics"]["true_objects"] is None:
        raise RunError(f"the labels of {run.folder} do not say whom its prompts mean")
    prompts = "; ".join(sorted(config["settings"]["prompts"]))
    return _Scored(run, name, Scores.from_json(content), run.tracked_per_s()), video["sha256"], prompts


def _named(one: _Scored, key: tuple[str, ...]) -> str:
    """A clip's name, with what else it takes to tell it from others."""
    more = ", ".join(part for part in key[1:] if part)
    return f"{one.name} ({more})" if more else one.name


def _clip(key: tuple[str, ...], own: Sequence[_Scored], sides: Mapping[str, Any], notes: list[str]) -> Clip:
    name = _named(own[0], key)
    for part in ("labels_sha256", "match", "iou_threshold"):
        values = [one.scores.protocol[part] for one in own]
        if len(set(values)) > 1:
            folders = " and ".join(str(one.run.folder) for one in own)
            raise RunError(
                f"{folders} were scored with different {part} ({', '.join(str(v)[:12] for v in values)}):"
                " score them again alike, by courtside score"
            )
    players = [one.scores.metrics["true_objects"] for one in own]
    if len(set(players)) > 1:
        pairs = ", ".join(f"{side} {count}" for side, count in zip(sides, players, strict=True))
        notes.append(f"{name}: the sides were asked for different people, so many of them: {pairs}")
    return Clip(
        name,
        tuple(one.run for one in own),
        tuple(one.scores for one in own),
        tuple(one.frames_per_s for one in own),
    )


def _weighted(counts: Sequence[Counts], weights: np.ndarray) -> Iterator[Counts]:
    """The sum of ``counts`` for each row of ``weights``, int [resamples, clips]."""
    names = [field.name for field in fields(Counts)]
    sums = {name: weights @ np.array([getattr(one, name) for one in counts]) for name in names}
    for row in range(len(weights)):
        values = {name: total[row] for name, total in sums.items()}
        yield Counts(**{k: tuple(v) if isinstance(v, np.ndarray) else v for k, v in values.items()})


def _condition(text: str) -> tuple[str, str, Callable[[float], bool]]:
    from courtside.report.words import METRICS as NAMES

    read = _CONDITION.fullmatch(text)
    known = {name: name for name in BETTER} | {NAMES[name][0].lower(): name for name in BETTER}
    metric = known.get(read[1].lower().replace("-", "_")) if read else None
    if metric is None:
        raise SettingError(
            f'cannot read --fail-if {text!r}: write such as "IDF1 < -0.01", with one of {", ".join(BETTER)}'
        )
    sign, bound = _SIGNS[read[2]], float(read[3])
    return text, metric, lambda difference: sign(difference, bound)


def _number(value: Any) -> float:
    return np.nan if value is None else float(value)
