"""The place: a painted floor, a back wall with stands and clutter, and a handheld camera.

Everything static is drawn once into two textures and warped into each frame by the homography of
its plane, so a frame costs two warps.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from minicourt.palette import FLOORS, PAINTS, SKIN, WALLS, jitter

__all__ = ["Camera", "Court"]

FLOOR_PX_PER_M = 22
FLOOR_SIZE_M = (44.0, 30.0)
WALL_PX_PER_M = 16
WALL_SIZE_M = (56.0, 9.0)


@dataclass(slots=True)
class Camera:
    """A pinhole camera above the sideline at ``(x_m, 0, height_m)``, looking across the court.

    ``yaw``, ``pitch`` and ``roll`` in radians (yaw 0 looks along +y, positive to the right; pitch
    positive looks down), ``focal`` in units of the frame's height.
    """

    x_m: float
    height_m: float
    yaw: float
    pitch: float
    roll: float
    focal: float

    def project(self, points: np.ndarray, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
        """World points (..., 3) in metres to pixels (..., 2) and depths (...) in metres."""
        x = points[..., 0] - self.x_m
        y = points[..., 1]
        z = points[..., 2] - self.height_m
        cos, sin = np.cos(self.yaw), np.sin(self.yaw)
        x, y = cos * x - sin * y, sin * x + cos * y
        cos, sin = np.cos(self.pitch), np.sin(self.pitch)
        depth, z = cos * y - sin * z, sin * y + cos * z
        depth = np.maximum(depth, 0.3)
        u = self.focal * height * x / depth
        v = -self.focal * height * z / depth
        cos, sin = np.cos(self.roll), np.sin(self.roll)
        return np.stack([width / 2 + cos * u - sin * v, height / 2 + sin * u + cos * v], -1), depth

    def homography(
        self, corners_m: np.ndarray, corners_px: np.ndarray, width: int, height: int
    ) -> np.ndarray:
        """The 3x3 matrix from a plane's texture (its corners in pixels) to the frame."""
        seen, _ = self.project(corners_m, width, height)
        return cv2.getPerspectiveTransform(np.float32(corners_px), np.float32(seen))


