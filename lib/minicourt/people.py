"""Articulated people: how they look, the joints of a pose in metres, and how they are drawn.

A pose is 19 joints in the world frame (x along the sideline, y away from the camera, z up). Joints
of all people are computed at once; each person is then drawn as capsules and quads with OpenCV,
far limbs first, into the picture and, pixel for pixel the same shapes, into a silhouette.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from minicourt.palette import HAIR, SHOES, SKIN, jitter

__all__ = ["JOINTS", "Looks", "draw_person", "draw_shadow", "pose_joints", "sample_looks"]

JOINTS = (
    "neck", "head", "shoulder_l", "shoulder_r", "elbow_l", "elbow_r", "hand_l", "hand_r", "hip_l", "hip_r",
    "knee_l", "knee_r", "ankle_l", "ankle_r", "toe_l", "toe_r", "waist_l", "waist_r", "crown",
)  # fmt: skip
_INDEX = {name: i for i, name in enumerate(JOINTS)}
_SHIFT = 4
_SCALE = 1 << _SHIFT
_BLACK = (20.0, 20.0, 22.0)


@dataclass(slots=True)
class Looks:
    """What tells one person from another. Lengths are shares of the person's height."""

    kind: str  # player, referee or bystander
    stature_m: float
    bulk: float
    skin: tuple
    hair: tuple
    hair_style: str  # bald, short, afro, bun or long
    jersey: tuple
    shorts: tuple
    trim: tuple
    sleeve: tuple | None  # colour of an undershirt's sleeve
    forearm: tuple | None  # colour of an arm sleeve, right arm
    leggings: tuple | None
    sock: tuple | None
    shoe: tuple
    headband: tuple | None
    pattern: str  # plain, sides, hem, yoke or stripes
    number: str


def sample_looks(
    rng: np.random.Generator, kind: str, jersey, shorts, trim, number: str, pattern: str
) -> Looks:
    """Random body, skin, hair, shoes and accessories for a person in the given clothes."""
    player = kind == "player"
    accessory = _BLACK if rng.random() < 0.5 else (235.0, 235.0, 235.0)
    return Looks(
        kind=kind,
        stature_m=float(rng.uniform(1.62, 2.0) if player else rng.uniform(1.66, 1.9)),
        bulk=float(rng.uniform(0.85, 1.25)),
        skin=jitter(rng, SKIN[rng.integers(len(SKIN))], 6),
        hair=jitter(rng, HAIR[rng.integers(len(HAIR))], 6),
        hair_style=str(
            rng.choice(["bald", "short", "afro", "bun", "long"], p=[0.12, 0.46, 0.14, 0.14, 0.14])
        ),
        jersey=jersey,
        shorts=shorts,
        trim=trim,
        sleeve=(accessory if rng.random() < 0.6 else jersey) if player and rng.random() < 0.2 else None,
        forearm=accessory if player and rng.random() < 0.15 else None,
        leggings=accessory if player and rng.random() < 0.15 else None,
        sock=(accessory if rng.random() < 0.5 else trim) if rng.random() < 0.5 else None,
        shoe=jitter(rng, SHOES[rng.integers(len(SHOES))], 10),
        headband=trim if player and rng.random() < 0.12 else None,
        pattern=pattern,
        number=number,
    )


