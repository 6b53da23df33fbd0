"""The test source's world: coloured shapes that move over clutter, occlude each other, leave and return.

Every frame is a function of the seed and its index, so frames can be rendered in any order, with exact ground truth.
Positions are in units of the image's width and height, sizes in units of its short side, speeds per second.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.errors import ConfigError
from stages.plural import plural
from stages.testsrc.background import draw_background
from stages.testsrc.bodies import Body, sample_bodies
from stages.testsrc.hard import MIN_BODIES, sample_hard_bodies
from stages.testsrc.truth import Truth, ground_truth, polygon_area
from stages.types import Image

_SUBPIXEL = 4  # fractional bits of OpenCV's polygon coordinates


class ShapesWorld:
    """The frames of ``testsrc://shapes``.

    Most of the ``objects`` bodies bounce inside the image, one in three leaves it for 0.7 to 2.5 seconds and returns,
    and in about half of the worlds two look-alikes cross. ``hard`` worlds have 8 bodies or more, with crossing
    look-alikes, occlusions and long absences (see `stages.testsrc.hard`).
    """

    def __init__(
        self,
        seed: int = 0,
        width: int = 256,
        height: int = 256,
        objects: int | None = None,
        fps: float = 30.0,
        hard: bool = False,
    ) -> None:
        """``objects`` defaults to 4, or to 8 if ``hard``. Raises ConfigError for a hard world of fewer than 8."""
        count = (MIN_BODIES if hard else 4) if objects is None else objects
        if hard and count < MIN_BODIES:
            few = f"{count} {plural(count, 'object')}"
            raise ConfigError(f"a hard test source of {few}: give objects={MIN_BODIES} or more, or leave it out")
        self.width, self.height, self.fps = width, height, fps
        rng = np.random.default_rng([seed, 0x5A])
        self._background = draw_background(rng, width + width // 4, height + height // 4)
        self._pan = (rng.uniform(4, 12), rng.uniform(0, 6.28)) if rng.random() < 0.4 else None
        sigma = rng.uniform(1, 6) if rng.random() < 0.6 else 0.0
        self._noise = rng.normal(0, 1, (height + 64, width + 64, 1)).astype(np.float32) * sigma
        self._noise_seed = int(rng.integers(1 << 30))
        self.bodies = tuple(sample_hard_bodies(rng, count) if hard else sample_bodies(rng, count))
        self.labels = tuple(body.label for body in self.bodies)

    def render(self, index: int) -> tuple[Image, Truth]:
        """Render frame ``index``: uint8 (height, width, 3) RGB, and its ground truth."""
        seconds = index / self.fps
        canvas = self._background_at(seconds).astype(np.float32)
        masks: list[NDArray[np.bool_]] = []
        areas: list[float] = []
        for body in self.bodies:
            polygon = body.polygon(seconds, self.width, self.height)
            alpha = self._draw(canvas, body, polygon)
            for mask in masks:
                mask &= ~alpha
            masks.append(alpha)
            areas.append(max(polygon_area(polygon), 1.0))
        if self._noise.any():
            x, y = np.random.default_rng([self._noise_seed, index]).integers(0, 64, 2)
            canvas += self._noise[y : y + self.height, x : x + self.width]
        image = np.clip(canvas, 0, 255).astype(np.uint8)
        stacked = np.stack(masks) if masks else np.zeros((0, self.height, self.width), bool)
        return image, ground_truth(self.labels, stacked, np.array(areas))

    def truth(self, index: int) -> Truth:
        """The ground truth of frame ``index`` alone."""
        return self.render(index)[1]

    def _background_at(self, seconds: float) -> Image:
        """The part of the background that is visible at that time; it moves where the camera pans."""
        margin = np.array([self._background.shape[1] - self.width, self._background.shape[0] - self.height])
        offset = np.array([0.5, 0.5])
        if self._pan:
            period, phase = self._pan
            angle = 2 * np.pi * seconds / period + phase
            offset += 0.5 * np.array([np.sin(angle), np.cos(angle)])
        x, y = np.floor(offset * margin).astype(int)
        return self._background[y : y + self.height, x : x + self.width]

    def _draw(self, canvas: NDArray[np.float32], body: Body, polygon: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Blend the body into the canvas; returns its mask: the pixels that it covers by half or more."""
        mask = np.zeros((self.height, self.width), bool)
        low = np.maximum(np.floor(polygon.min(0)).astype(int) - 1, 0)
        high = np.minimum(np.ceil(polygon.max(0)).astype(int) + 2, (self.width, self.height))
        if (low >= high).any():
            return mask
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
        mask[low[1] : high[1], low[0] : high[0]] = coverage > 127
        return mask


def _paint(body: Body, polygon: NDArray[np.float64], size: NDArray[np.int64]) -> NDArray[np.float32]:
    """The body's texture, (size[1], size[0], 3), stretched over the bounds of ``polygon``."""
    low, high = polygon.min(0), polygon.max(0)
    scale = (high - low) / (body.texture.shape[1], body.texture.shape[0])
    to_patch = np.array([[scale[0], 0, low[0]], [0, scale[1], low[1]]], np.float64)
    target = (int(size[0]), int(size[1]))
    painted = cv2.warpAffine(body.texture, to_patch, target, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    result: NDArray[np.float32] = painted.astype(np.float32, copy=False)
    return result
