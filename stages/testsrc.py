"""The built-in world: coloured shapes that move over clutter, hide each other, leave and return.

Everything is a function of the seed and the frame's index, so any frame can be drawn at any time and the ground
truth is exact. Positions are in units of the picture's sides, sizes in units of its short side, speeds per second.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.types import Image

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (215, 35, 35),
    "green": (40, 170, 60),
    "blue": (40, 70, 220),
    "yellow": (235, 215, 40),
    "purple": (150, 50, 180),
    "orange": (240, 130, 25),
}
SHAPES = ("circle", "square", "triangle", "star")
LABELS = tuple(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES)

_SUBPIXEL = 4  # fractional bits of OpenCV's polygon coordinates


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """What is really on one frame; N objects, in drawing order (later ones hide earlier ones)."""

    ids: NDArray[np.int64]  # (N,)
    labels: tuple[str, ...]
    masks: NDArray[np.bool_]  # (N, H, W) visible pixels
    boxes: NDArray[np.float32]  # (N, 4) xyxy of the visible pixels, zeros when there are none
    visible: NDArray[np.float32]  # (N,) visible pixels over the whole shape's pixels


@dataclass(frozen=True, slots=True, eq=False)
class _Body:
    """One object: what it looks like and how it moves."""

    label: str
    outline: NDArray[np.float64]  # (K, 2), the larger side is 1
    texture: NDArray[np.float32]  # (P, P, 3) RGB
    edge: int  # width of a darker outline at 256 px, 0 for none
    size: float
    pulse: tuple[float, float]  # amplitude, period of the change in size
    start: NDArray[np.float64]  # (2,)
    speed: NDArray[np.float64]  # (2,)
    low: NDArray[np.float64]  # (2,) where it turns round
    high: NDArray[np.float64]  # (2,)
    swing: tuple[float, float, float]  # amplitude in radians, period, phase

    def position(self, seconds: float) -> NDArray[np.float64]:
        """The centre: straight lines, reflected at ``low`` and ``high``."""
        span = self.high - self.low
        travelled = (self.start - self.low + self.speed * seconds) % (2 * span)
        return self.low + np.where(travelled > span, 2 * span - travelled, travelled)

    def polygon(self, seconds: float, width: int, height: int) -> NDArray[np.float64]:
        """(K, 2) corners in pixels."""
        amplitude, period, phase = self.swing
        angle = amplitude * np.sin(2 * np.pi * seconds / period + phase)
        cos, sin = np.cos(angle), np.sin(angle)
        scale = self.size * min(width, height) * (1 + self.pulse[0] * np.sin(2 * np.pi * seconds / self.pulse[1]))
        turned: NDArray[np.float64] = self.outline @ np.array([[cos, sin], [-sin, cos]]) * scale
        return turned + self.position(seconds) * (width, height)


class ShapesWorld:
    """``testsrc://shapes``.

    A world of ``objects`` bodies: most bounce inside the picture, one in three leaves it for 0.7 to 2.5 seconds and
    comes back, and in about half of the worlds two look-alikes cross each other's way.
    """

    def __init__(self, seed: int = 0, width: int = 256, height: int = 256, objects: int = 4, fps: float = 30.0) -> None:
        self.width, self.height, self.fps = width, height, fps
        rng = np.random.default_rng([seed, 0x5A])
        self._background = _background(rng, width + width // 4, height + height // 4)
        self._pan = (rng.uniform(4, 12), rng.uniform(0, 6.28)) if rng.random() < 0.4 else None
        sigma = rng.uniform(1, 6) if rng.random() < 0.6 else 0.0
        self._noise = rng.normal(0, 1, (height + 64, width + 64, 1)).astype(np.float32) * sigma
        self._noise_seed = int(rng.integers(1 << 30))
        self._bodies = _bodies(rng, objects)
        self.labels = tuple(body.label for body in self._bodies)

    def render(self, index: int) -> tuple[Image, Truth]:
        """Draw frame ``index``: uint8 (height, width, 3) RGB, and its ground truth."""
        seconds = index / self.fps
        canvas = self._backdrop(seconds).astype(np.float32)
        masks: list[NDArray[np.bool_]] = []
        areas: list[float] = []
        for body in self._bodies:
            polygon = body.polygon(seconds, self.width, self.height)
            alpha = self._draw(canvas, body, polygon)
            for mask in masks:
                mask &= ~alpha
            masks.append(alpha)
            areas.append(max(_polygon_area(polygon), 1.0))
        if self._noise.any():
            x, y = np.random.default_rng([self._noise_seed, index]).integers(0, 64, 2)
            canvas += self._noise[y : y + self.height, x : x + self.width]
        image = np.clip(canvas, 0, 255).astype(np.uint8)
        stacked = np.stack(masks) if masks else np.zeros((0, self.height, self.width), bool)
        return image, self._truth(stacked, areas)

    def _truth(self, masks: NDArray[np.bool_], areas: list[float]) -> Truth:
        boxes = np.zeros((len(masks), 4), np.float32)
        for box, mask in zip(boxes, masks, strict=True):
            columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
            if len(columns):
                box[:] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
        visible = (masks.sum((1, 2)) / np.maximum(areas, 1)).astype(np.float32)
        return Truth(np.arange(1, len(masks) + 1), self.labels, masks, boxes, np.minimum(visible, 1))

    def _backdrop(self, seconds: float) -> Image:
        spare = np.array([self._background.shape[1] - self.width, self._background.shape[0] - self.height])
        place = np.array([0.5, 0.5])
        if self._pan:
            period, phase = self._pan
            turn = 2 * np.pi * seconds / period + phase
            place += 0.5 * np.array([np.sin(turn), np.cos(turn)])
        x, y = np.floor(place * spare).astype(int)
        return self._background[y : y + self.height, x : x + self.width]

    def _draw(self, canvas: NDArray[np.float32], body: _Body, polygon: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Blend the body into the canvas; the pixels it covers by half or more."""
        whole = np.zeros((self.height, self.width), bool)
        low = np.maximum(np.floor(polygon.min(0)).astype(int) - 1, 0)
        high = np.minimum(np.ceil(polygon.max(0)).astype(int) + 2, (self.width, self.height))
        if (low >= high).any():
            return whole
        size = high - low
        corners = np.round((polygon - low) * (1 << _SUBPIXEL)).astype(np.int32)
        coverage = np.zeros((size[1], size[0]), np.uint8)
        cv2.fillPoly(coverage, [corners], 255, cv2.LINE_AA, _SUBPIXEL)
        paint = _paint(body, polygon - low, size)
        if body.edge:
            thickness = max(1, round(body.edge * min(self.width, self.height) / 256))
            cv2.polylines(paint, [corners], True, (0, 0, 0), thickness, cv2.LINE_AA, _SUBPIXEL)
        alpha = coverage[..., None].astype(np.float32) / 255
        patch = canvas[low[1] : high[1], low[0] : high[0]]
        patch += (paint - patch) * alpha
        whole[low[1] : high[1], low[0] : high[0]] = coverage > 127
        return whole


