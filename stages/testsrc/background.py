"""Backgrounds of the test source: muted gradients, soft noise and clutter."""

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.types import Image


def draw_background(rng: np.random.Generator, width: int, height: int) -> Image:
    """uint8 (height, width, 3): a muted gradient with soft noise and clutter, less saturated than the shapes."""
    first, second = _muted(rng), _muted(rng)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    blend = np.cos(angle) * (columns / width - 0.5) + np.sin(angle) * (rows / height - 0.5) + 0.5
    canvas = first * (1 - blend[..., None]) + second * blend[..., None]
    cells = int(rng.integers(3, 24))
    coarse = rng.normal(0, rng.uniform(0, 25), (cells, cells, 1)) + rng.normal(0, rng.uniform(0, 8), (cells, cells, 3))
    canvas += cv2.resize(coarse.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    image = np.ascontiguousarray(np.clip(canvas, 0, 255).astype(np.uint8))
    for _ in range(int(rng.integers(0, 12))):
        _clutter(rng, image)
    return image


def _muted(rng: np.random.Generator) -> NDArray[np.float64]:
    colour = rng.uniform(15, 240, 3)
    muted: NDArray[np.float64] = colour.mean() + (colour - colour.mean()) * rng.uniform(0, 0.45)
    return muted


def _clutter(rng: np.random.Generator, image: Image) -> None:
    """Draw one line, box, ellipse or dot in a muted colour."""
    height, width = image.shape[:2]
    colour = tuple(float(c) for c in _muted(rng))
    x, y, other_x, other_y = (int(rng.integers(0, side)) for side in (width, height, width, height))
    largest = max(12, min(width, height) // 3)
    kind = rng.random()
    filled = -1 if rng.random() < 0.6 else 2
    if kind < 0.35:
        cv2.line(image, (x, y), (other_x, other_y), colour, int(rng.integers(1, 6)), cv2.LINE_AA)
    elif kind < 0.6:
        corner = (x + int(rng.integers(8, largest)), y + int(rng.integers(8, largest)))
        cv2.rectangle(image, (x, y), corner, colour, filled)
    elif kind < 0.8:
        axes = (int(rng.integers(4, largest // 2)), int(rng.integers(4, largest // 2)))
        cv2.ellipse(image, (x, y), axes, float(rng.uniform(0, 180)), 0, 360, colour, filled, cv2.LINE_AA)
    else:
        cv2.circle(image, (x, y), int(rng.integers(1, 4)), colour, -1, cv2.LINE_AA)
