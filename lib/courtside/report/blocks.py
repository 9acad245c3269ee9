"""The pieces of a report, as HTML that a notebook shows and the page keeps: cards, tables, pictures."""

from __future__ import annotations

import base64
import functools
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources

import cv2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from courtside.report.colors import color_of, ink_on

__all__ = [
    "Block",
    "Card",
    "Html",
    "cards",
    "chip",
    "fold",
    "frame_strip",
    "jpeg",
    "note",
    "paragraph",
    "picture",
    "stack",
    "styles",
    "table",
    "text",
    "video_player",
]

_PIXELS_PER_INCH = 192
_CSS_PER_INCH = 96


class Html(str):
    """Text that is HTML already; any other text is escaped on its way into a block."""


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of the report: Jupyter shows ``html``, and ``text`` stands for it where there is no browser."""

    html: str
    text: str

    def _repr_html_(self) -> str:
        return f'<div class="courtside">{self.html}</div>'

    def __repr__(self) -> str:
        return f"<{self.text}>"


@dataclass(frozen=True, slots=True)
class Card:
    """A headline number, with what it means in words; ``tone`` is ``good``, ``fair``, ``poor`` or empty."""

    label: str
    value: str
    meaning: str
    tone: str = ""


def stack(*blocks: Block | None) -> Block:
    """Blocks below one another; None is left out."""
    kept = [block for block in blocks if block is not None]
    return Block("".join(block.html for block in kept), "; ".join(block.text for block in kept))


def styles() -> Block:
    """The stylesheet of the blocks, so that they look the same in a notebook as on the page."""
    sheet = resources.files("courtside.report").joinpath("template/courtside/blocks.css").read_text("utf-8")
    return Block(f"<style>{sheet}</style>", "styles")


def paragraph(said: str, kind: str = "") -> Block:
    """A paragraph; ``kind`` is a class of the stylesheet, such as ``lead`` or ``quiet``."""
    return Block(f'<p class="{kind}">{text(said)}</p>', str(said))


def note(said: str, kind: str = "warning") -> Block:
    """A boxed remark; ``kind`` is ``warning`` or ``info``. It is said in a word too, not by colour alone."""
    word = {"warning": "Warning", "info": "Note"}[kind]
    return Block(
        f'<div class="note {kind}" role="note"><strong>{word}.</strong> {text(said)}</div>',
        f"{word}: {said}",
    )


def fold(summary: str, block: Block) -> Block:
    """A block behind a line that opens it."""
    return Block(f"<details><summary>{text(summary)}</summary>{block.html}</details>", summary)


def cards(items: Iterable[Card]) -> Block:
    """Headline numbers side by side."""
    items = list(items)
    html = "".join(
        f'<div class="card {item.tone}"><div class="card-label">{text(item.label)}'
        f"{f'<span class=badge>{item.tone}</span>' if item.tone else ''}</div>"
        f'<div class="card-value">{text(item.value)}</div><p>{text(item.meaning)}</p></div>'
        for item in items
    )
    return Block(
        f'<div class="cards {"by-three" if len(items) % 3 == 0 else "by-four"}">{html}</div>',
        ", ".join(f"{item.label} {item.value}" for item in items),
    )


def chip(tracking_id: int) -> Html:
    """A track's id on its colour."""
    color = color_of(tracking_id)
    return Html(
        f'<span class="chip" style="background:{color};color:{ink_on(color)}">{int(tracking_id)}</span>'
    )


def table(
    columns: Mapping[str, str] | Sequence[str],
    rows: Iterable[Sequence[object]],
    caption: str = "",
    kind: str = "",
) -> Block:
    """A table that scrolls sideways in a narrow window.

    ``columns`` are headings, or headings with a tooltip each. Numbers stand right; None reads as a dash.
    ``kind`` ``nowrap`` keeps each row on one line.
    """
    about = columns if isinstance(columns, Mapping) else dict.fromkeys(columns, "")
    rows = [list(row) for row in rows]
    numeric = [
        any(isinstance(row[i], int | float) for row in rows)
        and all(row[i] is None or isinstance(row[i], int | float) for row in rows)
        for i in range(len(about))
    ]
    heads = "".join(
        f'<th{" class=num" if numeric[i] else ""}{_title(about_it)} scope="col">{text(name)}</th>'
        for i, (name, about_it) in enumerate(about.items())
    )
    body = "".join(
        "<tr>"
        + "".join(
            f"<td{' class=num' if numeric[i] else ''}>{_cell(value)}</td>" for i, value in enumerate(row)
        )
        + "</tr>"
        for row in rows
    )
    head = f"<caption>{text(caption)}</caption>" if caption else ""
    return Block(
        f'<div class="scroll" tabindex="0"><table class="{kind}">{head}<thead><tr>{heads}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>",
        f"table of {len(rows)} rows: {caption or ', '.join(about)}",
    )


