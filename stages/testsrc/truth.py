"""Ground truth of a frame of the test source."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stages.types import Image


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """Ground truth of one frame: N objects in drawing order (later ones occlude earlier ones)."""

    ids: NDArray[np.int64]  # (N,)
    labels: tuple[str, ...]
    masks: NDArray[np.bool_]  # (N, H, W) visible pixels
    boxes: NDArray[np.float32]  # (N, 4) xyxy of the visible pixels, zeros when there are none
    visible: NDArray[np.float32]  # (N,) visible share of the shape's area


class World(Protocol):
    """The frames of ``testsrc://shapes``, each a function of the seed and its index, with their ground truth."""

    width: int
    height: int
    fps: float
    labels: tuple[str, ...]  # of the objects in drawing order

    def render(self, index: int) -> tuple[Image, Truth]:
        """Render frame ``index``: uint8 (height, width, 3) RGB, and its ground truth."""

    def truth(self, index: int) -> Truth:
        """The ground truth of frame ``index`` alone."""


def ground_truth(labels: tuple[str, ...], masks: NDArray[np.bool_], areas: NDArray[np.float64]) -> Truth:
    """The truth of a frame with the visible pixels (N, H, W) of shapes whose whole areas in pixels are ``areas``."""
    boxes = np.zeros((len(masks), 4), np.float32)
    for box, mask in zip(boxes, masks, strict=True):
        columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
        if len(columns):
            box[:] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    visible = (masks.sum((1, 2)) / np.maximum(areas, 1)).astype(np.float32)
    return Truth(np.arange(1, len(masks) + 1), labels, masks, boxes, np.minimum(visible, 1))


def polygon_area(polygon: NDArray[np.float64]) -> float:
    """Pixels inside a polygon (K, 2)."""
    x, y = polygon.T
    return float(abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2)
