"""Matplotlib figures of a tracked video, made from tables alone: nothing here reads a file or a run.

Every figure comes in two shapes, ``narrow=False`` for a laptop (11 inches, shown at 1056 CSS pixels) and
``narrow=True`` for a phone (3.9 inches, 374 CSS pixels), with the same font sizes in both. Times are seconds
from the first frame, shown as m:ss. A track has the colour of :func:`courtside.report.colors.color_of`.
"""

from __future__ import annotations

import itertools
import textwrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from courtside.report.colors import color_of, ink_on
from courtside.report.overlay import clock

__all__ = [
    "TRACKS_PER_PAGE",
    "count_per_frame",
    "differences",
    "error_timeline",
    "id_timeline",
    "reliability",
    "segments",
    "speed_against_quality",
    "timeline_pages",
    "tracks_on_screen",
]

TRACKS_PER_PAGE = 40
_WIDTH_IN = {False: 11.0, True: 3.9}
_ROW_IN = 0.21
_FEWEST_ROWS = 4
_INK, _QUIET, _GRID = "#1d2733", "#5d6b7a", "#e3e8ee"
_TRUTH = "#1d2733"
_TRACKS = "#1870c2"
_EVENT_STYLES = {
    "switch": ("identity switch", "#c2410c", "D"),
    "fragment": ("found again", "#7c3aed", "^"),
    "miss": ("player missed", "#1870c2", ""),
    "false_positive": ("false track", "#5d6b7a", ""),
}


def segments(rows: pd.DataFrame, times_s: np.ndarray, key: str = "tracking_id") -> pd.DataFrame:
    """Unbroken runs of frames of each ``key``: columns key, first, last (frames), start_s, stop_s.

    ``rows`` has the columns ``frame`` and ``key`` with at most one row for each pair; ``times_s`` is
    float64 [frame_count]. A run lasts until its last frame's time plus one frame. Ordered by key, then time.

    >>> table = pd.DataFrame({"tracking_id": [7, 7, 7], "frame": [0, 1, 3]})
    >>> segments(table, np.arange(5) / 10)[["first", "last", "stop_s"]].values.tolist()
    [[0.0, 1.0, 0.2], [3.0, 3.0, 0.4]]
    """
    rows = rows[[key, "frame"]].sort_values([key, "frame"], kind="stable")
    keys, frames = rows[key].to_numpy(), rows["frame"].to_numpy()
    if not len(rows):
        starts = stops = np.zeros(0, int)
    else:
        breaks = np.flatnonzero((keys[1:] != keys[:-1]) | (frames[1:] != frames[:-1] + 1)) + 1
        starts, stops = np.r_[0, breaks], np.r_[breaks, len(rows)] - 1
    first, last = frames[starts].astype(int), frames[stops].astype(int)
    edges = _edges(times_s)
    return pd.DataFrame(
        {key: keys[starts], "first": first, "last": last, "start_s": edges[first], "stop_s": edges[last + 1]}
    )


def count_per_frame(rows: pd.DataFrame, frame_count: int) -> np.ndarray:
    """How many rows each frame has, int64 [frame_count]."""
    return np.bincount(rows["frame"].to_numpy(int), minlength=frame_count)[:frame_count]


def timeline_pages(detections: pd.DataFrame, per_page: int = TRACKS_PER_PAGE) -> list[list[int]]:
    """Track ids for each page of the timeline: longest tracks first, a page in order of appearance.

    A run without tracks has one empty page.
    """
    if not len(detections):
        return [[]]
    frames = detections.groupby("tracking_id")["frame"].agg(["size", "min"])
    frames = frames.sort_values(["size", "min"], ascending=[False, True], kind="stable")
    chunks = [frames.iloc[i : i + per_page] for i in range(0, len(frames), per_page)]
    return [[int(i) for i in chunk.sort_values("min", kind="stable").index] for chunk in chunks]


