"""A labelled clip on disk: the video, and everything a labeller would have written about it."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
from tqdm import tqdm

from courtside.masks import encode_rle
from courtside.video import VideoWriter
from minicourt.scene import FPS, Scene

__all__ = ["degraded_detections", "render_clip"]

_DETECTIONS_NOTE = """\
These detections were not made by a detector. The renderer took its own labels and degraded them
(8 % missed, boxes jittered by 3 % of their size, 0.3 false alarms a frame), so that tracking by
detection can be tried without a model. Scores on them say nothing about a real detector.
"""


def degraded_detections(
    rng: np.random.Generator, boxes: np.ndarray, width: int, height: int
) -> list[tuple[float, ...]]:
    """``boxes`` (N, 4) xyxy made worse: rows of (x, y, w, h, confidence)."""
    rows = []
    for box in boxes:
        if rng.random() < 0.08:
            continue
        size = np.tile(box[2:] - box[:2], 2)
        x1, y1, x2, y2 = np.clip(box + rng.normal(size=4) * 0.03 * size, 0, [width, height] * 2)
        rows.append((x1, y1, max(1.0, x2 - x1), max(1.0, y2 - y1), float(rng.uniform(0.55, 0.98))))
    for _ in range(rng.poisson(0.3)):
        w, h = rng.uniform(0.02, 0.08) * width, rng.uniform(0.12, 0.4) * height
        x, y = rng.uniform(0, width - w), rng.uniform(0, height - h)
        rows.append((x, y, w, h, float(rng.uniform(0.3, 0.7))))
    return rows


def render_clip(
    folder: str | Path,
    *,
    level: str = "game",
    seed: int = 0,
    frames: int = 150,
    width: int = 1280,
    height: int = 720,
    progress: bool = True,
) -> Path:
    """Render ``frames`` frames into ``folder`` and return it. The folder appears whole or not at all.

    Writes ``video.mp4`` (25 frames a second), ``gt/gt.txt`` (MOTChallenge; class 1 player, 2 referee;
    confidence 0 where ``Rendered.counts`` is false), ``seqinfo.ini``, ``masks.json`` (COCO run lengths),
    ``roster.csv``, ``prompts.json`` (the object ids each prompt means), ``det/det.txt`` (the labels,
    degraded) and ``det/README.md``, which says so.
    """
    folder = Path(folder)
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    (part / "gt").mkdir(parents=True)
    (part / "det").mkdir()
    scene = Scene(level, seed)
    rng = np.random.default_rng([seed, 99])
    kinds = {person.object_id: person.kind for person in scene.people}
    masks: dict[str, dict[str, str]] = {}
    truth, detections = [], []
    with VideoWriter(part / "video.mp4", width, height, FPS) as video:
        for frame in tqdm(range(1, frames + 1), "rendering", unit="frame", disable=not progress):
            rendered = scene.render(width, height)
            video.write(rendered.image)
            masks[str(frame)] = {}
            seen = []
            for object_id, (x1, y1, x2, y2) in sorted(rendered.boxes.items()):
                asked = rendered.counts(object_id)
                category = 1 if kinds[object_id] == "player" else 2
                share = min(1.0, rendered.visible[object_id])
                truth.append(
                    (frame, object_id, x1, y1, x2 - x1, y2 - y1, int(asked), category, f"{share:.3f}")
                )
                masks[str(frame)][str(object_id)] = encode_rle(rendered.ids == object_id)
                if asked:
                    seen.append((x1, y1, x2, y2))
            boxes = np.array(seen, float).reshape(-1, 4)
            for x, y, w, h, score in degraded_detections(rng, boxes, width, height):
                detections.append(
                    (frame, -1, f"{x:.1f}", f"{y:.1f}", f"{w:.1f}", f"{h:.1f}", f"{score:.3f}", -1, -1, -1)
                )
            scene.step()
    for name, rows in (("gt/gt.txt", truth), ("det/det.txt", detections)):
        with open(part / name, "w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)
    (part / "det" / "README.md").write_text(_DETECTIONS_NOTE)
    (part / "seqinfo.ini").write_text(
        f"[Sequence]\nname={level}-{seed}\nimDir=img1\nframeRate={FPS:g}\nseqLength={frames}\n"
        f"imWidth={width}\nimHeight={height}\nimExt=.jpg\n"
    )
    with open(part / "roster.csv", "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["object_id", "team", "jersey_number"])
        writer.writerows(
            [p.object_id, p.color_name, p.looks.number] for p in scene.people if p.kind == "player"
        )
    (part / "prompts.json").write_text(json.dumps(scene.prompts(), indent=1) + "\n")
    (part / "masks.json").write_text(json.dumps({"height": height, "width": width, "frames": masks}) + "\n")
    if folder.exists():
        shutil.rmtree(folder)
    part.rename(folder)
    return folder
