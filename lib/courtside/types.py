"""What a tracker yields for a frame: boxes, detections, and the detections of one frame."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import supervision

__all__ = ["BoundingBox", "Detection", "FrameDetections"]


@dataclass(frozen=True, slots=True)
class BoundingBox:
    """An axis-aligned box in pixels of the upright frame, ``x1 <= x2`` and ``y1 <= y2``.

    Coordinates are continuous: pixel column 0 covers x in [0, 1), so a box around it is 0..1.

    >>> BoundingBox.from_xywh(10, 20, 30, 40).to_xyxy()
    (10.0, 20.0, 40.0, 60.0)
    >>> BoundingBox(0, 0, 10, 10).iou(BoundingBox(5, 0, 15, 10))
    0.3333333333333333
    """

    x1: float
    y1: float
    x2: float
    y2: float

    def __post_init__(self) -> None:
        for name in ("x1", "y1", "x2", "y2"):
            object.__setattr__(self, name, float(getattr(self, name)))
        if not all(np.isfinite(self.to_xyxy())):
            raise ValueError(f"a box needs finite corners, got {self.to_xyxy()}")
        if self.x2 < self.x1 or self.y2 < self.y1:
            raise ValueError(f"a box needs x1 <= x2 and y1 <= y2, got {self.to_xyxy()}")

    @classmethod
    def from_xyxy(cls, x1: float, y1: float, x2: float, y2: float) -> BoundingBox:
        return cls(x1, y1, x2, y2)

    @classmethod
    def from_xywh(cls, x: float, y: float, width: float, height: float) -> BoundingBox:
        """From the top left corner and the size."""
        return cls(x, y, x + width, y + height)

    def to_xyxy(self) -> tuple[float, float, float, float]:
        return self.x1, self.y1, self.x2, self.y2

    def to_xywh(self) -> tuple[float, float, float, float]:
        """Top left corner and size."""
        return self.x1, self.y1, self.width, self.height

    @property
    def width(self) -> float:
        return self.x2 - self.x1

    @property
    def height(self) -> float:
        return self.y2 - self.y1

    @property
    def area(self) -> float:
        return self.width * self.height

    @property
    def center(self) -> tuple[float, float]:
        return (self.x1 + self.x2) / 2, (self.y1 + self.y2) / 2

    def iou(self, other: BoundingBox) -> float:
        """Intersection over union in [0, 1]; 0 when both boxes are empty."""
        width = min(self.x2, other.x2) - max(self.x1, other.x1)
        height = min(self.y2, other.y2) - max(self.y1, other.y1)
        overlap = max(width, 0.0) * max(height, 0.0)
        union = self.area + other.area - overlap
        return overlap / union if union > 0 else 0.0

    def clip(self, width: float, height: float) -> BoundingBox:
        """The part of the box inside a ``width`` x ``height`` frame (possibly empty)."""
        x1, x2 = (min(max(x, 0.0), width) for x in (self.x1, self.x2))
        y1, y2 = (min(max(y, 0.0), height) for y in (self.y1, self.y2))
        return BoundingBox(x1, y1, x2, y2)


@dataclass(frozen=True, slots=True)
class Detection:
    """One object in one frame.

    ``confidence`` is in [0, 1]. ``class_id`` counts the prompts (or classes) from 0 and
    ``class_name`` is the prompt's text (or the class's name). ``tracking_id`` is positive, or None
    before tracking. ``mask`` is bool, shape (H, W) of the upright frame, or None.
    """

    bbox: BoundingBox
    confidence: float
    class_id: int = 0
    class_name: str = ""
    tracking_id: int | None = None
    mask: np.ndarray | None = field(default=None, repr=False, compare=False)
    jersey_number: str | None = None


@dataclass(frozen=True, slots=True)
class FrameDetections:
    """All detections of the frame numbered ``frame_number`` (from 0), shown at ``time_s`` seconds."""

    frame_number: int
    time_s: float
    detections: tuple[Detection, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "detections", tuple(self.detections))

    def __len__(self) -> int:
        return len(self.detections)

    def __iter__(self):
        return iter(self.detections)

    def to_supervision(self) -> supervision.Detections:
        """As ``supervision.Detections``: ``data`` carries ``class_name`` and ``jersey_number``.

        ``tracker_id`` is -1 where a detection has no track; masks are kept only if every
        detection has one, since supervision has no mixed form.
        """
        import supervision

        if not self.detections:
            return supervision.Detections.empty()
        masks = [detection.mask for detection in self.detections]
        ids = [-1 if d.tracking_id is None else d.tracking_id for d in self.detections]
        return supervision.Detections(
            xyxy=np.array([d.bbox.to_xyxy() for d in self.detections], np.float32),
            mask=None if any(mask is None for mask in masks) else np.stack(masks),
            confidence=np.array([d.confidence for d in self.detections], np.float32),
            class_id=np.array([d.class_id for d in self.detections], int),
            tracker_id=np.array(ids, int),
            data={
                "class_name": np.array([d.class_name for d in self.detections]),
                "jersey_number": np.array([d.jersey_number or "" for d in self.detections]),
            },
        )

    @classmethod
    def from_supervision(
        cls, detections: supervision.Detections, frame_number: int, time_s: float
    ) -> FrameDetections:
        """The reverse of :meth:`to_supervision`; missing fields take their defaults."""
        count = len(detections)
        names = detections.data.get("class_name", [""] * count)
        numbers = detections.data.get("jersey_number", [""] * count)

        def column(values, default):
            return [default] * count if values is None else list(values)

        confidence = column(detections.confidence, 1.0)
        class_id = column(detections.class_id, 0)
        tracker_id = column(detections.tracker_id, -1)
        mask = column(detections.mask, None)
        return cls(
            frame_number,
            time_s,
            tuple(
                Detection(
                    bbox=BoundingBox(*detections.xyxy[i]),
                    confidence=float(confidence[i]),
                    class_id=int(class_id[i]),
                    class_name=str(names[i]),
                    tracking_id=None if tracker_id[i] < 0 else int(tracker_id[i]),
                    mask=None if mask[i] is None else np.asarray(mask[i], bool),
                    jersey_number=str(numbers[i]) or None,
                )
                for i in range(count)
            ),
        )
