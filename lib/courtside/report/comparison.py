"""The sections of a comparison of runs, each a block that a notebook shows and the page keeps."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment

from courtside import notebook
from courtside.compare import BETTER, Comparison
from courtside.errors import RunError
from courtside.files import whole
from courtside.report import blocks, figures, overlay, words
from courtside.report.blocks import Block
from courtside.report.html import write_html
from courtside.report.sections import Report
from courtside.settings import absolute

__all__ = ["ComparisonReport", "correct_rows", "metric_rows", "write_comparison"]

_PICTURES = 3
_ROWS = 12
_CROP_SIDE = 480
_SHARES = (
    "idf1", "hota", "assa", "deta", "mota", "precision", "recall", "motp_iou", "purity",
)  # fmt: skip
_COUNTS = (
    "num_switches", "num_fragmentations", "predicted_tracks", "jersey_right", "jersey_wrong",
    "jersey_unknown",
)  # fmt: skip
_CLIP_METRICS = ("idf1", "hota", "num_switches")
_IGNORED_SETTINGS = ("video", "out", "labels", "roster")


def correct_rows(matches: pd.DataFrame) -> np.ndarray:
    """Which rows of ``matches`` are right: the object is followed, and by its own track. bool [rows].

    ``matches`` has the columns ``object_id`` and ``tracking_id``, as of
    :func:`courtside.report.matches.followed_by`. Each object owns at most one track and each track one
    object, so that most rows are right: Identity's assignment (Ristani et al. 2016), over matched frames.

    >>> table = pd.DataFrame({"object_id": [1, 1, 1, 2], "tracking_id": pd.array([7, 7, 8, 7], "Int64")})
    >>> correct_rows(table).tolist()
    [True, True, False, False]
    """
    followed = matches.dropna(subset="tracking_id")
    shared = pd.crosstab(followed["object_id"], followed["tracking_id"])
    rows, columns = linear_sum_assignment(shared.to_numpy(), maximize=True)
    own = {
        int(shared.index[row]): int(shared.columns[column]) for row, column in zip(rows, columns, strict=True)
    }
    wanted = matches["object_id"].map(own).astype("Int64")
    return (matches["tracking_id"] == wanted).fillna(False).to_numpy(bool)


def metric_rows(combined: pd.DataFrame) -> list[tuple[object, ...]]:
    """Name, both values, difference, interval and what that reads as, a row a metric of ``combined``.

    ``combined`` is :meth:`courtside.compare.Comparison.combined`; what is undefined is None.
    """
    rows = []
    for row in combined.itertuples():
        values: list[object] = [_or_none(row.first), _or_none(row.second)]
        difference = None if np.isnan(row.difference) else f"{row.difference:+.3f}"
        if row.metric in _COUNTS:
            values = [None if value is None else int(value) for value in values]
            difference = difference and f"{int(row.difference):+d}"
        interval = None if np.isnan(row.low) else f"{row.low:+.3f} to {row.high:+.3f}"
        rows.append((words.METRICS[row.metric][0], *values, difference, interval, _judge(row)))
    return rows


def write_comparison(runs: Sequence[str | Path], path: str | Path) -> Path:
    """Write the page of the notebook ``03-compare-runs`` on ``runs`` to ``path``; returns ``path``.

    Raises :class:`RunError` where the notebook fails.
    """
    path = absolute(path)
    if not path.parent.is_dir():
        raise RunError(f"the folder of {path} is not there: make it first, or choose another")
    with tempfile.TemporaryDirectory() as folder:
        executed = Path(folder) / "03-compare-runs.ipynb"
        chosen = [str(absolute(each)) for each in runs]
        notebook.run(notebook.find("03-compare-runs"), executed, {"runs": chosen})
        with whole(path) as part:
            write_html(executed, part)
    return path


class ComparisonReport:
    """What there is to show of a comparison; ``side`` is who is set against the first (1: the second named).

    Pictures come from the ``video`` of each run's :class:`Report`, which is in ``reports``, a pair for each
    clip, so that what a report hides is hidden here too.
    """

    def __init__(self, comparison: Comparison, side: int = 1) -> None:
        if not 0 < side < len(comparison.names):
            raise RunError(f"there is no side {side}: the sides are 1 to {len(comparison.names) - 1}")
        self.comparison, self.side = comparison, side
        self.first, self.second = comparison.names[0], comparison.names[side]

    @cached_property
    def reports(self) -> list[tuple[Report, Report]]:
        """The reports of both runs on each clip."""
        return [(Report(clip.runs[0]), Report(clip.runs[self.side])) for clip in self.comparison.clips]

    @cached_property
    def combined(self) -> pd.DataFrame:
        """:meth:`courtside.compare.Comparison.combined` of the two."""
        return self.comparison.combined(self.side)

    @cached_property
    def disagreements(self) -> pd.DataFrame:
        """Runs of frames in which one side has a player right and the other hasn't, longest first.

        Columns ``clip`` (its place), ``object_id``, ``right`` (0: the first side, 1: the second), ``first``
        and ``last`` (frames), ``start_s``, ``stop_s``, ``frames``, ``wrong`` (what the other side did).
        """
        parts = [part for place in range(len(self.reports)) for part in self._disagree(place)]
        columns = ["clip", "object_id", "right", "first", "last", "start_s", "stop_s", "frames", "wrong"]
        if not parts:
            return pd.DataFrame(columns=columns)
        return pd.concat(parts).sort_values("frames", ascending=False, kind="stable", ignore_index=True)[
            columns
        ]

    def headline(self) -> Block:
        """Who is compared, over what, and what can be said in a sentence."""
        clips = words.count(len(self.comparison.clips), "clip")
        others = [name for name in self.comparison.names[1:] if name != self.second]
        also = f" {' and '.join(others)} stand beside them in the figure of speed." if others else ""
        return blocks.stack(
            blocks.styles(),
            Block(f"<h1>{blocks.text(f'{self.second} against {self.first}')}</h1>", self.second),
            blocks.paragraph(f"Both on the same {clips}, scored by the same labels.{also}", "quiet"),
            *(blocks.note(said) for said in self.comparison.notes),
            blocks.paragraph(self._verdict(), "lead"),
        )

    def metrics(self) -> Block:
        """Each metric of both over all clips, the difference, and how sure it is."""
        rows = metric_rows(self.combined)
        heads = {
            "Metric": "",
            self.first: "",
            self.second: "",
            "Difference": f"{self.second} minus {self.first}",
        }
        heads |= {"95 % interval": "of the difference, clips drawn again in pairs", "Reads as": ""}
        drawn = self._chosen(_SHARES)
        picture = None
        if len(drawn):
            title = f"Right of 0: {self.second} is higher than {self.first}"
            picture = blocks.picture(
                partial(figures.differences, drawn, title), "Differences of each metric with their intervals"
            )
        return blocks.stack(
            blocks.table(heads, rows), blocks.paragraph(self._about_intervals(), "quiet"), picture
        )

    def clips(self) -> Block:
        """Both and the difference on each clip."""
        table = self.comparison.per_clip(self.side).set_index(["clip", "metric"])
        heads = ["Clip"]
        for metric in _CLIP_METRICS:
            heads += [f"{words.METRICS[metric][0]}, {name}" for name in (self.first, self.second)] + [
                f"{words.METRICS[metric][0]}, difference"
            ]
        rows = []
        for place, clip in enumerate(self.comparison.clips):
            row: list[object] = [clip.name]
            for metric in _CLIP_METRICS:
                values = table.loc[(place, metric)]
                numbers = [_or_none(values[name]) for name in ("first", "second", "difference")]
                row += [None if n is None else int(n) if metric == "num_switches" else n for n in numbers]
            rows.append(row)
        return blocks.table(dict.fromkeys(heads, ""), rows, kind="nowrap")

    def moments(self) -> Block:
        """Where one has a player right and the other hasn't: how often, and the longest of each kind."""
        counted = [self._tally(place) for place in range(len(self.reports))]
        heads = ("Clip", "Both right", f"Only {self.first}", f"Only {self.second}", "Neither")
        rows = [(clip.name, *counts) for clip, counts in zip(self.comparison.clips, counted, strict=True)]
        if len(rows) > 1:
            rows.append(("all", *(sum(column) for column in zip(*counted, strict=True))))
        said = (
            "A player is right in a frame when followed under the one id that is this player's own: a miss, "
            "and every frame after a switch to another id, is wrong. The numbers count players times frames."
        )
        parts = [blocks.paragraph(said), blocks.table(heads, rows)]
        for right, (good, bad) in enumerate([(self.first, self.second), (self.second, self.first)]):
            own = self.disagreements[self.disagreements["right"] == right].head(_ROWS)
            shown = [
                (
                    self.comparison.clips[row.clip].name,
                    self._report(row.clip)._called(row.object_id),
                    f"{overlay.clock(row.start_s, 2)} to {overlay.clock(row.stop_s, 2)}",
                    int(row.first),
                    int(row.frames),
                    row.wrong,
                )
                for row in own.itertuples()
            ]
            names = ("Clip", "Who", "When", "First frame", "Frames", f"What {bad} did")
            caption = f"{good} is right and {bad} wrong, longest first"
            parts.append(
                blocks.table(names, shown, caption, kind="nowrap")
                if shown
                else blocks.note(f"{good} is nowhere right where {bad} is wrong.", "info")
            )
        return blocks.stack(*parts)

    def pictures(self, count: int = _PICTURES) -> Block:
        """The longest disagreements of each kind: the middle of each, as each side has it, pointed at."""
        parts = []
        for right, good in enumerate((self.first, self.second)):
            own = self.disagreements[self.disagreements["right"] == right].head(count)
            images = [image for row in own.itertuples() for image in self._pair(row)]
            if images:
                parts += [
                    Block(f"<h3>{blocks.text(f'{good} is right')}</h3>", good),
                    blocks.frame_strip(images),
                ]
        return (
            blocks.stack(*parts)
            if parts
            else blocks.note("They agree on every player in every frame.", "info")
        )

    def speed(self) -> Block:
        """How good each side is against how fast it was."""
        points = self.comparison.speeds().dropna(subset=["frames_per_s", "idf1"])
        if not len(points):
            return blocks.note("None of these runs knows how long tracking took.", "info")
        draw = partial(figures.speed_against_quality, points, "idf1", words.METRICS["idf1"][0])
        said = "Times are of tracking alone, on the machine that ran it: compare those of one machine."
        return blocks.stack(
            blocks.picture(draw, "IDF1 over frames a second"), blocks.paragraph(said, "quiet")
        )

    def settings(self) -> Block:
        """What is set differently."""
        first, second = (self.reports[0][at].config for at in (0, 1))
        rows = []
        for part in ("settings", "tracker", "device", "versions"):
            one, other = (config.get(part) or {} for config in (first, second))
            for name in dict.fromkeys([*one, *other]):
                if one.get(name) != other.get(name) and name not in _IGNORED_SETTINGS:
                    rows.append((part, name.replace("_", " "), *(_said(c.get(name)) for c in (one, other))))
        if not rows:
            return blocks.note("Both ran with the same settings, device and versions.", "info")
        return blocks.table(("Part", "Name", self.first, self.second), rows)

    def _report(self, clip: int) -> Report:
        return self.reports[clip][0]

    @cached_property
    def _states(self) -> list[pd.DataFrame]:
        """For each clip a row for each required label: ``first_right``, ``second_right`` and both tracks."""
        states = []
        for pair in self.reports:
            sides = []
            for report, name in zip(pair, ("first", "second"), strict=True):
                matches = report.matches
                if matches is None:
                    # Nothing was found, or nothing was to be found: nobody is right.
                    rows = report.truth[["frame", "object_id"]]
                    matches = rows.assign(tracking_id=pd.array([pd.NA] * len(rows), dtype="Int64"))
                right = correct_rows(matches)
                sides.append(
                    matches.rename(columns={"tracking_id": f"{name}_track"}).assign(
                        **{f"{name}_right": right}
                    )
                )
            states.append(sides[0].merge(sides[1], on=["frame", "object_id"]))
        return states

    def _tally(self, clip: int) -> tuple[int, int, int, int]:
        first, second = (self._states[clip][f"{name}_right"] for name in ("first", "second"))
        return tuple(
            int(each.sum()) for each in (first & second, first & ~second, ~first & second, ~first & ~second)
        )

    def _disagree(self, clip: int) -> Iterator[pd.DataFrame]:
        states, times_s = self._states[clip], self._report(clip).video.times_s
        for right, (good, bad) in enumerate([("first", "second"), ("second", "first")]):
            rows = states[states[f"{good}_right"] & ~states[f"{bad}_right"]]
            found = figures.segments(rows, times_s, "object_id")
            if not len(found):
                continue
            report = self.reports[clip][1 - right]
            wrong = [
                self._wrong(
                    report,
                    rows[(rows["object_id"] == one.object_id) & rows["frame"].between(one.first, one.last)][
                        f"{bad}_track"
                    ],
                )
                for one in found.itertuples()
            ]
            yield found.assign(clip=clip, right=right, frames=found["last"] - found["first"] + 1, wrong=wrong)

    def _wrong(self, report: Report, tracks: pd.Series) -> str:
        """What a side did in frames in which it is wrong, in words."""
        missed = int(tracks.isna().sum())
        said = [f"missed in {words.count(missed, 'frame')}"] if missed else []
        for track, frames in tracks.dropna().value_counts().head(2).items():
            said.append(f"under id {int(track)}, not its own, in {words.count(int(frames), 'frame')}")
        return "; ".join(said)

    def _pair(self, row: object) -> Iterator[tuple[np.ndarray, str]]:
        """The middle frame of a disagreement around the player, as each side has it."""
        number = (int(row.first) + int(row.last)) // 2
        truth = self._report(row.clip).truth
        box = truth[(truth["object_id"] == row.object_id)].set_index("frame")[["x1", "y1", "x2", "y2"]]
        number = int(box.index[np.abs(box.index.to_numpy() - number).argmin()])
        for at, name in enumerate((self.first, self.second)):
            report = self.reports[row.clip][at]
            image = report.video.frame(number)
            here = next(overlay.rows_by_frame(report.detections, [number]))
            drawn = overlay.draw_tracks(image, here, long_side=max(image.shape[:2]), text_scale=1.2)
            _point_at(drawn, box.loc[number].to_numpy(float))
            who, when = report._called(row.object_id), overlay.clock(report.video.times_s[number], 2)
            said = "right" if row.right == at else row.wrong
            clip = self.comparison.clips[row.clip].name
            yield _around(drawn, box.loc[number].to_numpy(float)), f"{name}: {clip}, {when}, {who}: {said}"

    def _chosen(self, metrics: tuple[str, ...]) -> pd.DataFrame:
        table = self.combined[self.combined["metric"].isin(metrics)].dropna(subset=["difference"])
        names = [words.METRICS[name][0] for name in table["metric"]]
        return table.assign(name=names, better=[BETTER[name] for name in table["metric"]])

    def _verdict(self) -> str:
        row = self.combined.set_index("metric").loc["idf1"]
        if np.isnan(row["difference"]):
            return "IDF1 is undefined for one of them: nothing was found, or there was nothing to find."
        gap = f"IDF1 is {row['second']:.3f} with {self.second} and {row['first']:.3f} with {self.first}"
        if np.isnan(row["low"]):
            return f"{gap}. One clip does not say whether that holds on others."
        if row["sure"]:
            better = self.second if row["difference"] > 0 else self.first
            return f"{gap}: {better} is better, and on other clips like these probably too."
        return f"{gap}. That may be chance: over these clips the difference is not sure."

    def _about_intervals(self) -> str:
        clips = len(self.comparison.clips)
        if clips < 2:
            return "There are no intervals, since one clip does not say what happens on others."
        few = " Fewer than 6 clips are too few to call any difference sure." if clips < 6 else ""
        return (
            "Intervals hold the middle 95 % of differences when clips are drawn again, with replacement and "
            f"in pairs, 1,000 times; counts are summed before metrics are made.{few}"
        )


