"""Surfaces of the wild worlds' objects: patterns of two colours and soft shading.

The second colour is white, black, grey or another shade of the first, and covers less of the surface, so that the name
of an object, its first colour and its shape, stays true.
"""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float64]  # (SIDE, SIDE): share of the second colour

SIDE = 64  # pixels of a texture
_Y, _X = np.mgrid[:SIDE, :SIDE] / SIDE - 0.5 + 0.5 / SIDE


def _where(flags: NDArray[np.bool_]) -> Plane:
    return flags.astype(np.float64)


def _stripes(rng: np.random.Generator) -> Plane:
    angle, count = rng.uniform(0, np.pi), rng.uniform(2.5, 6)
    along = _X * np.cos(angle) + _Y * np.sin(angle)
    return _where((along * count + rng.random()) % 1 < rng.uniform(0.28, 0.4))


def _dots(rng: np.random.Generator) -> Plane:
    count, radius = rng.uniform(3, 6), rng.uniform(0.25, 0.36)
    x, y = (_X * count + rng.random()) % 1 - 0.5, (_Y * count + rng.random()) % 1 - 0.5
    return _where(np.hypot(x, y) < radius)


def _checks(rng: np.random.Generator) -> Plane:
    count = int(rng.integers(3, 6))
    even = _where((np.floor((_X + 0.5) * count) + np.floor((_Y + 0.5) * count)) % 2 == 0)
    return even * float(rng.uniform(0.55, 0.8))


def _ring(rng: np.random.Generator) -> Plane:
    radius, width = rng.uniform(0.16, 0.3), rng.uniform(0.05, 0.09)
    return _where(np.abs(np.hypot(_X, _Y) - radius) < width)


def _cross(rng: np.random.Generator) -> Plane:
    angle, width = rng.uniform(0, np.pi / 2), rng.uniform(0.05, 0.1)
    x, y = _X * np.cos(angle) + _Y * np.sin(angle), _Y * np.cos(angle) - _X * np.sin(angle)
    return _where((np.abs(x) < width) | (np.abs(y) < width))


def _half(rng: np.random.Generator) -> Plane:
    angle = rng.uniform(0, 2 * np.pi)
    return _where(_X * np.cos(angle) + _Y * np.sin(angle) > rng.uniform(0.06, 0.16))


def _grain(rng: np.random.Generator) -> Plane:
    cells = rng.uniform(-1, 1, (int(rng.integers(4, 7)), int(rng.integers(8, 20))))
    return _where(cv2.resize(cells, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC) > 0.25)


PATTERNS: tuple[Callable[[np.random.Generator], Plane], ...] = (_stripes, _dots, _checks, _ring, _cross, _half, _grain)


def second_colour(rng: np.random.Generator, colour: NDArray[np.float64]) -> NDArray[np.float64]:
    """A neutral colour, or a much darker or lighter shade of ``colour``, (3,) RGB."""
    kind = int(rng.integers(5))
    neutral = (rng.uniform(215, 245), rng.uniform(15, 45), rng.uniform(100, 150))
    if kind < 3:
        return np.full(3, neutral[kind])
    shade: NDArray[np.float64] = colour * 0.4 if kind == 3 else colour + (255 - colour) * 0.6
    return shade


def draw_texture(
    rng: np.random.Generator, colour: NDArray[np.float64], second: NDArray[np.float64], pattern: int | None
) -> NDArray[np.float32]:
    """A texture (SIDE, SIDE, 3) RGB with pattern number ``pattern``, or with none, and soft shading."""
    sharp = np.zeros((SIDE, SIDE)) if pattern is None else PATTERNS[pattern](rng)
    share = cv2.GaussianBlur(sharp, (0, 0), 0.8)[..., None]
    painted = colour * (1 - share) + second * share
    light = rng.uniform(0, 2 * np.pi)
    brightness = 1 - rng.uniform(0, 0.45) * (_X * np.cos(light) + _Y * np.sin(light))
    brightness -= rng.uniform(0, 0.9) * np.maximum(np.hypot(_X, _Y) - 0.25, 0) ** 1.5
    brightness += 0.06 * cv2.resize(rng.uniform(-1, 1, (9, 9)), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    texture: NDArray[np.float32] = np.clip(painted * brightness[..., None], 0, 255).astype(np.float32)
    return texture