def id_timeline(
    detections: pd.DataFrame,
    times_s: np.ndarray,
    *,
    tracking_ids: list[int] | None = None,
    matches: pd.DataFrame | None = None,
    names: dict[int, str] | None = None,
    narrow: bool = False,
) -> Figure:
    """One bar a track over time in its colour; with ``matches`` also one bar a true player.

    ``detections``: columns ``frame, tracking_id``. ``tracking_ids`` chooses and orders the rows (default:
    the first page of :func:`timeline_pages`). ``matches``: columns ``frame, object_id, tracking_id`` (NA if
    the player was labelled but not followed); its bars take the colour of the id that followed the player,
    carry that id where it fits, and have a red mark where the id changes. ``names``: labels of the players
    by object id.
    """
    if tracking_ids is None:
        tracking_ids = timeline_pages(detections)[0]
    total = int(detections["tracking_id"].nunique())
    everyone, objects = 0, []
    if matches is not None:
        everyone = int(matches["object_id"].nunique())
        objects = sorted(int(i) for i in matches["object_id"].value_counts().index[:TRACKS_PER_PAGE])
        matches = matches[matches["object_id"].isin(objects)]
    heights = [max(_FEWEST_ROWS, len(objects)) * _ROW_IN * 1.25] if matches is not None else []
    heights.append(max(_FEWEST_ROWS, len(tracking_ids)) * _ROW_IN)
    figure, axes = _figure(heights, narrow)
    if matches is not None:
        changes = _draw_players(axes[0], matches, objects, times_s, names or {}, narrow)
        switches = f"{changes or 'no'} id change{'s' * (changes != 1)}"
        some = f"{len(objects)} of " if len(objects) < everyone else ""
        players = f"{some}{everyone:,} true player{'s' * (everyone != 1)}"
        title = f"{players}, coloured by the id that followed each: {switches}"
        _title(axes[0], title, narrow)
    shown = detections[detections["tracking_id"].isin(tracking_ids)]
    runs = segments(shown, times_s)
    row_of = {tracking_id: row for row, tracking_id in enumerate(tracking_ids)}
    axis = axes[-1]
    _draw_bars(
        axis, runs, [row_of[i] for i in runs["tracking_id"]], [color_of(i) for i in runs["tracking_id"]]
    )
    axis.set_yticks(range(len(tracking_ids)), [str(i) for i in tracking_ids])
    axis.set_ylim(max(_FEWEST_ROWS, len(tracking_ids)) - 0.4, -0.6)
    axis.set_ylabel("track id", color=_QUIET)
    which = f"{len(tracking_ids)} of {total:,} tracks" if len(tracking_ids) < total else f"{total:,} tracks"
    title = f"{which}, one bar each: long unbroken bars are good, short ones are fragments"
    _title(
        axis, "No tracks: nothing was followed" if not total else "1 track" if total == 1 else title, narrow
    )
    _time_axis(axes, times_s)
    figure.align_ylabels(axes)
    return figure


def tracks_on_screen(
    detections: pd.DataFrame,
    times_s: np.ndarray,
    *,
    truth: pd.DataFrame | None = None,
    labelled_frames: np.ndarray | None = None,
    narrow: bool = False,
) -> Figure:
    """How many tracks each frame has, against how many players were labelled there.

    ``truth``: columns ``frame, object_id`` (ignored rows already left out). Frames not in
    ``labelled_frames`` (int, from 0; None means all) have an unknown truth, drawn as a gap and not as 0.
    Videos of more than 2,000 frames are averaged over 1,000 equal spans, with the range as a band.
    """
    figure, (axis,) = _figure([2.1], narrow)
    counts = count_per_frame(detections, len(times_s)).astype(float)
    _draw_counts(axis, counts, times_s, _TRACKS, "tracks", linewidth=1.6, fill=True)
    mean = counts.mean() if len(counts) else 0.0
    title = f"{mean:.1f} tracks on screen on average"
    if truth is not None:
        known = np.full(len(times_s), labelled_frames is None)
        if labelled_frames is not None:
            known[np.asarray(labelled_frames, int)] = True
        players = np.where(known, count_per_frame(truth, len(times_s)).astype(float), np.nan)
        _draw_counts(axis, players, times_s, _TRUTH, "true players", linewidth=1.6, dashes=(4, 2))
        if known.any():
            extra = counts[known].mean() - players[known].mean()
            where = "more" if extra > 0 else "fewer"
            title = (
                f"{counts[known].mean():.1f} tracks on screen for {players[known].mean():.1f} true players"
            )
            if abs(extra) >= 0.05:
                title += f": {abs(extra):.1f} {where} than there are"
        axis.legend(
            loc="lower left", ncols=2, frameon=False, fontsize=9, bbox_to_anchor=(0, 1), borderaxespad=0.1
        )
    highest = max([1.0, *counts] if truth is None else [1.0, *counts, *players[known]])
    axis.set_ylim(0, highest * 1.08)
    axis.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axis.grid(axis="y", color=_GRID, linewidth=0.8)
    axis.set_ylabel("count per frame", color=_QUIET)
    _title(axis, title, narrow, pad=22 if truth is not None else 8)
    _time_axis([axis], times_s)
    return figure