def pose_joints(
    position: np.ndarray,
    heading: np.ndarray,
    speed: np.ndarray,
    phase: np.ndarray,
    stature: np.ndarray,
    arms_up: np.ndarray,
    crouch: np.ndarray,
    jump: np.ndarray,
    seated: np.ndarray,
) -> np.ndarray:
    """Joints in metres, shape (N, 19, 3), of N people.

    ``position`` (N, 2) is the point on the floor in metres, ``heading`` the facing direction in
    radians (0 along the sideline, pi/2 away from the camera), ``speed`` in m/s, ``phase`` of the
    stride in radians, ``stature`` in metres; ``arms_up``, ``crouch`` and ``seated`` in 0..1, ``jump`` in
    metres. Strides lengthen with speed; the lower foot touches the floor unless jumping.
    """
    count = len(stature)
    h = stature
    forward = np.stack([np.cos(heading), np.sin(heading)], -1)
    right = np.stack([np.sin(heading), -np.cos(heading)], -1)
    run = np.clip(speed / 4.0, 0.0, 1.0)
    local = np.zeros((count, len(JOINTS), 3))  # right, forward, up in shares of the stature

    def put(name: str, r, f, u) -> None:
        local[:, _INDEX[name], 0], local[:, _INDEX[name], 1], local[:, _INDEX[name], 2] = r, f, u

    lean = 0.02 + 0.07 * run + 0.10 * crouch
    hip_up = 0.50 - 0.12 * crouch - 0.22 * seated
    shoulder_up = hip_up + 0.315 - 0.02 * crouch
    for side, sign in (("l", -1.0), ("r", 1.0)):
        swing = np.sin(phase + (0.0 if sign > 0 else np.pi))
        lift = np.maximum(0.0, -np.cos(phase + (0.0 if sign > 0 else np.pi)))
        thigh = swing * (0.12 + 0.60 * run) + 0.55 * crouch + 1.35 * seated
        bend = lift * (0.15 + 1.25 * run) + 1.05 * crouch + 1.35 * seated + 0.05
        stance = sign * (0.055 + 0.075 * crouch * (1 - seated))
        put(f"hip_{side}", sign * 0.055, 0.0, hip_up)
        put(f"waist_{side}", sign * 0.062, 0.3 * lean, hip_up + 0.10)
        knee_f, knee_u = 0.245 * np.sin(thigh), hip_up - 0.245 * np.cos(thigh)
        put(f"knee_{side}", 0.5 * (sign * 0.055 + stance), knee_f, knee_u)
        shin = thigh - bend
        ankle_f, ankle_u = knee_f + 0.235 * np.sin(shin), knee_u - 0.235 * np.cos(shin)
        put(f"ankle_{side}", stance, ankle_f, ankle_u)
        put(f"toe_{side}", stance * 1.15, ankle_f + 0.095, ankle_u - 0.012)
        put(f"shoulder_{side}", sign * 0.112, lean, shoulder_up)
        reach = -swing * (0.15 + 0.65 * run) * (1 - arms_up) + 0.25 * crouch + 0.5 * seated
        raised = arms_up * 2.55
        spread = 0.035 + 0.10 * crouch * (1 - arms_up) + 0.02 * arms_up
        upper = reach + raised
        elbow_f, elbow_u = lean + 0.165 * np.sin(upper), shoulder_up - 0.165 * np.cos(upper)
        put(f"elbow_{side}", sign * (0.112 + spread), elbow_f, elbow_u)
        lower = upper + 0.25 + 0.95 * run * (1 - arms_up) + 0.75 * crouch * (1 - arms_up) + 0.3 * arms_up
        put(
            f"hand_{side}",
            sign * (0.112 + 1.2 * spread),
            elbow_f + 0.165 * np.sin(lower),
            elbow_u - 0.165 * np.cos(lower),
        )
    put("neck", 0.0, lean, shoulder_up + 0.03)
    put("head", 0.0, 1.25 * lean + 0.012, shoulder_up + 0.115)
    put("crown", 0.0, 1.3 * lean, shoulder_up + 0.185)
    local[:, :, 2] -= local[:, [_INDEX["ankle_l"], _INDEX["ankle_r"]], 2].min(1, keepdims=True) - 0.035
    local *= h[:, None, None]
    joints = np.empty_like(local)
    joints[:, :, :2] = (
        position[:, None]
        + local[:, :, :1] * right[:, None]
        + local[:, :, 1:2] * forward[:, None]
    )  # fmt: skip
    joints[:, :, 2] = local[:, :, 2] + jump[:, None]
    return joints


def _fixed(point) -> tuple[int, int]:
    return round(point[0] * _SCALE), round(point[1] * _SCALE)