def picture(draw: Callable[..., Figure], alt: str) -> Block:
    """A figure in its two shapes; the browser takes the one that fits, so that text is legible on a phone.

    ``draw`` takes the keyword ``narrow`` (bool) and returns a figure of :mod:`courtside.report.figures`.
    """
    wide, width, height = _png(draw(narrow=False))
    narrow, small_width, small_height = _png(draw(narrow=True))
    html = (
        f'<figure><picture><source media="(max-width: 640px)" srcset="{narrow}" '
        f'width="{small_width}" height="{small_height}">'
        f'<img src="{wide}" width="{width}" height="{height}" alt="{escape(alt)}"></picture></figure>'
    )
    return Block(html, f"figure: {alt}")


def frame_strip(images: Iterable[tuple[np.ndarray, str]], kind: str = "frames") -> Block:
    """Pictures, uint8 (H, W, 3) RGB, each with a caption: ``frames`` in a grid, ``crops`` in a row."""
    images = list(images)
    quality = 82 if kind == "frames" else 85
    parts = [
        f'<figure><img src="data:image/jpeg;base64,{base64.b64encode(jpeg(image, quality)).decode()}" '
        f'width="{image.shape[1]}" height="{image.shape[0]}" '
        f'alt="{escape(caption)}"><figcaption>{text(caption)}</figcaption></figure>'
        for image, caption in images
    ]
    upright = " upright" if images and images[0][0].shape[0] > images[0][0].shape[1] else ""
    return Block(f'<div class="{kind}{upright}">{"".join(parts)}</div>', f"{len(parts)} pictures")


def video_player(data: bytes, caption: str) -> Block:
    """An H.264 video inside the page."""
    html = (
        f'<figure class="video"><video controls muted playsinline preload="metadata" '
        f'src="data:video/mp4;base64,{base64.b64encode(data).decode()}"></video>'
        f"<figcaption>{text(caption)}</figcaption></figure>"
    )
    return Block(html, f"video: {caption}")


def text(value: object) -> str:
    """``value`` as HTML: escaped, unless it is :class:`Html` already."""
    return value if isinstance(value, Html) else escape(str(value))


def _title(said: str) -> str:
    return f' title="{escape(said)}"' if said else ""


@functools.singledispatch
def _cell(value: object) -> str:
    return text(value)


@_cell.register
def _(value: None) -> str:
    return '<span class="quiet">&ndash;</span>'


@_cell.register
def _(value: float) -> str:
    return f"{value:.3f}"


@_cell.register
def _(value: int) -> str:
    return f"{value:,}"


def _png(figure: Figure) -> tuple[str, int, int]:
    """A data URL at two pixels per CSS pixel, with the size in CSS pixels."""
    canvas = FigureCanvasAgg(figure)
    figure.set_dpi(_PIXELS_PER_INCH)
    canvas.draw()
    # Flat colours: a palette of 256 halves the page at no visible cost.
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())[:, :, :3]).quantize(
        256, dither=Image.Dither.NONE
    )
    buffer = io.BytesIO()
    image.save(buffer, format="png", optimize=True)
    width, height = (round(inches * _CSS_PER_INCH) for inches in figure.get_size_inches())
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}", width, height


def jpeg(image: np.ndarray, quality: int = 85) -> bytes:
    """``image``, uint8 (H, W, 3) RGB, as a JPEG file."""
    done, data = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ValueError(f"cannot encode a picture of the shape {image.shape}")
    return data.tobytes()