def _paint(body: _Body, polygon: NDArray[np.float64], size: NDArray[np.int64]) -> NDArray[np.float32]:
    """The texture, laid over the polygon's own bounds."""
    low, high = polygon.min(0), polygon.max(0)
    scale = (high - low) / (body.texture.shape[1], body.texture.shape[0])
    to_patch = np.array([[scale[0], 0, low[0]], [0, scale[1], low[1]]], np.float64)
    target = (int(size[0]), int(size[1]))
    painted = cv2.warpAffine(body.texture, to_patch, target, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    result: NDArray[np.float32] = painted.astype(np.float32, copy=False)
    return result


def _polygon_area(polygon: NDArray[np.float64]) -> float:
    x, y = polygon.T
    return float(abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2)


def _bodies(rng: np.random.Generator, count: int) -> list[_Body]:
    bodies: list[_Body] = []
    for number in range(count):
        taken = np.array([body.start for body in bodies]).reshape(-1, 2)
        bodies.append(_body(rng, str(rng.choice(LABELS)), _free_place(rng, taken), leaves=number % 3 == 2))
    if count >= 2 and rng.random() < 0.5:
        bodies[1] = _look_alike(rng, bodies[0])
    return [bodies[i] for i in rng.permutation(count)]


def _free_place(rng: np.random.Generator, taken: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of four random places, the one farthest from those taken."""
    places = rng.uniform(0.18, 0.82, (4, 2))
    nearest = np.linalg.norm(places[:, None] - taken[None], axis=2).min(1, initial=9.0)
    free: NDArray[np.float64] = places[nearest.argmax()]
    return free


def _body(rng: np.random.Generator, label: str, start: NDArray[np.float64], leaves: bool) -> _Body:
    colour, shape = label.split()
    low, high = np.full(2, 0.12), np.full(2, 0.88)
    heading = rng.uniform(0, 2 * np.pi)
    speed = rng.uniform(0.06, 0.4) * np.array([np.cos(heading), np.sin(heading)])
    size = float(np.exp(rng.uniform(np.log(0.17), np.log(0.36))))
    if leaves:
        axis = int(rng.integers(2))
        pace = rng.uniform(0.15, 0.4)
        beyond = size * 0.6 + pace * rng.uniform(0.7, 2.5) / 2
        speed[axis] = pace if rng.random() < 0.5 else -pace
        if speed[axis] > 0:
            high[axis] = 1 + beyond
        else:
            low[axis] = -beyond
    return _Body(
        label=label,
        outline=_outline(rng, shape),
        texture=_texture(rng, COLOURS[colour]),
        edge=int(rng.integers(1, 4)) if rng.random() < 0.3 else 0,
        size=size,
        pulse=(rng.uniform(0, 0.12), rng.uniform(3, 8)),
        start=start,
        speed=speed,
        low=low,
        high=high,
        swing=(rng.uniform(0, 0.35), rng.uniform(2, 6), rng.uniform(0, 6.28)),
    )


def _look_alike(rng: np.random.Generator, other: _Body) -> _Body:
    """A second object of the same name that comes the other way on nearly the same lane."""
    start = np.array([1 - other.start[0], np.clip(other.start[1] + rng.uniform(-0.1, 0.1), 0.15, 0.85)])
    speed = np.array([-other.speed[0], other.speed[1]])
    twin = _body(rng, other.label, start, leaves=False)
    return replace(twin, size=other.size * rng.uniform(0.85, 1.15), speed=speed)


def _outline(rng: np.random.Generator, shape: str) -> NDArray[np.float64]:
    """(K, 2) corners around the origin, the larger side of the bounds is 1."""
    if shape == "circle":
        angles, radii = np.linspace(0, 2 * np.pi, 48, endpoint=False), np.ones(48)
    elif shape == "square":
        angles, radii = np.pi / 4 + np.arange(4) * np.pi / 2, np.ones(4)
    elif shape == "triangle":
        angles, radii = -np.pi / 2 + np.arange(3) * 2 * np.pi / 3, np.ones(3)
    else:
        angles, radii = -np.pi / 2 + np.arange(10) * np.pi / 5, np.where(np.arange(10) % 2, rng.uniform(0.42, 0.5), 1.0)
    corners = np.stack([radii * np.cos(angles), radii * np.sin(angles)], 1)
    extent = corners.max(0) - corners.min(0)
    centred: NDArray[np.float64] = (corners - (corners.max(0) + corners.min(0)) / 2) / extent.max()
    return centred


def _texture(rng: np.random.Generator, colour: tuple[int, int, int], side: int = 48) -> NDArray[np.float32]:
    """(side, side, 3) of the colour with plain, shaded, striped or mottled brightness."""
    base = np.clip(np.array(colour) * rng.uniform(0.85, 1.1) + rng.normal(0, 6, 3), 0, 255)
    rows, columns = np.mgrid[:side, :side] / side
    angle, kind = rng.uniform(0, np.pi), int(rng.integers(4))
    along = columns * np.cos(angle) + rows * np.sin(angle)
    brightness = np.ones((side, side))
    if kind == 1:
        brightness += 0.2 * (along - along.mean())
    elif kind == 2:
        brightness += 0.12 * np.sin(along * rng.uniform(12, 30))
    elif kind == 3:
        brightness += 0.1 * cv2.resize(rng.uniform(-1, 1, (5, 5)), (side, side), interpolation=cv2.INTER_CUBIC)
    painted: NDArray[np.float32] = np.clip(base * brightness[..., None], 0, 255).astype(np.float32)
    return painted


def _background(rng: np.random.Generator, width: int, height: int) -> Image:
    """A muted gradient with soft noise and clutter, none of it as saturated as the shapes."""
    first, second = _muted(rng), _muted(rng)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    blend = np.cos(angle) * (columns / width - 0.5) + np.sin(angle) * (rows / height - 0.5) + 0.5
    canvas = first * (1 - blend[..., None]) + second * blend[..., None]
    cells = int(rng.integers(3, 24))
    coarse = rng.normal(0, rng.uniform(0, 25), (cells, cells, 1)) + rng.normal(0, rng.uniform(0, 8), (cells, cells, 3))
    canvas += cv2.resize(coarse.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    picture = np.ascontiguousarray(np.clip(canvas, 0, 255).astype(np.uint8))
    for _ in range(int(rng.integers(0, 12))):
        _clutter(rng, picture)
    return picture


def _muted(rng: np.random.Generator) -> NDArray[np.float64]:
    colour = rng.uniform(15, 240, 3)
    muted: NDArray[np.float64] = colour.mean() + (colour - colour.mean()) * rng.uniform(0, 0.45)
    return muted


def _clutter(rng: np.random.Generator, picture: Image) -> None:
    """Draw one line, box, ellipse or speck of a muted colour."""
    height, width = picture.shape[:2]
    colour = tuple(float(c) for c in _muted(rng))
    x, y, other_x, other_y = (int(rng.integers(0, side)) for side in (width, height, width, height))
    largest = max(12, min(width, height) // 3)
    kind = rng.random()
    filled = -1 if rng.random() < 0.6 else 2
    if kind < 0.35:
        cv2.line(picture, (x, y), (other_x, other_y), colour, int(rng.integers(1, 6)), cv2.LINE_AA)
    elif kind < 0.6:
        corner = (x + int(rng.integers(8, largest)), y + int(rng.integers(8, largest)))
        cv2.rectangle(picture, (x, y), corner, colour, filled)
    elif kind < 0.8:
        axes = (int(rng.integers(4, largest // 2)), int(rng.integers(4, largest // 2)))
        cv2.ellipse(picture, (x, y), axes, float(rng.uniform(0, 180)), 0, 360, colour, filled, cv2.LINE_AA)
    else:
        cv2.circle(picture, (x, y), int(rng.integers(1, 4)), colour, -1, cv2.LINE_AA)
