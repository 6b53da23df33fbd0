"""The wild worlds of the test source: textured objects, look-alikes, a camera that moves, and light that changes.

Each frame is a function of the seed and its index, with exact ground truth: a mask is what the shape covers of the
picture, without what blur, rain and noise add to it or hide of it.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.testsrc.truth import Truth, ground_truth, polygon_area
from stages.testsrc.wild.bodies import WildBody, sample_wild_bodies
from stages.testsrc.wild.camera import sample_camera
from stages.testsrc.wild.coding import GROUP, through_h264
from stages.testsrc.wild.light import Picture, sample_light
from stages.testsrc.wild.patterns import SIDE
from stages.testsrc.wild.scenes import draw_pillar, draw_scene
from stages.types import Image

OBJECTS = 6  # by default
_SUBPIXEL = 4  # fractional bits of OpenCV's polygon coordinates
_MARGIN = 2.6  # sides of the scene in units of the picture's
_SHADOW = 0.4  # how much darker a full shadow is
_HALF = 127  # of a pixel, as coverage


class _Pillar:
    """Something that stands in front of the objects, taller than the picture."""

    def __init__(self, rng: np.random.Generator, view: int, aspect: float) -> None:
        self.view = view  # of the camera, in which it is seen
        x, half, tall = rng.uniform(-0.4, 0.4) * aspect, rng.uniform(0.02, 0.06), 3.0
        self.corners = np.array([[x - half, -tall], [x + half, -tall], [x + half, tall], [x - half, tall]])
        self.surface = draw_pillar(rng, 32, 64)
        self.to_world = np.array([[2 * half / 32, 0, x - half], [0, 2 * tall / 64, -tall]])


class WildWorld:
    """The frames of ``testsrc://shapes?wild=1``; each module beside this one makes a part of them."""

    def __init__(
        self, seed: int = 0, width: int = 640, height: int = 360, objects: int | None = None, fps: float = 30.0
    ) -> None:
        self.width, self.height, self.fps = width, height, fps
        rng = np.random.default_rng([seed, 0x3D])
        aspect = width / height
        views = 2 if rng.random() < 0.25 else 1
        self._camera = sample_camera(rng, aspect, cuts=views == 2)
        self._light = sample_light(rng)
        self._exposure = rng.uniform(0.2, 0.6) / 30 if rng.random() < 0.5 else 0.0  # seconds of motion blur
        self._shadow = rng.uniform(0.02, 0.06, 2) * rng.choice([-1, 1], 2) if rng.random() < 0.6 else None
        self._crf = int(rng.integers(28, 38)) if rng.random() < 0.25 else None
        count = OBJECTS if objects is None else objects
        self.bodies = tuple(sample_wild_bodies(rng, count, aspect, views))
        self.labels = tuple(body.label for body in self.bodies)
        self._pillars = [_Pillar(rng, view, aspect) for view in range(views) for _ in range(int(rng.integers(0, 3)))]
        # last, because it takes more random numbers for a larger picture
        self._scenes = [draw_scene(rng, int(_MARGIN * width), int(_MARGIN * height)) for _ in range(views)]
        self._last_group: tuple[int, list[Image]] = (-1, [])  # number and pictures of what was coded last

    def render(self, index: int) -> tuple[Image, Truth]:
        """Render frame ``index``: uint8 (height, width, 3) RGB, and its ground truth."""
        image = self._paint(index) if self._crf is None else self._coded(index // GROUP)[index % GROUP]
        return image, self.truth(index)

    def truth(self, index: int) -> Truth:
        """The ground truth of frame ``index`` alone, which is much faster to make than the picture."""
        seconds = index / self.fps
        view, to_picture = self._camera.view(seconds), self._camera.matrix(seconds, self.width, self.height)
        masks = np.zeros((len(self.bodies), self.height, self.width), bool)
        areas = np.ones(len(self.bodies))
        for number, body in enumerate(self.bodies):
            corners = _apply(_after(to_picture, body.pose(seconds)), body.outline)
            areas[number] = polygon_area(corners)
            if body.view == view:
                masks[number] = _coverage(corners, self.width, self.height) > _HALF
                masks[:number] &= ~masks[number]
        for pillar in self._pillars:
            if pillar.view == view:
                masks &= _coverage(_apply(to_picture, pillar.corners), self.width, self.height) <= _HALF
        return ground_truth(self.labels, masks, areas)

    def _coded(self, group: int) -> list[Image]:
        """The frames of a group of pictures that are coded together; the last group is kept."""
        assert self._crf is not None
        if self._last_group[0] != group:
            painted = [self._paint(index) for index in range(group * GROUP, (group + 1) * GROUP)]
            self._last_group = group, through_h264(painted, self._crf)
        return self._last_group[1]

    def _paint(self, index: int) -> Image:
        """Frame ``index`` before it is coded."""
        seconds = index / self.fps
        view = self._camera.view(seconds)
        to_picture = self._camera.matrix(seconds, self.width, self.height)
        later = self._camera.matrix(seconds + self._exposure, self.width, self.height)
        canvas = self._scene(view, to_picture, later)
        for body in self.bodies:
            if body.view == view:
                pose = _after(to_picture, body.pose(seconds))
                moved = _after(later, body.pose(seconds + self._exposure))[:, 2] - pose[:, 2]
                self._paint_body(canvas, body, pose, moved)
        for pillar in self._pillars:
            if pillar.view == view:
                covered = _coverage(_apply(to_picture, pillar.corners), self.width, self.height)
                paint = _stretched(pillar.surface, _after(to_picture, pillar.to_world), self.width, self.height)
                canvas += (paint - canvas) * (covered.astype(np.float32) / np.float32(255))[..., None]
        self._light.shine(canvas, seconds)
        self._light.wet(canvas, index)
        image: Image = np.clip(canvas, 0, 255).astype(np.uint8)
        return image

    def _scene(self, view: int, to_picture: NDArray[np.float64], later: NDArray[np.float64]) -> Picture:
        """The background as the camera sees it, blurred by the camera's motion."""
        scene = self._scenes[view]
        to_world = np.array([[1, 0, -scene.shape[1] / 2], [0, 1, -scene.shape[0] / 2]]) / self.height
        seen = cv2.warpAffine(
            scene,
            _after(to_picture, to_world),
            (self.width, self.height),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REFLECT,
        ).astype(np.float32)
        return _blurred(seen, (later - to_picture)[:, 2])

    def _paint_body(
        self, canvas: Picture, body: WildBody, pose: NDArray[np.float64], moved: NDArray[np.float64]
    ) -> None:
        """Blend the body and its shadow into the canvas; it moves by ``moved`` (2,) pixels during the exposure."""
        corners = _apply(pose, body.outline)
        offset = np.zeros(2) if self._shadow is None else self._shadow * self.height
        reach = np.abs(offset) + np.abs(moved) + 3
        low = np.maximum(np.floor(corners.min(0) - reach).astype(int), 0)
        high = np.minimum(np.ceil(corners.max(0) + reach).astype(int) + 1, (self.width, self.height))
        if (low >= high).any():
            return
        patch = canvas[low[1] : high[1], low[0] : high[0]]
        width, height = (int(side) for side in high - low)
        if self._shadow is not None:
            shadow = _coverage(corners - low + offset, width, height).astype(np.float32)
            soft = cv2.GaussianBlur(shadow, (0, 0), 1 + 0.01 * self.height)
            patch *= 1 - soft[..., None] * np.float32(_SHADOW / 255)
        span = np.ptp(body.outline, axis=0) / SIDE
        to_outline = np.array([[span[0], 0, body.outline[:, 0].min()], [0, span[1], body.outline[:, 1].min()]])
        paint = _stretched(
            body.texture, _after(pose, to_outline) - np.column_stack([0 * pose[:, :2], low]), width, height
        )
        covered: Picture = (_coverage(corners - low, width, height) / 255).astype(np.float32)
        patch += (paint - patch) * _blurred(covered, moved)[..., None]


def _after(second: NDArray[np.float64], first: NDArray[np.float64]) -> NDArray[np.float64]:
    """The affine map (2, 3) that applies ``first``, then ``second``."""
    return np.column_stack([second[:, :2] @ first[:, :2], second[:, :2] @ first[:, 2] + second[:, 2]])


def _apply(matrix: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points (K, 2) mapped by an affine map (2, 3)."""
    mapped: NDArray[np.float64] = points @ matrix[:, :2].T + matrix[:, 2]
    return mapped


def _stretched(
    surface: NDArray[np.float32], matrix: NDArray[np.float64], width: int, height: int
) -> NDArray[np.float32]:
    """The surface mapped by ``matrix`` (2, 3) into a picture of this size; its edge goes on beyond it."""
    mapped = cv2.warpAffine(surface, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    result: NDArray[np.float32] = mapped.astype(np.float32, copy=False)
    return result


def _coverage(corners: NDArray[np.float64], width: int, height: int) -> NDArray[np.uint8]:
    """(height, width): how much of each pixel a polygon covers, 0 to 255."""
    coverage = np.zeros((height, width), np.uint8)
    fixed = np.round(corners * (1 << _SUBPIXEL)).astype(np.int32)
    cv2.fillPoly(coverage, [fixed], 255, cv2.LINE_AA, _SUBPIXEL)
    return coverage


def _blurred(picture: Picture, moved: NDArray[np.float64]) -> Picture:
    """Blur along the motion ``moved`` (2,), in pixels, during the exposure."""
    length = float(np.hypot(*moved))
    if length < 1.5:
        return picture
    length = min(length, 31.0)
    side = 2 * int(np.ceil(length / 2)) + 1
    kernel = np.zeros((side, side), np.float32)
    middle, half = side // 2, moved / np.hypot(*moved) * length / 2
    scale = 1 << _SUBPIXEL
    first, last = ((middle + sign * half) * scale for sign in (-1, 1))
    ends = [tuple(int(value) for value in np.round(end)) for end in (first, last)]
    cv2.line(kernel, ends[0], ends[1], 1.0, 1, cv2.LINE_8, _SUBPIXEL)
    blurred: Picture = cv2.filter2D(picture, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE)
    return blurred
