"""The player of the reports, live in a notebook: Python can move it, and knows where it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import traitlets

from courtside.report.packing import gather
from courtside.report.proxy import Proxy
from courtside.widgets.panel import Answer, Panel, jpeg

__all__ = ["PlayerWidget"]


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