class _Brush:
    """Draws every shape twice: in colour into the picture, as ones into the silhouette."""

    def __init__(self, image: np.ndarray | None, mask: np.ndarray, offset: tuple[int, int]):
        self.image, self.mask = image, mask
        self.offset = np.array(offset, float)

    def capsule(self, a, b, width: float, color) -> None:
        thickness = max(1, round(width))
        cv2.line(self.mask, _fixed(a - self.offset), _fixed(b - self.offset), 1, thickness, 8, _SHIFT)
        if self.image is not None:
            cv2.line(self.image, _fixed(a), _fixed(b), color, thickness, cv2.LINE_AA, _SHIFT)

    def polygon(self, points, color) -> None:
        points = np.asarray(points, float)
        hull = np.round((points - self.offset) * _SCALE).astype(np.int32)
        cv2.fillConvexPoly(self.mask, hull, 1, 8, _SHIFT)
        if self.image is not None:
            cv2.fillConvexPoly(
                self.image, np.round(points * _SCALE).astype(np.int32), color, cv2.LINE_AA, _SHIFT
            )

    def ellipse(self, center, axes, angle: float, color) -> None:
        axes = (max(1, round(axes[0] * _SCALE)), max(1, round(axes[1] * _SCALE)))
        cv2.ellipse(self.mask, _fixed(center - self.offset), axes, angle, 0, 360, 1, -1, 8, _SHIFT)
        if self.image is not None:
            cv2.ellipse(self.image, _fixed(center), axes, angle, 0, 360, color, -1, cv2.LINE_AA, _SHIFT)

    def paint(self, points, color) -> None:
        """Colour that lies on top of what is already part of the person: the silhouette stays."""
        if self.image is not None:
            hull = np.round(np.asarray(points, float) * _SCALE).astype(np.int32)
            cv2.fillConvexPoly(self.image, hull, color, cv2.LINE_AA, _SHIFT)

    def stroke(self, a, b, width: float, color) -> None:
        if self.image is not None:
            cv2.line(self.image, _fixed(a), _fixed(b), color, max(1, round(width)), cv2.LINE_AA, _SHIFT)


def _shade(color, factor: float) -> tuple:
    return tuple(min(255.0, c * factor) for c in color)


