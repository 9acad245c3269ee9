"""The model card of a trained tiny SAM 3: what it learnt from, how, how well, and what it can't do."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

from minicourt.tiny import GRID, HIDDEN, IMAGE, MASK_GRID, QUERIES, VIT_LAYERS, VIT_WIDTH

__all__ = ["CURVES", "draw_curves", "forget_after", "write_card"]

CURVES = "curves.png"
_FOUND = {
    "mask_iou": "mask IoU",
    "everyone_recall": "recall",
    "everyone_precision": "precision",
    "everyone_cut_f1": "F1 of boxes cut",
}
_PANELS = (
    (
        "see",
        "training loss",
        {
            "dense": "a person here, and its box",
            "color": "jersey colour",
            "shape": "shapes under a token",
            "owner": "whose they are",
        },
    ),
    ("detect", "training loss", {"score": "score", "mask_dice": "mask Dice", "semantic_dice": "map Dice"}),
    ("detect-heldout", "share", _FOUND),
    ("follow", "training loss", {"dice": "mask Dice", "start_dice": "first mask Dice", "score": "there"}),
    (
        "follow-heldout",
        "mask IoU",
        {
            "iou_3": "3 frames on",
            "iou_15": "15 frames on",
            "iou_29": "29 frames on",
            "box_iou": "from a box",
            "points_iou": "from points",
        },
    ),
)
_INKS = ("#1f5fa8", "#c4540b", "#2e7d4f", "#8a3fa0", "#6b6b6b")


def _read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def forget_after(curves: Path, step: int) -> None:
    """Take out of ``curves``, if there are any, what was trained after ``step``, from which a run goes on."""
    if curves.is_file():
        kept = [line for line in curves.read_text().splitlines() if json.loads(line)["step"] <= step]
        curves.write_text("".join(f"{line}\n" for line in kept))


def draw_curves(training: str | Path, out: str | Path) -> Path:
    """Draw what ``train`` wrote in the folder ``training`` so far, a panel for each set of curves."""
    from matplotlib.figure import Figure

    panels = [(name, unit, lines, _read(Path(training) / f"{name}.jsonl")) for name, unit, lines in _PANELS]
    panels = [panel for panel in panels if panel[3]]
    columns = min(4, max(1, len(panels)))
    rows = -(-max(1, len(panels)) // columns)
    figure = Figure(figsize=(3.6 * columns, 3.0 * rows), dpi=90, layout="constrained")
    for place, (name, unit, lines, told) in enumerate(panels, start=1):
        axis = figure.add_subplot(rows, columns, place)
        for (key, label), ink in zip(lines.items(), _INKS, strict=False):
            points = [(row["step"], row[key]) for row in told if key in row]
            if points:
                axis.plot(*zip(*points, strict=True), color=ink, label=label, linewidth=1.4)
        axis.set_title(name.replace("-heldout", ", unseen scenes"), fontsize=10)
        axis.set_xlabel("step", fontsize=9)
        axis.set_ylabel(unit, fontsize=9)
        axis.set_ylim(bottom=0)
        axis.tick_params(labelsize=8)
        axis.grid(alpha=0.25)
        axis.legend(fontsize=7, frameon=False)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(out)
    return Path(out)


def write_card(model: str | Path, training: str | Path, figures: str | None = None) -> Path:
    """Write ``README.md`` and the curves into the model folder, from what ``train`` left in ``training``.

    ``figures`` is the Markdown table that ``python -m minicourt evaluate`` prints.
    """
    model, training = Path(model), Path(training)
    stages = [json.loads(path.read_text()) for path in sorted(training.glob("*.json"))]
    order = [panel[0] for panel in _PANELS]
    stages.sort(key=lambda stage: order.index(stage["name"]))
    names = ("name", "steps", "pictures", "rate", "stride")
    rows = "\n".join(
        f"| {' | '.join(str(stage[name]) for name in names)} | {_hours(training, stage)} |"
        for stage in stages
    )
    seed = stages[0]["seed"] if stages else 0
    draw_curves(training, model / CURVES)
    text = _CARD.format(
        rows=rows,
        seed=seed,
        image=IMAGE,
        tokens=GRID,
        mask=MASK_GRID,
        width=VIT_WIDTH,
        layers=VIT_LAYERS,
        hidden=HIDDEN,
        queries=QUERIES,
        curves=CURVES,
        figures=figures or "Not measured yet: `python -m minicourt evaluate`.",
        torch=stages[-1]["torch"] if stages else "",
    )
    path = model / "README.md"
    path.write_text(text)
    return path


def _hours(training: Path, stage: dict) -> str:
    """Machine time of a stage by its curves: a line tells a step's usual seconds since the line before."""
    rows = _read(training / f"{stage['name']}.jsonl")
    steps = [0, *(row["step"] for row in rows)]
    seconds = sum((now - before) * row["s"] for (before, now), row in zip(pairwise(steps), rows, strict=True))
    return f"{seconds / 3600:.1f} h on {stage['processes']} {stage['device'].upper()} process(es)"


_CARD = """\
# sam3-tiny

A small SAM 3 video model: transformers' own `Sam3VideoModel` (text-prompted detector and memory
tracker) with the layers of `facebook/sam3` in miniature. It exists so that everything in Courtside
runs offline, on the very code that runs the real weights. **It knows a rendered basketball court
and nothing else: on real footage it finds nothing useful.**

```python
from transformers import Sam3VideoModel, Sam3VideoProcessor

model = Sam3VideoModel.from_pretrained("data/models/sam3-tiny")
processor = Sam3VideoProcessor.from_pretrained("data/models/sam3-tiny")
```

With Courtside: `courtside track game.mp4 --model data/models/sam3-tiny --prompt "basketball
player"`.

## Architecture

Pictures of {image} x {image} pixels, {tokens} x {tokens} tokens; a ViT {width} wide with {layers}
layers; detector and tracker {hidden} wide, {queries} queries, masks on {mask} x {mask} cells. Texts
are words of a small vocabulary of basketball prompts ("basketball player", "player in white", "the
dark team", "referee", ...); an unknown word counts as such, and a prompt that fits nobody should
find nobody.

## Data

Rendered scenes only (`lib/minicourt`): random floors, walls, stands, lights, kits, bodies, numbers,
camera moves, blur and noise, in the levels easy, game, crowd, reentry and lookalike. Scenes are
drawn on the fly from seeds of a million up; smaller seeds are never trained on.

## Recipe

`make train-tiny` makes it from nothing, seed {seed}, with torch {torch}; a killed run goes on where
it stopped.

| stage | steps | pictures or clips a step | peak rate | stride | took |
|---|---|---|---|---|---|
{rows}

`see` teaches picture and text encoders with dense helper heads, among them one that asks each token
of the backbone for the shapes under it, since every mask is drawn from these tokens; `detect` the
whole detector and its masks; `follow` the memory tracker on the finished backbone, first on short
clips, then on longer ones, with masks, clicks and boxes as starts. Muon for hidden matrices, which
step `stride` times as far as the rate says, AdamW for the rest; a running average of the weights is
kept.

![Training curves]({curves})

## Figures

Clips from unseen seeds, tracked by `courtside track --tracker sam3`, boxes matched at IoU 0.5; beside
them trackers without its memory, on the same model's detections:

{figures}

## Limits

Rendered people only, of the size a sideline phone films them; prompts outside its vocabulary find
nothing; masks miss thin arms and feet, and people who hide most of each other are taken for one. No
person's picture was used.
"""
