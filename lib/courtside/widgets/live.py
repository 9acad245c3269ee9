"""The player of the reports, live in a notebook: Python can move it, and knows where it is."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import traitlets

from courtside.report import player
from courtside.report.blocks import jpeg
from courtside.report.comparison import ComparisonReport
from courtside.report.moments import Kind, Moment
from courtside.report.packing import gather
from courtside.report.proxy import Proxy, fit_proxy, write_proxy
from courtside.widgets.panel import Answer, Panel

__all__ = ["PlayerWidget", "compared"]

_AROUND = 10  # frames between a disagreement and the moments to compare it with


class PlayerWidget(Panel):
    """Plays ``data`` (:func:`courtside.report.player.clip_data`) over the pictures of ``proxy``.

    ``frame`` is the frame in view; setting it goes there. ``picture`` is the frame shown where no kernel
    runs, uint8 (H, W, 3) RGB.
    """

    templates = ("link", "live")

    frame = traitlets.Int(0).tag(sync=True)

    def __init__(
        self, data: Mapping[str, Any], proxy: Proxy, *, picture: np.ndarray | None = None, **traits: Any
    ) -> None:
        self._data, self._proxy = dict(data), proxy
        self._picture = None if picture is None else jpeg(picture)
        super().__init__(**traits)

    def handle(self, asked: dict[str, Any]) -> Answer:
        if asked["do"] == "video":
            return {}, [self._proxy.data]
        tree, block = gather({"clip": self._data})
        return tree, [block]

    def last_state(self) -> tuple[str, bytes | None]:
        rows = len(self._data["rows"])
        return f"A player of {self._data['shown']} frames with {rows} rows.", self._picture


def compared(report: ComparisonReport, clip: int = 0) -> PlayerWidget:
    """One clip of a comparison: the second side's tracks, the labels, and a row for each disagreement."""
    own = report.reports[clip][1]
    video, truth = own.video, own.labels.ground_truth
    size, times_s = (video.width, video.height), video.times_s
    common = {"mask_size": None, "size": size}
    objects = np.unique(truth["object_id"]).tolist()
    tracks = player.track_layer(own.detections, len(times_s), own.matches, own.events, objects, **common)
    labels = player.truth_layer(truth, len(times_s), own.matches, tracks["ids"], own._names(), **common)
    rows = report.disagreements[report.disagreements["clip"] == clip].sort_values("first", kind="stable")
    moments = [
        Moment(
            kind=("first", "second")[row.right],
            frame=int(row.first),
            last_frame=int(row.last),
            before=int(row.first) - _AROUND,
            after=int(row.last) + _AROUND,
            time_s=float(row.start_s),
            duration_s=float(row.stop_s - row.start_s),
            layer="truth",
            who=int(row.object_id),
            tracks=(),
            name=own._called(int(row.object_id)),
            cause=row.wrong,
            guess=f"the other side: {row.wrong}",
        )
        for row in rows.itertuples()
    ]
    kinds = {
        "first": Kind(f"only {report.first}", f"{report.first} alone is right", "ring", "#1870c2"),
        "second": Kind(f"only {report.second}", f"{report.second} alone is right", "diamond", "#c2410c"),
    }
    words = {
        "title": "Every disagreement",
        "one": "disagreement",
        "many": "disagreements",
        "none": "Both are right about the same players in the same frames.",
        "hint": f"Choose a row to see it. Tracks are those of {report.second}.",
    }
    with tempfile.TemporaryDirectory() as folder:
        path = own.run.proxy_path
        path = path if path.exists() else write_proxy(video, Path(folder) / "proxy.mp4", progress=False)
        proxy = fit_proxy(path)
    data = player.clip_data(
        proxy=proxy,
        size=size,
        times_s=times_s,
        tracks=tracks,
        truth=labels,
        moments=moments,
        kinds=kinds,
        words=words,
    )
    return PlayerWidget(data, proxy, picture=video.frame(0))