def draw_person(
    image: np.ndarray | None,
    mask: np.ndarray,
    offset: tuple[int, int],
    looks: Looks,
    points: np.ndarray,
    depths: np.ndarray,
    pixels_per_m: float,
    facing: float,
) -> None:
    """Draw one person into ``image`` (RGB, whole frame; or None) and, as ones, into ``mask``.

    ``mask`` is a crop whose top left corner lies at ``offset`` (x, y) of the frame. ``points`` (19, 2)
    are the projected joints in pixels, ``depths`` (19,) their distances; ``facing`` is the cosine of the
    angle between the person's back and the viewing direction: 1 shows the back, -1 the chest.
    """
    h = looks.stature_m * pixels_per_m
    thick = h * looks.bulk
    brush = _Brush(image, mask, offset)
    joint = {name: points[i] for i, name in enumerate(JOINTS)}
    near_right = depths[_INDEX["shoulder_r"]] <= depths[_INDEX["shoulder_l"]]
    far, near = ("l", "r") if near_right else ("r", "l")
    trousers = looks.kind != "player"

    def leg(side: str, light: float) -> None:
        hip, knee, ankle, toe = (joint[f"{part}_{side}"] for part in ("hip", "knee", "ankle", "toe"))
        shin = looks.shorts if trousers else looks.leggings or looks.skin
        brush.capsule(ankle, toe, 0.044 * h, _shade(looks.shoe, light))
        brush.capsule(knee, ankle, 0.058 * thick, _shade(shin, light))
        if looks.sock is not None and not trousers:
            brush.capsule(0.45 * knee + 0.55 * ankle, ankle, 0.056 * thick, _shade(looks.sock, light))
        brush.capsule(hip, knee, 0.085 * thick, _shade(shin, light))
        if not trousers:
            brush.capsule(hip, 0.22 * hip + 0.78 * knee, 0.112 * thick, _shade(looks.shorts, light))

    def arm(side: str, light: float) -> None:
        shoulder, elbow, hand = (joint[f"{part}_{side}"] for part in ("shoulder", "elbow", "hand"))
        upper = looks.sleeve or (looks.jersey if looks.kind != "player" else looks.skin)
        lower = looks.forearm if looks.forearm is not None and side == "r" else looks.skin
        brush.capsule(shoulder, elbow, 0.054 * thick, _shade(upper, light))
        brush.capsule(elbow, hand, 0.042 * thick, _shade(lower, light))
        brush.ellipse(hand, (0.026 * h, 0.026 * h), 0.0, _shade(looks.skin, light))

    leg(far, 0.82)
    arm(far, 0.84)
    leg(near, 1.0)
    sl, sr, wl, wr = joint["shoulder_l"], joint["shoulder_r"], joint["waist_l"], joint["waist_r"]
    hl, hr = joint["hip_l"], joint["hip_r"]
    brush.capsule(hl, hr, 0.115 * thick, looks.shorts)
    brush.polygon([wl, wr, hr, hl], looks.shorts)
    brush.capsule(sl, sr, 0.075 * thick, looks.jersey)
    brush.polygon([sl, sr, wr, wl], looks.jersey)
    for a, b in ((sl, wl), (sr, wr)):
        brush.capsule(a, b, 0.085 * thick, looks.jersey)
    brush.capsule(0.75 * wl + 0.25 * hl, 0.75 * wr + 0.25 * hr, 0.10 * thick, looks.jersey)
    if h >= 24:
        _decorate(brush, looks, sl, sr, wl, wr, thick)
    if image is not None and h >= 70 and looks.kind == "player" and abs(facing) > 0.35:
        _print_number(image, looks, sl, sr, wl, wr, hl, hr)
    neck, head, crown = joint["neck"], joint["head"], joint["crown"]
    brush.capsule(neck, 0.5 * (neck + head), 0.052 * thick, _shade(looks.skin, 0.92))
    _draw_head(brush, looks, head, crown, h, facing)
    arm(near, 1.0)


def _decorate(brush: _Brush, looks: Looks, sl, sr, wl, wr, thick: float) -> None:
    """Jersey patterns; a referee's stripes are vertical, the old sign of the trade."""
    if looks.pattern == "stripes":
        for k in range(4):
            u = (k + 0.5) / 4
            top, bottom = sl + (sr - sl) * u, wl + (wr - wl) * u
            brush.stroke(top, bottom, 0.12 * float(np.linalg.norm(sr - sl)), _BLACK)
    elif looks.pattern == "sides":
        for a, b in ((sl, wl), (sr, wr)):
            brush.stroke(0.6 * a + 0.4 * b, b, 0.03 * thick, looks.trim)
    elif looks.pattern == "hem":
        brush.stroke(wl, wr, 0.03 * thick, looks.trim)
    elif looks.pattern == "yoke":
        brush.stroke(sl, sr, 0.035 * thick, looks.trim)


def _draw_head(brush: _Brush, looks: Looks, head, crown, h: float, facing: float) -> None:
    radius = 0.058 * h
    if looks.hair_style == "long" and facing < 0.6:
        brush.ellipse(head + np.array([0, 0.02 * h]), (0.058 * h, 0.075 * h), 0.0, looks.hair)
    brush.ellipse(head, (0.050 * h, 0.066 * h), 0.0, looks.skin)
    if looks.hair_style == "bald":
        return
    size = {"short": 1.0, "afro": 1.35, "bun": 1.0, "long": 1.05}[looks.hair_style]
    back = max(0.0, facing)
    top = head + (crown - head) * 0.35
    brush.ellipse(
        top + np.array([0, 0.02 * h * back]),
        (radius * 0.94 * size, radius * (0.72 + 0.42 * back) * size),
        0.0,
        looks.hair,
    )
    if facing < 0.25:
        face = head + np.array([0.0, 0.018 * h])
        brush.paint(
            cv2.ellipse2Poly(
                (round(face[0]), round(face[1])),
                (max(1, round(0.038 * h)), max(1, round(0.042 * h))),
                0,
                0,
                360,
                30,
            ),
            looks.skin,
        )
    if looks.hair_style == "bun":
        brush.ellipse(crown + np.array([0, -0.006 * h]), (0.024 * h, 0.024 * h), 0.0, looks.hair)
    if looks.headband is not None:
        brush.stroke(
            head + np.array([-0.045 * h, -0.02 * h]),
            head + np.array([0.045 * h, -0.02 * h]),
            0.02 * h,
            looks.headband,
        )