def error_timeline(events: pd.DataFrame, times_s: np.ndarray, *, narrow: bool = False) -> Figure:
    """Where each kind of error lies, a lane for each kind: marks at moments, for runs how many at once.

    ``events`` is a table :data:`courtside.tables.EVENTS`.
    """
    figure, (axis,) = _figure([4 * 0.48], narrow)
    edges = _edges(times_s)
    labels = []
    for lane, (kind, (label, color, marker)) in enumerate(_EVENT_STYLES.items()):
        rows = events[events["event"] == kind]
        labels.append(f"{label}{chr(10) if narrow else ' '}({len(rows)})")
        first, last = rows["frame"].to_numpy(int), rows["last_frame"].to_numpy(int)
        if kind in ("miss", "false_positive"):
            steps = np.bincount(first, minlength=len(edges)) - np.bincount(last + 1, minlength=len(edges))
            at_once = np.cumsum(steps)
            most = max(1, int(at_once.max(initial=0)))
            base = lane + 0.38
            top = base - 0.76 * at_once / most
            axis.fill_between(edges, base, top, step="post", color=color, alpha=0.75, linewidth=0)
            labels[-1] += f"{chr(10) if narrow else ', '}up to {most} at once" if len(rows) else ""
        else:
            at = edges[first]
            axis.plot(at, np.full(len(at), lane), marker, color=color, markersize=6, alpha=0.75, mew=0)
    axis.set_yticks(range(len(labels)), labels)
    axis.set_ylim(len(labels) - 0.45, -0.55)
    _title(axis, _worst_span(events, times_s), narrow, narrow_width=30)
    _time_axis([axis], times_s)
    return figure


def speed_against_quality(points: pd.DataFrame, metric: str, name: str, *, narrow: bool = False) -> Figure:
    """How good each way to track is against how fast: right is faster (a log scale), up is better.

    ``points``: columns ``tracker``, a label for each, ``frames_per_s`` and the ``metric``, called ``name``.
    """
    figure, (axis,) = _figure([2.9], narrow)
    best = points.loc[points[metric].astype(float).idxmax()]
    for place, row in enumerate(points.sort_values("frames_per_s").itertuples(), start=1):
        x, y = row.frames_per_s, getattr(row, metric)
        axis.plot(x, y, "o", color=color_of(place), markersize=8, mec="white", mew=1)
        axis.annotate(
            textwrap.shorten(row.tracker, 16 if narrow else 40, placeholder="…"),
            (x, y), xytext=(0, 8), textcoords="offset points", ha="center", fontsize=9, color=_INK,
        )  # fmt: skip
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.margins(x=0.18, y=0.22)
    axis.grid(color=_GRID, linewidth=0.8)
    axis.set_axisbelow(True)
    axis.set_xlabel("frames a second, tracking alone", color=_QUIET, fontsize=9)
    axis.set_ylabel(name, color=_QUIET)
    _title(axis, f"{best['tracker']} has the best {name}; further right is faster", narrow)
    return figure


def differences(rows: pd.DataFrame, title: str, *, narrow: bool = False) -> Figure:
    """Each metric's difference with its interval, a row each; what is not sure is grey.

    ``rows``: columns ``name``, ``difference``, ``low``, ``high`` (NaN where there is no interval), ``sure``
    (bool) and ``better`` (1: higher is better, -1: lower is).
    """
    figure, (axis,) = _figure([max(_FEWEST_ROWS, len(rows)) * 0.34], narrow)
    axis.axvline(0, color=_TRUTH, linewidth=1)
    for place, row in enumerate(rows.itertuples()):
        gain = row.difference * row.better > 0
        color = _QUIET if not row.sure else "#1a7f4b" if gain else "#c2410c"
        axis.plot([row.low, row.high], [place, place], color=color, linewidth=3, alpha=0.55)
        axis.plot(row.difference, place, "o" if gain or not row.sure else "X", color=color, markersize=8)
    axis.set_yticks(range(len(rows)), list(rows["name"]))
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.margins(x=0.08)
    axis.grid(axis="x", color=_GRID, linewidth=0.8)
    axis.set_axisbelow(True)
    said = (
        "difference; line: 95 % interval"
        if narrow
        else "difference; a line is its 95 % interval, grey over 0"
    )
    axis.set_xlabel(said, color=_QUIET, fontsize=9)
    _title(axis, title, narrow)
    return figure


