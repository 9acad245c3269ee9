"""The player of a report: a clip with tracks, labels and errors, as HTML that needs no network."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import resources
from typing import Any

import numpy as np
import pandas as pd

from courtside.report.blocks import Block, text
from courtside.report.colors import color_of, ink_on
from courtside.report.moments import Kind, Moment
from courtside.report.packing import pack, pack_masks
from courtside.report.proxy import Proxy, fit_size

__all__ = [
    "MODULES",
    "clip_data",
    "mask_size",
    "page_block",
    "script",
    "styles",
    "track_layer",
    "truth_layer",
]

MODULES = (
    "clip",
    "masks",
    "unpack",
    "source",
    "dom",
    "draw",
    "timeline",
    "table",
    "moments",
    "player",
    "main",
)
"""The player's modules, each after those that it imports."""

_IMPORT = re.compile(r'^import \{[^}]*\} from "\./\w+\.js";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|class|const) )", re.MULTILINE)
# Half pixels are finer than a screen shows, and reach to pictures 16,000 pixels wide.
_UNIT = 0.5
_NOBODY, _NOT_ASKED = -1, -2
_LEAST_SHARE = 0.1  # of a track, for which it bears a number that is told
_BYTES_PER_MASK = {640: 150, 480: 115, 320: 80}


def script(*more: str) -> str:
    """The player as one module without imports, which exports ``Player``, ``VideoSource`` and ``unpack``.

    Its parts share one scope, so no two may declare one name at their top. ``more`` are sources of modules
    that import from the player's, and join them.
    """
    parts = [_EXPORT.sub("", _IMPORT.sub("", text)) for text in (*(_read(f"{n}.js") for n in MODULES), *more)]
    return "\n".join([*parts, "export { Player, VideoSource, mount, mountAll, unpack };\n"])


def styles() -> str:
    """The player's stylesheet."""
    return _read("player.css")


def page_block(data: Mapping[str, Any], proxy: Proxy, caption: str) -> Block:
    """The player of ``data`` (:func:`clip_data`) over ``proxy``; without scripts there is the plain video."""
    # Neither the end of the script nor a comment's start may occur in it.
    payload = json.dumps(pack(dict(data)), separators=(",", ":")).replace("<", "\\u003c")
    video = base64.b64encode(proxy.data).decode()
    html = (
        f"<style>{styles()}</style>"
        '<div class="courtside-player">'
        f'<script type="application/json">{payload}</script>'
        '<video controls muted playsinline preload="metadata" aria-label="The video without its tracks" '
        f'src="data:video/mp4;base64,{video}"></video></div>'
        f'<p class="quiet">{text(caption)}</p>'
        f'<script type="module">{script()}mountAll();</script>'
    )
    rows = len(data["rows"])
    return Block(html, f"player of {data['shown']} frames with {rows} rows")


def clip_data(
    *,
    proxy: Proxy,
    size: tuple[int, int],
    times_s: np.ndarray,
    tracks: dict[str, Any],
    truth: dict[str, Any] | None,
    moments: Sequence[Moment],
    kinds: Mapping[str, Kind],
    words: Mapping[str, str],
) -> dict[str, Any]:
    """What a player shows. Arrays stay as they are: a page packs them, a notebook sends them as buffers.

    ``size`` is (width, height) of the pixels that boxes count in; layers come from :func:`track_layer` and
    :func:`truth_layer`; ``words`` has ``title``, ``one``, ``many``, ``none`` and ``hint`` for the rows.
    """
    place = {"tracks": _places(tracks), "truth": _places(truth) if truth else {}}
    rows = [
        {
            "index": index,
            **{name: value for name, value in asdict(moment).items() if name not in ("who", "tracks")},
            "time_s": round(moment.time_s, 4),
            "duration_s": round(moment.duration_s, 4),
            "who": place[moment.layer][moment.who],
            "chips": [place["tracks"][track] for track in moment.tracks if track in place["tracks"]],
        }
        for index, moment in enumerate(moments)
    ]
    return {
        "width": size[0],
        "height": size[1],
        "fps": proxy.fps,
        "frame_count": len(times_s),
        "shown": min(proxy.frame_count, len(times_s)),
        "times_s": times_s.astype(np.float32),
        "layers": {"tracks": tracks, "truth": truth},
        "kinds": {name: asdict(kind) for name, kind in kinds.items()},
        "rows": rows,
        "words": dict(words),
    }


def _told(numbers: pd.Series) -> str:
    """Several where the track was cut, but for one that it bears where it lies on another for a moment."""
    counts = numbers.value_counts(sort=False)
    return "/".join(number for number, count in counts.items() if count >= _LEAST_SHARE * len(numbers))


def track_layer(
    detections: pd.DataFrame,
    frame_count: int,
    matches: pd.DataFrame | None,
    events: pd.DataFrame | None,
    objects: Sequence[int],
    mask_size: tuple[int, int] | None,
    size: tuple[int, int],
) -> dict[str, Any]:
    """The tracks as a layer of the player. Partners are the places in ``objects`` of whom they follow.

    Nobody (-1) is only for frames in which the events call a track false; elsewhere it is not known (-2).
    """
    rows = detections.sort_values(["frame", "tracking_id"], kind="stable")
    ids = np.unique(rows["tracking_id"].to_numpy(np.int64))
    numbers = rows.groupby("tracking_id")["jersey_number"].agg(_told)
    names = [f"{i} #{numbers[i]}" if numbers[i] else str(i) for i in ids.tolist()]
    partner = np.full(len(rows), _NOT_ASKED, np.int16)
    if matches is not None and events is not None:
        frames, tracks = rows["frame"].to_numpy(), rows["tracking_id"].to_numpy()
        alone = events[events["event"] == "false_positive"]
        for track, first, last in alone[["tracking_id", "frame", "last_frame"]].itertuples(
            index=False, name=None
        ):
            partner[(tracks == track) & (frames >= first) & (frames <= last)] = _NOBODY
        place = {object_id: i for i, object_id in enumerate(objects)}
        on = matches.dropna(subset="tracking_id")
        pairs = dict(zip(zip(on["frame"], on["tracking_id"], strict=True), on["object_id"], strict=True))
        for row, pair in enumerate(zip(frames.tolist(), tracks.tolist(), strict=True)):
            if pair in pairs:
                partner[row] = place[pairs[pair]]
    colors = [color_of(i) for i in ids.tolist()]
    return _layer(rows, "tracking_id", ids, names, colors, partner, frame_count, mask_size, size)


def truth_layer(
    truth: pd.DataFrame,
    frame_count: int,
    matches: pd.DataFrame | None,
    track_ids: Sequence[int],
    names: Mapping[int, str],
    mask_size: tuple[int, int] | None,
    size: tuple[int, int],
) -> dict[str, Any]:
    """The labels as a layer of the player; who is not required in a frame has the partner -2 there.

    A player has the colour of the track that follows them most, each track's colour once; so where the
    colours of label and track differ, the id is not the player's usual one.
    """
    rows = truth.sort_values(["frame", "object_id"], kind="stable")
    ids = np.unique(rows["object_id"].to_numpy(np.int64))
    partner = np.full(len(rows), _NOT_ASKED, np.int16)
    if matches is not None:
        place = {track: i for i, track in enumerate(track_ids)}
        found = {
            (frame, who): _NOBODY if track is pd.NA else place[track]
            for frame, who, track in zip(
                matches["frame"], matches["object_id"], matches["tracking_id"], strict=True
            )
        }
        keys = zip(rows["frame"].tolist(), rows["object_id"].tolist(), strict=True)
        partner[:] = [found.get(key, _NOT_ASKED) for key in keys]
    said = [names.get(i, f"player {i}") for i in ids.tolist()]
    said = [name if said.count(name) == 1 else f"{name} ({i})" for i, name in zip(ids, said, strict=True)]
    colors = _colors_of(ids, matches, track_ids)
    return _layer(rows, "object_id", ids, said, colors, partner, frame_count, mask_size, size)


def mask_size(count: int, size: tuple[int, int], most_bytes: int = 5_000_000) -> tuple[int, int]:
    """The size, (width, height), at which ``count`` masks of such a picture take at most ``most_bytes``.

    >>> mask_size(1000, (1280, 720)), mask_size(100_000, (1280, 720))
    ((640, 360), (320, 180))
    """
    fits = [side for side, each in _BYTES_PER_MASK.items() if count * each <= most_bytes]
    return fit_size(*size, fits[0] if fits else min(_BYTES_PER_MASK))


def _layer(
    rows: pd.DataFrame,
    key: str,
    ids: np.ndarray,
    names: list[str],
    colors: list[str],
    partner: np.ndarray,
    frame_count: int,
    mask_size: tuple[int, int] | None,
    size: tuple[int, int],
) -> dict[str, Any]:
    boxes = rows[["x1", "y1", "x2", "y2"]].to_numpy(float) / _UNIT
    masks = None
    if mask_size is not None and rows["mask_rle"].notna().any():
        rles = rows["mask_rle"].astype(object).where(rows["mask_rle"].notna(), None).tolist()
        masks = pack_masks(rles, size[1], size[0], mask_size)
    return {
        "ids": ids.tolist(),
        "names": names,
        "colors": colors,
        "inks": [ink_on(color) for color in colors],
        "starts": np.searchsorted(rows["frame"].to_numpy(), np.arange(frame_count + 1)).astype(np.uint32),
        "who": np.searchsorted(ids, rows[key].to_numpy()).astype(np.uint16),
        "boxes": np.clip(np.round(boxes), -32768, 32767).astype(np.int16).ravel(),
        "unit": _UNIT,
        "partner": partner,
        "masks": masks,
    }


def _colors_of(ids: np.ndarray, matches: pd.DataFrame | None, track_ids: Sequence[int]) -> list[str]:
    taken: dict[int, int] = {}
    if matches is not None:
        pairs = matches.dropna(subset="tracking_id").groupby(["object_id", "tracking_id"]).size()
        for who, track in pairs.sort_values(ascending=False, kind="stable").index:
            if who not in taken and track not in taken.values():
                taken[int(who)] = int(track)
    free = max(track_ids, default=0)
    for who in ids.tolist():
        if who not in taken:
            free += 1
            taken[who] = free
    return [color_of(taken[who]) for who in ids.tolist()]


def _places(layer: Mapping[str, Any]) -> dict[int, int]:
    return {each: place for place, each in enumerate(layer["ids"])}


def _read(name: str) -> str:
    return resources.files("courtside.report").joinpath("template", "player", name).read_text("utf-8")
