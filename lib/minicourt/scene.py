"""A game in motion: who is on the court, how they move, where the camera looks, and what it sees.

``Scene(level, seed)`` is deterministic: the same level and seed give the same people, motion and
camera. ``scene.step()`` moves time on by one frame, ``scene.render()`` gives the picture with exact
per-pixel identities.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from minicourt.court import Camera, Court
from minicourt.palette import (
    DISTINCT_PAIRS,
    JERSEY_NAMES,
    JERSEYS,
    SIMILAR_PAIRS,
    jitter,
    shade_names,
)  # fmt: skip
from minicourt.people import Looks, draw_person, draw_shadow, pose_joints, sample_looks

__all__ = ["FPS", "LEVELS", "Level", "Person", "Rendered", "Scene"]

FPS = 25.0
MIN_VISIBLE = 0.25
MIN_AREA_SHARE = 0.00025
cv2.setNumThreads(1)


@dataclass(frozen=True, slots=True)
class Level:
    """How hard a world is. Counts are inclusive ranges; chances and strengths are in 0..1."""

    players: tuple[int, int]
    referees: tuple[int, int]
    bench: tuple[int, int]
    clutter: float
    crowding: float  # how often players are drawn to the same spot
    leaving: float  # share of players who walk out of the picture and come back
    similar_teams: float  # chance that the teams wear colours that look alike
    speed: tuple[float, float]
    shake: float
    pan: float
    spacing_m: float  # players keep this far apart


LEVELS: dict[str, Level] = {
    "easy": Level((4, 6), (0, 1), (0, 0), 0.2, 0.0, 0.0, 0.0, (1.0, 2.6), 0.2, 0.2, 1.5),
    "game": Level((8, 10), (1, 2), (0, 4), 0.7, 0.05, 0.0, 0.0, (1.2, 3.2), 0.6, 0.6, 1.8),
    "crowd": Level((9, 10), (1, 2), (2, 6), 0.9, 0.6, 0.0, 0.1, (1.2, 4.0), 0.6, 0.4, 0.7),
    "reentry": Level((5, 8), (0, 1), (0, 3), 0.5, 0.1, 0.5, 0.0, (1.5, 3.8), 0.5, 0.5, 1.1),
    "lookalike": Level((7, 10), (1, 2), (0, 4), 0.6, 0.3, 0.0, 1.0, (1.5, 4.0), 0.5, 0.5, 0.9),
}
"""The named worlds. In a ``game``, boxes of players overlap about twice as often as in a labelled clip of a
professional game filmed from above; who stands at the sideline sees more people hide each other."""


@dataclass(slots=True)
class Person:
    """One person on the court. ``team`` is 0 or 1, or -1 for a referee; ``object_id`` counts from 1."""

    object_id: int
    kind: str
    team: int
    looks: Looks
    color_name: str | None
    position: np.ndarray
    velocity: np.ndarray
    target: np.ndarray
    top_speed: float
    heading: float
    phase: float
    until_s: float = 0.0
    arms_up: float = 0.0
    arms_goal: float = 0.0
    crouch: float = 0.0
    crouch_goal: float = 0.0
    jump_s: float = -1.0
    away: list[tuple[float, float, float]] = field(default_factory=list)  # leave at, back at, side


@dataclass(slots=True)
class Rendered:
    """One frame. ``image`` uint8 RGB (H, W, 3); ``ids`` uint8 (H, W), 0 where nobody is.

    ``boxes`` maps object ids to (x1, y1, x2, y2) of the visible pixels, ``visible`` to the share of the
    whole body that is seen (occlusion and the frame's edge both hide), ``area`` to visible pixels.
    """

    image: np.ndarray
    ids: np.ndarray
    boxes: dict[int, tuple[int, int, int, int]]
    visible: dict[int, float]
    area: dict[int, int]

    def counts(self, object_id: int) -> bool:
        """Whether a tracker is asked for this person here: a quarter of the body is seen, and the
        seen part covers at least 0.025 % of the picture."""
        big_enough = self.area[object_id] >= MIN_AREA_SHARE * self.ids.size
        return self.visible[object_id] >= MIN_VISIBLE and big_enough


class Scene:
    """A world of the named level. All randomness comes from ``seed``."""

    def __init__(self, level: str = "game", seed: int = 0):
        if level not in LEVELS:
            raise ValueError(f"unknown level {level!r}; choose one of {', '.join(LEVELS)}")
        self.level_name, self.level, self.seed = level, LEVELS[level], seed
        self.rng = rng = np.random.default_rng([list(LEVELS).index(level), seed])
        self.time_s = 0.0
        spec = self.level
        self.near_m = float(rng.uniform(10.5, 12.5))
        self.far_m = self.near_m + float(rng.uniform(6.0, 7.5))
        near_share = float(rng.uniform(0.44, 0.53))  # of the frame's height, for a near player
        self.focal = near_share * self.near_m / 1.85
        self.half_width_m = 0.5 * (16 / 9) / self.focal * (self.near_m + 1.0)
        camera_height = float(rng.uniform(3.0, 6.5))
        middle = (self.near_m + self.far_m) / 2
        self.base_pitch = float(np.arctan2(camera_height - 0.75, middle))
        self.base_camera = Camera(0.0, camera_height, 0.0, self.base_pitch, 0.0, self.focal)
        self.court = Court(rng, self.near_m, self.far_m, spec.clutter)
        self._dress(rng)
        self._enrol(rng)
        self._seat_bench(rng)
        self._light(rng)
        self.focus = np.array([rng.uniform(-2, 2), rng.uniform(self.near_m + 2, self.far_m - 2)])
        self.focus_velocity = np.zeros(2)
        self.ball = self.focus.copy()
        self.pan_goal = 0.0
        self.pan = float(rng.uniform(-0.06, 0.06)) * spec.pan
        self.sway = rng.uniform(0, 2 * np.pi, 6)
        self.sway_hz = rng.uniform(0.15, 0.6, 6)
        self.zoom_range = float(rng.uniform(0.0, 0.07)) * (spec.pan > 0.3)
        self.shake_px = float(rng.uniform(0.0, 0.0022)) * spec.shake  # of the frame's height, per frame
        self.pan_speed = 0.0
        self.jolt = np.zeros(2)
        for _ in range(40):
            self._move()
        self.time_s = 0.0
        self._plan_exits(rng)

    # -- who is there ---------------------------------------------------------------------------

    def _dress(self, rng: np.random.Generator) -> None:
        pairs = SIMILAR_PAIRS if rng.random() < self.level.similar_teams else DISTINCT_PAIRS
        if self.level.similar_teams == 0.0 and self.level_name != "easy" and rng.random() < 0.35:
            names = tuple(rng.choice(JERSEY_NAMES, 2, replace=False))
        else:
            names = tuple(rng.permutation(pairs[rng.integers(len(pairs))]))
        self.color_names = tuple(str(name) for name in names)
        self.jerseys, self.shorts, self.trims, self.patterns = [], [], [], []
        for name in self.color_names:
            base = JERSEYS[name][rng.integers(len(JERSEYS[name]))]
            jersey = jitter(rng, base, 4 if max(base) < 60 else 6)
            self.jerseys.append(jersey)
            other = jitter(rng, JERSEYS[JERSEY_NAMES[rng.integers(8)]][0], 8)
            self.shorts.append(jersey if rng.random() < 0.75 else other)
            self.trims.append(self._contrasting(rng, jersey))
            self.patterns.append(str(rng.choice(["plain", "sides", "hem", "yoke"], p=[0.5, 0.25, 0.15, 0.1])))

    @staticmethod
    def _contrasting(rng: np.random.Generator, jersey) -> tuple:
        """A trim colour that can be read against the jersey."""
        while True:
            trim = jitter(rng, JERSEYS[JERSEY_NAMES[rng.integers(8)]][0], 8)
            if np.abs(np.subtract(trim, jersey)).sum() > 240:
                return trim

    def _enrol(self, rng: np.random.Generator) -> None:
        spec = self.level
        count = int(rng.integers(spec.players[0], spec.players[1] + 1))
        referees = int(rng.integers(spec.referees[0], spec.referees[1] + 1))
        split = count // 2 if rng.random() < 0.7 else int(rng.integers(2, count - 1))
        numbers = [[str(n) for n in rng.permutation(100)[:16]] for _ in range(2)]
        for team in range(2):
            if rng.random() < 0.15:
                numbers[team][0] = "00"
        self.people: list[Person] = []
        for i in range(count + referees):
            kind = "player" if i < count else "referee"
            team = (0 if i < split else 1) if kind == "player" else -1
            if kind == "player":
                looks = sample_looks(
                    rng, kind, self.jerseys[team], self.shorts[team], self.trims[team],
                    numbers[team].pop(), self.patterns[team],
                )  # fmt: skip
            else:
                shirt = jitter(rng, [(228, 228, 228), (150, 154, 160), (128, 130, 136)][rng.integers(3)], 6)
                looks = sample_looks(
                    rng, kind, shirt, jitter(rng, (24, 24, 27), 5), (20.0, 20.0, 22.0), "", "stripes"
                )
            place = self._somewhere(rng)
            self.people.append(
                Person(
                    object_id=i + 1,
                    kind=kind,
                    team=team,
                    looks=looks,
                    color_name=self.color_names[team] if team >= 0 else None,
                    position=place,
                    velocity=rng.normal(size=2) * 0.5,
                    target=place.copy(),
                    top_speed=float(rng.uniform(*spec.speed) if kind == "player" else rng.uniform(0.8, 2.2)),
                    heading=float(rng.uniform(0, 2 * np.pi)),
                    phase=float(rng.uniform(0, 2 * np.pi)),
                )
            )

    def _seat_bench(self, rng: np.random.Generator) -> None:
        count = int(rng.integers(self.level.bench[0], self.level.bench[1] + 1))
        self.bench: list[tuple[Looks, np.ndarray, float]] = []
        x = rng.uniform(-self.half_width_m, self.half_width_m - 0.8 * count) if count else 0.0
        for _ in range(count):
            hoodie = jitter(
                rng, [(105, 108, 112), (70, 74, 80), (150, 150, 150), (60, 70, 60)][rng.integers(4)], 8
            )
            trousers = jitter(rng, [(40, 42, 48), (90, 92, 96), (60, 62, 80)][rng.integers(3)], 8)
            looks = sample_looks(rng, "bystander", hoodie, trousers, hoodie, "", "plain")
            place = np.array([x, self.far_m + rng.uniform(1.1, 1.7)])
            self.bench.append((looks, place, -np.pi / 2 + float(rng.normal() * 0.3)))
            x += rng.uniform(0.62, 0.9)

    def _light(self, rng: np.random.Generator) -> None:
        strength = 0.4 if self.level_name == "easy" else 1.0
        self.gain = 1 + strength * float(rng.uniform(-0.2, 0.14))
        self.tint = (1 + strength * rng.uniform(-0.045, 0.045, 3)).astype(np.float32)
        self.noise = strength * float(rng.uniform(0, 5))
        self.softness = float(rng.uniform(0.3, 1.0)) if rng.random() < 0.35 * strength else 0.0

    # -- how they move --------------------------------------------------------------------------

    def _room_m(self, depth: float) -> float:
        """Half of the floor's width that the camera sees at a depth, with a margin."""
        return 0.5 * (16 / 9) / self.focal * depth - 0.7

    def _somewhere(self, rng: np.random.Generator) -> np.ndarray:
        y = rng.uniform(self.near_m, self.far_m)
        room = self._room_m(y)
        return np.array([rng.uniform(-room, room), y])

    def _plan_exits(self, rng: np.random.Generator) -> None:
        """Some players walk out of the picture and come back 1 to 5 s later, mostly at the same side."""
        players = [person for person in self.people if person.kind == "player"]
        leavers = round(self.level.leaving * len(players))
        for order, person in enumerate(rng.permutation(len(players))[:leavers]):
            start, side = 0.3 + 0.7 * order + rng.uniform(0, 0.6), float(rng.choice([-1.0, 1.0]))
            while start < 600.0:
                gap = rng.uniform(2.2, 4.8)
                players[person].away.append((start, start + gap, side if rng.random() < 0.8 else -side))
                start += gap + rng.uniform(3.0, 7.0)

    def _move(self) -> None:
        rng, dt, spec = self.rng, 1 / FPS, self.level
        self.time_s += dt
        pull = np.array([0.0, (self.near_m + self.far_m) / 2]) - self.focus
        self.focus_velocity += (rng.normal(size=2) * 9.0 - 0.9 * self.focus_velocity + 0.5 * pull) * dt
        self.focus = self.focus + self.focus_velocity * dt
        self.focus[1] = np.clip(self.focus[1], self.near_m + 0.8, self.far_m - 0.8)
        for person in self.people:
            self._steer(person, dt)
        positions = np.array([person.position for person in self.people])
        apart = positions[:, None] - positions[None]
        distance = np.linalg.norm(apart, axis=-1) + 1e-6
        push = (apart / distance[..., None]) * np.clip(spec.spacing_m - distance, 0, None)[..., None]
        for person, move in zip(self.people, push.sum(1), strict=True):
            person.position = person.position + 0.12 * move
        self.ball = self.ball + (self.focus - self.ball) * min(1.0, 3 * dt)
        goal = np.arctan2(self.focus[0], self.focus[1]) * 0.55 * spec.pan
        self.pan_speed += (np.clip(goal - self.pan, -0.2, 0.2) * 2.5 - self.pan_speed) * min(1.0, 1.6 * dt)
        self.pan += self.pan_speed * dt
        self.jolt = 0.75 * self.jolt + rng.normal(size=2) * self.shake_px

    def _steer(self, person: Person, dt: float) -> None:
        rng = self.rng
        leaving = next((side for start, end, side in person.away if start <= self.time_s < end), None)
        speed_limit = person.top_speed
        if leaving is not None:
            y = person.position[1]
            edge = self._room_m(y) + 0.7
            person.target = np.array([leaving * (edge + 2.6) + np.tan(self.pan) * y, y])
            speed_limit = max(person.top_speed, 4.6)
            person.until_s = 0.0
        else:
            person.until_s -= dt
            if person.until_s <= 0:
                person.until_s = float(rng.uniform(0.8, 3.0))
                drawn = person.kind == "player" and rng.random() < 0.25 + 0.6 * self.level.crowding
                spot = self.focus if drawn else self._somewhere(rng)
                spread = 2.2 - 1.5 * self.level.crowding if drawn else 0.3
                spot = spot + rng.normal(size=2) * spread
                y = float(np.clip(spot[1], self.near_m, self.far_m))
                room = self._room_m(y)
                shift = np.tan(self.pan) * y
                person.target = np.array([np.clip(spot[0], shift - room, shift + room), y])
                person.arms_goal = float(rng.uniform(0.4, 1.0)) if rng.random() < 0.25 else 0.0
                person.crouch_goal = float(rng.uniform(0.2, 0.8)) if rng.random() < 0.35 else 0.0
                if person.kind == "player" and rng.random() < 0.12:
                    person.jump_s = 0.0
            else:
                y = person.target[1]
                room, shift = self._room_m(y), np.tan(self.pan) * y
                person.target[0] = np.clip(person.target[0], shift - room, shift + room)
        way = person.target - person.position
        distance = float(np.linalg.norm(way)) + 1e-6
        wish = way / distance * min(speed_limit, 1.6 * distance)
        person.velocity = person.velocity + (wish - person.velocity) * min(1.0, 3.0 * dt)
        person.position = person.position + person.velocity * dt
        speed = float(np.linalg.norm(person.velocity))
        person.phase += dt * (2.0 + 2.5 * speed)
        look = person.velocity if speed > 0.6 else self.focus - person.position
        turn = np.arctan2(look[1], look[0]) - person.heading
        turn = (turn + np.pi) % (2 * np.pi) - np.pi
        person.heading += turn * min(1.0, 5.0 * dt)
        person.arms_up += (person.arms_goal - person.arms_up) * min(1.0, 5.0 * dt)
        person.crouch += (person.crouch_goal - person.crouch) * min(1.0, 4.0 * dt)
        if person.jump_s >= 0:
            person.jump_s = person.jump_s + dt if person.jump_s < 0.5 else -1.0

    def step(self) -> None:
        """Move time on by one frame of 1/25 s."""
        self._move()

    # -- what the camera sees -------------------------------------------------------------------

    def camera(self) -> Camera:
        """The camera at this moment: it follows play, sways, zooms and shakes."""
        t, spec = self.time_s, self.level
        sway = np.sin(2 * np.pi * self.sway_hz * t + self.sway)
        return Camera(
            x_m=0.04 * sway[0] * spec.shake,
            height_m=self.base_camera.height_m + 0.03 * sway[1] * spec.shake,
            yaw=self.pan + 0.006 * sway[2] * spec.shake + self.jolt[0] / self.focal,
            pitch=self.base_pitch + 0.006 * sway[3] * spec.shake + self.jolt[1] / self.focal,
            roll=0.012 * sway[4] * spec.shake,
            focal=self.focal * (1 + self.zoom_range * sway[5]),
        )

    def render(self, width: int = 1280, height: int = 720) -> Rendered:
        """Draw this moment. Occlusion is exact: nearer people cover farther ones in picture and ids."""
        camera = self.camera()
        image = self.court.render(camera, width, height)
        ids = np.zeros((height, width), np.uint8)
        shots = self._project_people(camera, width, height)
        whole: dict[int, int] = {}
        extent: dict[int, tuple[int, int, int, int]] = {}
        ball_depth = float(self.ball[1]) - 0.4
        ball_drawn = False
        for depth, object_id, looks, points, depths, per_m, facing, foot, flat in shots:
            if not ball_drawn and depth < ball_depth:
                self._draw_ball(image, camera, width, height)
                ball_drawn = True
            margin = 0.14 * looks.stature_m * per_m
            x0, y0 = np.floor(points.min(0) - margin).astype(int)
            x1, y1 = np.ceil(points.max(0) + margin).astype(int)
            if x1 <= 0 or y1 <= 0 or x0 >= width or y0 >= height:
                continue
            draw_shadow(image, foot, per_m, flat)
            mask = np.zeros((int(y1 - y0), int(x1 - x0)), np.uint8)
            draw_person(image, mask, (int(x0), int(y0)), looks, points, depths, per_m, facing)
            cx0, cy0, cx1, cy1 = max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)
            seen = mask[cy0 - y0 : cy1 - y0, cx0 - x0 : cx1 - x0] > 0
            ids[cy0:cy1, cx0:cx1][seen] = object_id
            if object_id:
                whole[object_id] = int(np.count_nonzero(mask))
                extent[object_id] = (int(cx0), int(cy0), int(cx1), int(cy1))
        boxes, visible, area = {}, {}, {}
        for object_id, (x0, y0, x1, y1) in extent.items():
            seen = ids[y0:y1, x0:x1] == object_id
            columns, rows = np.flatnonzero(seen.any(0)), np.flatnonzero(seen.any(1))
            if len(columns) == 0:
                continue
            boxes[object_id] = (
                int(x0 + columns[0]), int(y0 + rows[0]), int(x0 + columns[-1] + 1), int(y0 + rows[-1] + 1),
            )  # fmt: skip
            area[object_id] = int(np.count_nonzero(seen))
            visible[object_id] = area[object_id] / whole[object_id]
        return Rendered(self._expose(image, width, height), ids, boxes, visible, area)

    def _project_people(self, camera: Camera, width: int, height: int) -> list[tuple]:
        """People and bench, farthest first, with their projected joints."""
        people, bench = self.people, self.bench
        jumps = [0.55 * np.sin(np.pi * p.jump_s / 0.5) * 0.6 if p.jump_s >= 0 else 0.0 for p in people]
        joints = pose_joints(
            np.array([p.position for p in people] + [place for _, place, _ in bench]),
            np.array([p.heading for p in people] + [heading for _, _, heading in bench]),
            np.array([np.linalg.norm(p.velocity) for p in people] + [0.0] * len(bench)),
            np.array([p.phase for p in people] + [0.0] * len(bench)),
            np.array([p.looks.stature_m for p in people] + [looks.stature_m for looks, _, _ in bench]),
            np.array([p.arms_up for p in people] + [0.0] * len(bench)),
            np.array([p.crouch for p in people] + [0.0] * len(bench)),
            np.array(jumps + [0.0] * len(bench)),
            np.array([0.0] * len(people) + [1.0] * len(bench)),
        )
        points, depths = camera.project(joints, width, height)
        floor = np.array([[*p.position, 0.0] for p in people] + [[*place, 0.0] for _, place, _ in bench])
        feet, foot_depth = camera.project(floor, width, height)
        shots = []
        for i in range(len(joints)):
            person = people[i] if i < len(people) else None
            looks = person.looks if person else bench[i - len(people)][0]
            heading = person.heading if person else bench[i - len(people)][2]
            away = floor[i, :2] - np.array([camera.x_m, 0.0])
            facing = float(np.cos(heading - np.arctan2(away[1], away[0])))
            per_m = camera.focal * height / foot_depth[i]
            flat = camera.height_m / foot_depth[i]
            object_id = person.object_id if person else 0
            shots.append(
                (foot_depth[i], object_id, looks, points[i], depths[i], per_m, facing, feet[i], flat)
            )
        return sorted(shots, key=lambda shot: -shot[0])

    def _draw_ball(self, image: np.ndarray, camera: Camera, width: int, height: int) -> None:
        bounce = 0.12 + 0.9 * abs(np.sin(2 * np.pi * 0.9 * self.time_s))
        place, depth = camera.project(np.array([self.ball[0], self.ball[1] - 0.4, bounce]), width, height)
        radius = max(1, round(0.12 * camera.focal * height / float(depth)))
        center = (round(float(place[0])), round(float(place[1])))
        cv2.circle(image, center, radius, (212, 104, 40), -1, cv2.LINE_AA)
        if radius > 4:
            cv2.line(image, (center[0] - radius, center[1]), (center[0] + radius, center[1]), (60, 30, 20), 1)

    def _expose(self, image: np.ndarray, width: int, height: int) -> np.ndarray:
        """Motion blur of the pan, softness, light and sensor noise."""
        streak = abs(self.pan_speed) / FPS * self.focal * height * 0.5 + abs(self.jolt[0]) * height * 0.5
        if streak >= 1.5:
            length = min(15, int(streak) | 1)
            image = cv2.blur(image, (max(3, length), 1))
        if self.softness:
            image = cv2.GaussianBlur(image, (0, 0), self.softness * height / 720)
        gain = np.clip(self.gain * self.tint, 0.5, 1.6)
        table = np.clip(np.arange(256, dtype=np.float32)[:, None] * gain, 0, 255).astype(np.uint8)
        image = cv2.LUT(image, table[None])
        if self.noise > 0.8:
            grain = np.random.default_rng([self.seed, round(self.time_s * FPS)]).standard_normal(
                (height // 4, width // 4), dtype=np.float32
            )
            grain = cv2.resize(grain * self.noise, (width, height), interpolation=cv2.INTER_LINEAR)
            image = cv2.add(image, cv2.merge([grain, grain, grain]), dtype=cv2.CV_8U)
        return image

    # -- what the words mean --------------------------------------------------------------------

    def prompts(self) -> dict[str, list[int]]:
        """Which object ids each canonical prompt means, empty where it fits nobody."""
        players = [person for person in self.people if person.kind == "player"]
        meaning = {"basketball player": [p.object_id for p in players]}
        for name in JERSEY_NAMES:
            meaning[f"player in {name}"] = [p.object_id for p in players if p.color_name == name]
        for shade in ("dark", "light"):
            meaning[f"player in {shade}"] = [
                p.object_id for p in players if shade in shade_names(p.looks.jersey)
            ]
        meaning["referee"] = [p.object_id for p in self.people if p.kind == "referee"]
        meaning["dog"] = []
        return meaning