def reliability(classes: pd.DataFrame, *, narrow: bool = False) -> Figure:
    """How often a likeliest number is right (dots, with an interval) in each class of how sure it is (lines).

    ``classes``: the rows of :func:`courtside.scoring.jerseys.reliability`.
    """
    figure, (axis,) = _figure([2.9], narrow)
    for place, row in enumerate(classes.itertuples()):
        axis.plot([place - 0.3, place + 0.3], [row.confidence] * 2, color=_TRUTH, linewidth=2)
        axis.plot([place] * 2, [row.right_low, row.right_high], color=_TRACKS, linewidth=3, alpha=0.4)
        axis.plot(place, row.right, "o", color=_TRACKS, markersize=8, mec="white", mew=1)
    names = [f"{row.low * 100:.0f}-{row.high:.0%}\n{row.tracks}" for row in classes.itertuples()]
    axis.set_xticks(range(len(names)), names)
    axis.set_xlim(-0.6, len(names) - 0.4)
    axis.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:.0%}"))
    axis.set_ylim(-0.04, 1.04)
    axis.grid(axis="y", color=_GRID, linewidth=0.8)
    axis.set_axisbelow(True)
    axis.set_xlabel("how sure, and how many tracks", color=_QUIET, fontsize=9)
    axis.set_ylabel("right (dot), said (line)", color=_QUIET)
    over = float((classes["tracks"] * (classes["confidence"] - classes["right"])).sum())
    count = int(classes["tracks"].sum())
    kind = "more" if over > 0 else "less"
    _title(axis, f"{abs(over) / count:.0%} {kind} sure than right, over {count} tracks", narrow)
    return figure


def _worst_span(events: pd.DataFrame, times_s: np.ndarray, spans: int = 10) -> str:
    if not len(events):
        return "No errors found"
    edges = _edges(times_s)
    length = edges[-1] / spans
    starts = edges[events["frame"].to_numpy(int)]
    worst = int(np.bincount(np.minimum((starts / max(length, 1e-9)).astype(int), spans - 1)).argmax())
    decimals = 0 if length >= 1 else 1
    start, stop = clock(worst * length, decimals), clock((worst + 1) * length, decimals)
    return f"Most errors begin between {start} and {stop}"


def _draw_players(
    axis: Axes,
    matches: pd.DataFrame,
    objects: list[int],
    times_s: np.ndarray,
    names: dict[int, str],
    narrow: bool,
) -> int:
    """Bars of true players; returns how many times an id changes."""
    row_of = {object_id: row for row, object_id in enumerate(objects)}
    present = segments(matches, times_s, "object_id")
    for row, start, stop in zip(
        [row_of[i] for i in present["object_id"]], present["start_s"], present["stop_s"], strict=True
    ):
        axis.plot([start, stop], [row, row], color="#aab4bf", linewidth=1.2, solid_capstyle="butt", zorder=1)
    followed = matches[matches["tracking_id"].notna()].astype({"tracking_id": "int64"})
    pair = followed["object_id"].to_numpy(np.int64) << np.int64(32) | followed["tracking_id"].to_numpy(
        np.int64
    )
    runs = segments(pd.DataFrame({"pair": pair, "frame": followed["frame"].to_numpy()}), times_s, "pair")
    pairs = runs["pair"].to_numpy(np.int64)
    runs["object_id"], runs["tracking_id"] = pairs >> 32, pairs & 0xFFFFFFFF
    runs = runs.sort_values(["object_id", "first"], kind="stable")
    rows, colors = [row_of[i] for i in runs["object_id"]], [color_of(i) for i in runs["tracking_id"]]
    _draw_bars(axis, runs, rows, colors, height=0.74)
    length = _edges(times_s)[-1]
    room = 0.012 if not narrow else 0.045
    for row, tracking_id, start, stop in zip(
        rows, runs["tracking_id"], runs["start_s"], runs["stop_s"], strict=True
    ):
        if stop - start > room * (len(str(tracking_id)) + 0.6) * length:
            ink = ink_on(color_of(tracking_id))
            at = ((start + stop) / 2, row + 0.04)
            axis.annotate(str(tracking_id), at, color=ink, fontsize=8, ha="center", va="center", zorder=4)
    changed = (runs["object_id"].diff() == 0) & (runs["tracking_id"].diff() != 0)
    marks = runs[changed.to_numpy()]
    if len(marks):
        # An empty line that is not clipped would lie at the figure's corner and squeeze the layout.
        at = [row_of[i] - 0.42 for i in marks["object_id"]]
        style = {"color": "#b00020", "markersize": 5, "mew": 0.6, "mec": "white", "clip_on": False}
        axis.plot(marks["start_s"], at, "v", zorder=5, **style)
    axis.set_yticks(range(len(objects)), [_short(names.get(i, str(i)), narrow) for i in objects])
    axis.set_ylim(max(_FEWEST_ROWS, len(objects)) - 0.4, -0.7)
    axis.set_ylabel("true player", color=_QUIET)
    axis.text(
        1, -0.02, "▼ id changes   grey line: not followed", transform=axis.transAxes,
        fontsize=8, color=_QUIET, ha="right", va="top",
    )  # fmt: skip
    return int(changed.sum())