def _number_plate(number: str) -> np.ndarray:
    """The number as an alpha plate, uint8 (96, 96), filling it."""
    plate = np.zeros((96, 96), np.uint8)
    scale = 3.1 if len(number) == 1 else 2.15
    thickness = 9 if len(number) == 1 else 7
    (width, height), _ = cv2.getTextSize(number, cv2.FONT_HERSHEY_DUPLEX, scale, thickness)
    origin = ((96 - width) // 2, (96 + height) // 2)
    cv2.putText(plate, number, origin, cv2.FONT_HERSHEY_DUPLEX, scale, 255, thickness, cv2.LINE_AA)
    return plate


def _print_number(image: np.ndarray, looks: Looks, sl, sr, wl, wr, hl, hr) -> None:
    """Warp the number onto the upper torso, foreshortened with it; never mirrored."""
    left, right = (sl, sr) if sl[0] <= sr[0] else (sr, sl)
    low_left, low_right = (wl, wr) if wl[0] <= wr[0] else (wr, wl)
    top = [left * 0.82 + right * 0.18, right * 0.82 + left * 0.18]
    bottom = [low_left * 0.92 + low_right * 0.08, low_right * 0.92 + low_left * 0.08]
    quad = np.float32(
        [
            top[0] * 0.88 + bottom[0] * 0.12,
            top[1] * 0.88 + bottom[1] * 0.12,
            top[1] * 0.06 + bottom[1] * 0.94,
            top[0] * 0.06 + bottom[0] * 0.94,
        ]
    )
    x0, y0 = np.floor(quad.min(0)).astype(int)
    x1, y1 = np.ceil(quad.max(0)).astype(int) + 1
    x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1, image.shape[1]), min(y1, image.shape[0])
    if x1 - x0 < 4 or y1 - y0 < 6:
        return
    corners = np.float32([[0, 0], [96, 0], [96, 96], [0, 96]])
    matrix = cv2.getPerspectiveTransform(corners, quad - np.float32([x0, y0]))
    alpha = cv2.warpPerspective(_number_plate(looks.number), matrix, (x1 - x0, y1 - y0), flags=cv2.INTER_AREA)
    alpha = alpha[..., None].astype(np.float32) / 255
    region = image[y0:y1, x0:x1]
    region[:] = (region * (1 - alpha) + np.float32(looks.trim) * alpha).astype(np.uint8)


def draw_shadow(image: np.ndarray, center, pixels_per_m: float, flatness: float) -> None:
    """Darken a soft ellipse on the floor around ``center`` (pixels)."""
    rx, ry = 0.34 * pixels_per_m, max(1.0, 0.34 * pixels_per_m * flatness)
    x0, x1 = int(max(0, center[0] - rx - 1)), int(min(image.shape[1], center[0] + rx + 2))
    y0, y1 = int(max(0, center[1] - ry - 1)), int(min(image.shape[0], center[1] + ry + 2))
    if x1 <= x0 or y1 <= y0:
        return
    yy, xx = np.mgrid[y0:y1, x0:x1]
    inside = ((xx - center[0]) / rx) ** 2 + ((yy - center[1]) / ry) ** 2
    factor = 1 - 0.38 * np.clip(1.2 - inside, 0, 1)[..., None]
    region = image[y0:y1, x0:x1]
    region[:] = (region * factor).astype(np.uint8)