def _judge(row: object) -> str:
    """What a difference reads as."""
    if np.isnan(row.difference):
        return "undefined"
    if row.difference == 0:
        return "the same"
    if not BETTER[row.metric]:
        return "more" if row.difference > 0 else "fewer"
    reads = "better" if row.difference * BETTER[row.metric] > 0 else "worse"
    if np.isnan(row.low):
        return f"{reads} here"
    return reads if row.sure else f"{reads}, may be chance"


def _point_at(image: np.ndarray, box: np.ndarray) -> None:
    """Draw a pointer at the feet of a box, where no label hides it."""
    size = max(8.0, 0.12 * (box[3] - box[1]))
    tip = np.array([(box[0] + box[2]) / 2, box[3]])
    corners = tip + size * np.array([[0, 0], [-0.7, 1], [0.7, 1]])
    corners[:, 1] -= max(0.0, tip[1] + size - image.shape[0])
    points = [np.round(corners).astype(np.int32)]
    cv2.fillPoly(image, points, (255, 255, 255), cv2.LINE_AA)
    cv2.polylines(image, points, True, (0, 0, 0), max(1, round(size / 12)), cv2.LINE_AA)


def _around(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The part of ``image`` around a box, 16 by 9, so that a person is seen with whoever is near."""
    height, width = image.shape[:2]
    tall = min(height, max(2.4 * (box[3] - box[1]), 0.4 * height))
    wide = min(width, tall * 16 / 9)
    x1 = int(np.clip((box[0] + box[2]) / 2 - wide / 2, 0, width - wide))
    y1 = int(np.clip((box[1] + box[3]) / 2 - tall / 2, 0, height - tall))
    part = image[y1 : y1 + round(tall), x1 : x1 + round(wide)]
    return overlay.small(part, (_CROP_SIDE, round(_CROP_SIDE * part.shape[0] / part.shape[1])))


def _said(value: object) -> object:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | dict):
        return ", ".join(map(str, value)) if isinstance(value, list) else str(value) or None
    return None if value in ("", None) else value


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