def _draw_bars(
    axis: Axes, runs: pd.DataFrame, rows: list[int], colors: list[str], height: float = 0.7
) -> None:
    boxes = [
        [(a, row - height / 2), (b, row - height / 2), (b, row + height / 2), (a, row + height / 2)]
        for row, a, b in zip(rows, runs["start_s"], runs["stop_s"], strict=True)
    ]
    # An edge in the bar's own colour keeps a one-frame run of an hour-long video visible.
    axis.add_collection(PolyCollection(boxes, facecolors=colors, edgecolors=colors, linewidths=0.4, zorder=3))


def _draw_counts(
    axis: Axes,
    counts: np.ndarray,
    times_s: np.ndarray,
    color: str,
    label: str,
    *,
    linewidth: float,
    fill: bool = False,
    dashes: tuple[int, int] | None = None,
) -> None:
    edges = _edges(times_s)
    if len(counts) > 2000:
        bounds = np.linspace(0, len(counts), 1001).astype(int)
        parts = [counts[a:b][~np.isnan(counts[a:b])] for a, b in itertools.pairwise(bounds)]
        low, counts, high = (
            np.array([f(part) if len(part) else np.nan for part in parts]) for f in (np.min, np.mean, np.max)
        )
        edges = edges[bounds]
        axis.fill_between(
            edges,
            np.r_[low, low[-1]],
            np.r_[high, high[-1]],
            step="post",
            color=color,
            alpha=0.18,
            linewidth=0,
        )
    elif fill and len(counts):
        axis.fill_between(edges, np.r_[counts, counts[-1]], step="post", color=color, alpha=0.12, linewidth=0)
    if len(counts):
        line = axis.step(edges, np.r_[counts, counts[-1]], where="post", color=color, label=label)[0]
        line.set_linewidth(linewidth)
        if dashes:
            line.set_dashes(dashes)


def _edges(times_s: np.ndarray) -> np.ndarray:
    """Frame times with the end of the last frame added, float64 [frame_count + 1]."""
    times_s = np.asarray(times_s, float)
    step = float(np.median(np.diff(times_s))) if len(times_s) > 1 else 0.04
    return np.r_[times_s, (times_s[-1] if len(times_s) else 0.0) + step]


def _figure(heights_in: list[float], narrow: bool) -> tuple[Figure, list[Axes]]:
    size = (_WIDTH_IN[narrow], sum(heights_in) + 0.95 * len(heights_in))
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.06, hspace=0.02)
    axes = figure.subplots(len(heights_in), 1, sharex=True, squeeze=False, height_ratios=heights_in)[:, 0]
    for axis in axes:
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.spines["bottom"].set_color("#b8c2cc")
        axis.tick_params(colors=_INK, labelsize=9, length=0, pad=5)
    return figure, list(axes)


def _title(axis: Axes, text: str, narrow: bool, pad: float = 8, narrow_width: int = 36) -> None:
    wrapped = textwrap.fill(text, narrow_width if narrow else 120)
    axis.set_title(wrapped, loc="left", fontsize=10.5, fontweight="bold", color=_INK, pad=pad)


def _short(name: str, narrow: bool) -> str:
    return textwrap.shorten(name, 12, placeholder="…") if narrow else name


def _time_axis(axes: list[Axes], times_s: np.ndarray) -> None:
    end = float(_edges(times_s)[-1])
    decimals = 0 if end >= 15 else 1
    axis = axes[-1]
    axis.set_xlim(0, end)
    narrow = axis.figure.get_size_inches()[0] < 6
    axis.xaxis.set_major_locator(MaxNLocator(5 if narrow else 12, steps=[1, 1.5, 2, 3, 5, 6, 10]))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: clock(seconds, decimals)))
    axis.set_xlabel("time (h:mm:ss)" if end >= 3600 else "time (m:ss)", color=_QUIET, fontsize=9)
    for each in axes:
        each.grid(axis="x", color=_GRID, linewidth=0.8)
        each.set_axisbelow(True)
