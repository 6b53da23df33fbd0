"""Motion in small pictures: scene cuts, and what moves by itself while the camera moves, too."""

from collections.abc import Iterator
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.types import GRID, Frame, Image, Motion

WIDTH, HEIGHT = 10 * GRID, 6 * GRID  # pixels of a small picture: a cell of the grid is 10 x 6
STEP = 3  # frames from one look at motion to the next: less time, and slow objects have moved by more
CHANGED = 12  # grey levels by which a pixel changes at least where something moves
MOVING_SHARE = 0.2  # share of a cell's pixels that change at least where something moves
CAMERA_SHARE = 0.3  # share of the cells that move at least when it may be the camera
ALIKE = 0.5  # least correlation of two pictures of one scene
CORNERS, QUALITY, APART = 60, 0.02, 8  # of the points that tell the camera's motion: number, Shi-Tomasi score, pixels


def watched(frames: Iterator[Frame]) -> Iterator[Frame]:
    """The frames of one connection, each with its motion. A picture of another size begins a new epoch."""
    watch, shape = MotionWatch(), None
    for frame in frames:
        if frame.image.shape != shape:
            watch, shape = MotionWatch(), frame.image.shape
        yield replace(frame, motion=watch.look(frame.image))


class MotionWatch:
    """Looks at the frames of one epoch, in order. It keeps two small pictures; no thread may share it.

    A cut is where two pictures in a row do not correlate. The camera's motion is a similarity (shift, turn, zoom) that
    most of the corners follow from the one picture to the other (Lucas-Kanade flow, RANSAC); it is sought only where a
    large share of the picture moves, so that a camera that stands still costs a difference of two small pictures.
    """

    def __init__(self) -> None:
        self._last: NDArray[np.uint8] | None = None  # the frame before
        self._compared: NDArray[np.uint8] | None = None  # the frame that motion is measured from
        self._age = 0  # frames since then

    def look(self, image: Image) -> Motion:
        """What has changed on the next frame, RGB (H, W, 3) of any size. The first frame shows no motion."""
        small = _small(image)
        last, self._last = self._last, small
        if last is None or self._compared is None or not _alike(last, small):
            self._compared, self._age = small, 0
            return Motion(last is not None, None)
        self._age += 1
        if self._age < STEP:
            return Motion(False, None)
        moving = _moving(self._compared, small)
        self._compared, self._age = small, 0
        return Motion(False, moving)


def _small(image: Image) -> NDArray[np.uint8]:
    """The green of a picture, (HEIGHT, WIDTH)."""
    rows, columns = (max(1, side // (2 * least)) for side, least in zip(image.shape, (HEIGHT, WIDTH), strict=False))
    thinned = np.ascontiguousarray(image[::rows, ::columns, 1])
    return np.asarray(cv2.resize(thinned, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA), np.uint8)


def _alike(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> bool:
    """Whether two pictures in a row can be of one scene, however its light changes; pictures of nothing can."""
    a, b = (
        cv2.resize(each, (WIDTH // 4, HEIGHT // 4), interpolation=cv2.INTER_AREA).astype(np.float32)
        for each in (first, second)
    )
    a, b = a - a.mean(), b - b.mean()
    flat = min(float(a.std()), float(b.std())) < 3
    return flat or float((a * b).mean()) >= ALIKE * float(a.std()) * float(b.std())


def _moving(before: NDArray[np.uint8], now: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """The cells (GRID, GRID) in which something moves against the rest of the picture."""
    light = float(now.mean()) / max(1.0, float(before.mean()))
    before = np.asarray(cv2.convertScaleAbs(before, alpha=light), np.uint8)  # a flicker is no motion
    cells = _changed(before, now)
    if cells.mean() < CAMERA_SHARE:
        return cells
    motion = _camera(before, now)
    if motion is None:
        return np.zeros_like(cells)  # nothing can be told from what changes everywhere
    moved = cv2.warpAffine(
        before, motion, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_TRANSPARENT, dst=now.copy()
    )
    cells = _changed(np.asarray(moved, np.uint8), now)
    return cells if cells.mean() < CAMERA_SHARE else np.zeros_like(cells)


def _changed(before: NDArray[np.uint8], now: NDArray[np.uint8]) -> NDArray[np.bool_]:
    changed = cv2.absdiff(cv2.blur(before, (3, 3)), cv2.blur(now, (3, 3))) > CHANGED
    shares = changed.reshape(GRID, HEIGHT // GRID, GRID, WIDTH // GRID).mean((1, 3))
    return np.asarray(shares >= MOVING_SHARE)


def _camera(before: NDArray[np.uint8], now: NDArray[np.uint8]) -> NDArray[np.float64] | None:
    """The camera's motion (2, 3) from one picture to the other; None where too few corners can be followed."""
    corners = cv2.goodFeaturesToTrack(before, CORNERS, QUALITY, APART)
    if corners is None or len(corners) < 8:
        return None
    found, status, _ = cv2.calcOpticalFlowPyrLK(before, now, corners, None, winSize=(11, 11), maxLevel=2)
    kept = status[:, 0] == 1
    if kept.sum() < 8:
        return None
    motion, _ = cv2.estimateAffinePartial2D(corners[kept], found[kept], method=cv2.RANSAC, ransacReprojThreshold=1.0)
    return None if motion is None else np.asarray(motion, np.float64)