class Court:
    """The floor from ``near_m`` to ``far_m`` metres away from the camera, and the wall behind it."""

    def __init__(self, rng: np.random.Generator, near_m: float, far_m: float, clutter: float):
        self.near_m, self.far_m = near_m, far_m
        self.wall_m = far_m + float(rng.uniform(2.2, 5.0))
        self.floor = self._paint_floor(rng)
        self.wall = self._paint_wall(rng, clutter)

    def _paint_floor(self, rng: np.random.Generator) -> np.ndarray:
        scale = FLOOR_PX_PER_M
        width, depth = (int(size * scale) for size in FLOOR_SIZE_M)
        texture = np.empty((depth, width, 3), np.float32)
        texture[:] = jitter(rng, FLOORS[rng.integers(len(FLOORS))], 10)
        planks = rng.normal(size=(1, width // 6 + 1, 1)).repeat(6, 1)[:, :width] * rng.uniform(0, 7)
        texture += planks.astype(np.float32)
        texture = np.clip(texture, 0, 255).astype(np.uint8)
        line = jitter(rng, [(240, 240, 240), (20, 20, 20), (240, 220, 60)][rng.integers(3)], 8)
        paint = jitter(rng, PAINTS[rng.integers(len(PAINTS))], 10)
        stroke = max(1, round(0.06 * scale))
        y0, y1 = self.near_m - 0.6, self.far_m + 0.8
        middle = (y0 + y1) / 2
        shift = rng.uniform(-5, 5)

        def at(x, y):
            # The texture's rows run towards the camera, so that writing on the floor reads upright.
            return round((x + FLOOR_SIZE_M[0] / 2) * scale), round(
                (FLOOR_SIZE_M[1] + self.near_m - 4 - y) * scale
            )

        def box(a, b, color, fill=False):
            cv2.rectangle(texture, at(*a), at(*b), color, -1 if fill else stroke, cv2.LINE_AA)

        if rng.random() < 0.6:
            texture[: at(0, y1)[1]] = paint
            texture[at(0, y0)[1] :] = paint
        for sign in (-1, 1):
            end = sign * 10.0 + shift
            if rng.random() < 0.75:
                if rng.random() < 0.7:
                    box((end, middle - 2.4), (end - sign * 5.8, middle + 2.4), paint, True)
                box((end, middle - 2.4), (end - sign * 5.8, middle + 2.4), line)
                cv2.circle(texture, at(end - sign * 5.8, middle), int(1.8 * scale), line, stroke, cv2.LINE_AA)
                reach = (int(5.6 * scale), int(min(6.2, (y1 - y0) / 2 - 0.6) * scale))
                cv2.ellipse(
                    texture, at(end - sign * 1.4, middle), reach, 0, 0, 360, line, stroke, cv2.LINE_AA
                )
        if rng.random() < 0.75:
            cv2.line(texture, at(shift, y0), at(shift, y1), line, stroke, cv2.LINE_AA)
            if rng.random() < 0.5:
                cv2.circle(texture, at(shift, middle), int(1.8 * scale), paint, -1, cv2.LINE_AA)
            cv2.circle(texture, at(shift, middle), int(1.8 * scale), line, stroke, cv2.LINE_AA)
        box((-14 + shift, y0), (14 + shift, y1), line)
        for _ in range(rng.integers(0, 4)):
            text = "".join(chr(rng.integers(65, 91)) for _ in range(rng.integers(3, 8)))
            place = at(rng.uniform(-12, 8), rng.uniform(y0, y1))
            size, weight = float(rng.uniform(0.6, 2.0)), int(rng.integers(1, 5))
            color = jitter(rng, PAINTS[rng.integers(len(PAINTS))])
            cv2.putText(texture, text, place, cv2.FONT_HERSHEY_SIMPLEX, size, color, weight, cv2.LINE_AA)
        for _ in range(rng.integers(0, 4)):
            glare = tuple(min(255.0, c + 35) for c in texture.mean((0, 1)))
            place = at(rng.uniform(-12, 12), rng.uniform(y0, y1))
            patch = texture.copy()
            cv2.ellipse(
                patch, place, (int(rng.uniform(8, 50)), int(rng.uniform(4, 20))), 0, 0, 360, glare, -1
            )
            texture = cv2.addWeighted(texture, 0.8, patch, 0.2, 0)
        return texture

    def _paint_wall(self, rng: np.random.Generator, clutter: float) -> np.ndarray:
        scale = WALL_PX_PER_M
        width, tall = (int(size * scale) for size in WALL_SIZE_M)
        texture = np.empty((tall, width, 3), np.uint8)
        texture[:] = jitter(rng, WALLS[rng.integers(len(WALLS))], 15)
        if rng.random() < 0.5:
            pad = int(rng.uniform(1.2, 2.2) * scale)
            texture[-pad:] = jitter(rng, PAINTS[rng.integers(len(PAINTS))], 12)
        for _ in range(rng.integers(0, int(2 + 8 * clutter))):
            x, y = int(rng.integers(0, width)), int(rng.integers(0, tall))
            w, h = int(rng.integers(8, 110)), int(rng.integers(6, 60))
            cv2.rectangle(texture, (x, y), (x + w, y + h), jitter(rng, rng.integers(0, 255, 3), 0), -1)
            if rng.random() < 0.5:
                text = "".join(chr(rng.integers(65, 91)) for _ in range(rng.integers(3, 9)))
                color = jitter(rng, rng.integers(0, 255, 3), 0)
                cv2.putText(texture, text, (x, y + h), cv2.FONT_HERSHEY_SIMPLEX, 0.7, color, 2, cv2.LINE_AA)
        if rng.random() < clutter:
            self._seat_crowd(rng, texture, scale)
        return texture

    def _seat_crowd(self, rng: np.random.Generator, texture: np.ndarray, scale: int) -> None:
        """Rows of spectators from the bottom up: shoulders, heads and hair of muted colours."""
        tall, width = texture.shape[:2]
        rows = int(rng.integers(2, 7))
        mute, filled = rng.uniform(0.35, 0.9), rng.uniform(0.3, 0.95)
        first = tall - int(rng.uniform(0.4, 1.6) * scale)
        for row in reversed(range(rows)):
            base = first - int(row * 0.62 * scale)
            cv2.rectangle(texture, (0, base), (width, base + int(0.3 * scale)), (70, 66, 62), -1)
            for x in range(0, width, int(0.62 * scale)):
                if rng.random() > filled:
                    continue
                center = x + int(rng.integers(-2, 3))
                shirt = tuple(float(c) for c in rng.integers(10, 245, 3) * mute)
                skin = tuple(c * mute * 1.05 for c in SKIN[rng.integers(len(SKIN))])
                hair = tuple(float(c) for c in rng.integers(5, 90, 3) * mute)
                half = max(2, int(0.24 * scale))
                cv2.ellipse(
                    texture, (center, base), (half, int(0.42 * scale)), 0, 180, 360, shirt, -1, cv2.LINE_AA
                )
                head = (center, base - int(0.52 * scale))
                cv2.circle(texture, head, max(2, int(0.14 * scale)), skin, -1, cv2.LINE_AA)
                cv2.ellipse(
                    texture, head, (max(2, int(0.14 * scale)),) * 2, 0, 180, 360, hair, -1, cv2.LINE_AA
                )

    def render(self, camera: Camera, width: int, height: int) -> np.ndarray:
        """The empty court as an RGB frame, uint8 (height, width, 3)."""
        half = FLOOR_SIZE_M[0] / 2
        y0, y1 = self.near_m - 4, self.wall_m
        corners = np.array([[-half, y0, 0], [half, y0, 0], [half, y1, 0], [-half, y1, 0]])
        wide_px, near_row = (size * FLOOR_PX_PER_M for size in FLOOR_SIZE_M)
        far_row = near_row - (y1 - y0) * FLOOR_PX_PER_M
        source = [[0, near_row], [wide_px, near_row], [wide_px, far_row], [0, far_row]]
        matrix = camera.homography(corners, source, width, height)
        frame = cv2.warpPerspective(
            self.floor, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        half = WALL_SIZE_M[0] / 2
        foot, _ = camera.project(np.array([[-half, y1, 0.0], [half, y1, 0.0]]), width, height)
        bottom = int(np.clip(np.ceil(foot[:, 1].max()) + 1, 0, height))
        if bottom:
            top = WALL_SIZE_M[1]
            corners = np.array([[-half, y1, top], [half, y1, top], [half, y1, 0], [-half, y1, 0]])
            size = (WALL_SIZE_M[0] * WALL_PX_PER_M, top * WALL_PX_PER_M)
            source = [[0, 0], [size[0], 0], [size[0], size[1]], [0, size[1]]]
            matrix = camera.homography(corners, source, width, height)
            wall = cv2.warpPerspective(
                self.wall, matrix, (width, bottom), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            )
            slope = (foot[1, 1] - foot[0, 1]) / max(1e-6, foot[1, 0] - foot[0, 0])
            edge = foot[0, 1] + slope * (np.arange(width) - foot[0, 0])
            above = np.arange(bottom)[:, None] < edge[None]
            np.copyto(frame[:bottom], wall, where=above[..., None])
        return frame
