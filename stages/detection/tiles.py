"""Detection in tiles of a large picture, for objects that are too small in the whole picture at the detector's size.

The whole picture is looked at too, since it shows the objects that are larger than a tile. Tiles overlap, so an object
that the border of a tile cuts is whole in the next tile, or large enough to be found in the whole picture: its cut box
is dropped, and so is a box that is a part of an object in the whole picture (Akyon et al., Slicing Aided Hyper
Inference, ICIP 2022, arXiv 2202.06934, merge boxes by their overlap alone).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from math import ceil

import numpy as np
import torch
from torchvision.ops import batched_nms

from stages.detection.base import MOST_TILES, Detector, Tiles
from stages.detection.prompts import Prompt
from stages.types import Detections, Image

OVERLAP = 0.15  # of two neighbouring tiles, as a share of a tile's side
LEAST_SCALE = 0.64  # of a tile, with "auto": then 4K has 2 x 2 tiles, and full HD (0.69 as a whole) none
LEAST_SIDE = 32  # pixels of a tile
CUT = 0.03  # of a tile's side: a box that ends within this distance of an inner border is cut by it
PART = 0.7  # a box of a tile with this share of it in a larger box of its prompt is a part of that object
MERGE_IOU = 0.5  # of two boxes of one prompt with a larger IoU, the one with the lower score is dropped


@dataclass(frozen=True, slots=True, eq=False)
class _Tile:
    """A part of the picture with the number ``picture``; ``left`` and ``top`` in pixels of that picture."""

    picture: int
    left: int
    top: int
    image: Image


def choose_grid(detector: Detector, height: int, width: int, tiles: Tiles) -> tuple[int, int]:
    """Rows and columns of the tiles of a picture; (1, 1) where it is looked at as a whole only.

    A number is the most tiles there may be: of the grids with at most so many, it is the one whose tiles the detector
    shrinks least. ``"auto"`` is the least number with which a tile keeps ``LEAST_SCALE`` of its size, at most
    ``MOST_TILES``.
    """
    if tiles == "off":
        return 1, 1
    most = MOST_TILES if tiles == "auto" else tiles
    best, best_scale = (1, 1), detector.scale(height, width)
    for count in range(2, most + 1):
        if tiles == "auto" and best_scale >= LEAST_SCALE:
            break
        for rows in (rows for rows in range(1, count + 1) if count % rows == 0):
            size = _side(height, rows), _side(width, count // rows)
            if min(size) >= LEAST_SIDE and (scale := detector.scale(*size)) > best_scale:
                best, best_scale = (rows, count // rows), scale
    return best


def detect_in_tiles(
    detector: Detector,
    images: Sequence[Image],
    prompts: Sequence[Prompt],
    thresholds: tuple[float, float],
    tiles: Tiles,
    together: int = 1,
) -> list[Detections]:
    """What ``detector.detect`` finds on each of ``images`` and, where they are large, on their tiles; best first.

    ``thresholds``: of boxes and of texts. At most ``together`` tiles of one size are one call of the detector. Raises
    what the detector does.
    """
    found = detector.detect(images, prompts, *thresholds)
    cut = [tile for number, image in enumerate(images) for tile in _tiles(detector, number, image, tiles)]
    if not cut:
        return found
    parts: list[list[Detections]] = [[whole] for whole in found]
    for _, group in groupby(cut, lambda tile: tile.image.shape):  # pictures of several sizes would be padded
        alike = list(group)
        for first in range(0, len(alike), together):
            batch = alike[first : first + together]
            answers = detector.detect([tile.image for tile in batch], prompts, *thresholds)
            for tile, answer in zip(batch, answers, strict=True):
                uncut = _in_picture(answer, tile, images[tile.picture].shape)
                parts[tile.picture].append(_without_parts(uncut, found[tile.picture], tile))
    return [_merge(of_picture) for of_picture in parts]


def _side(whole: int, count: int) -> int:
    """The side in pixels of each of ``count`` tiles in a row that overlap and cover ``whole`` pixels."""
    return ceil(whole / (count - (count - 1) * OVERLAP))


def _tiles(detector: Detector, number: int, image: Image, tiles: Tiles) -> list[_Tile]:
    """The tiles of a picture, all of one size; none where it is looked at as a whole only."""
    height, width = image.shape[:2]
    rows, columns = choose_grid(detector, height, width, tiles)
    if rows == columns == 1:
        return []
    tall, wide = _side(height, rows), _side(width, columns)
    tops = np.linspace(0, height - tall, rows).round().astype(int).tolist()
    lefts = np.linspace(0, width - wide, columns).round().astype(int).tolist()
    return [_Tile(number, left, top, image[top : top + tall, left : left + wide]) for top in tops for left in lefts]


def _in_picture(found: Detections, tile: _Tile, picture: tuple[int, ...]) -> Detections:
    """The detections of a tile that none of its inner borders cuts, with boxes in pixels of the picture."""
    tall, wide = tile.image.shape[:2]
    x, y = CUT * wide, CUT * tall
    none = np.inf  # where the tile ends with the picture
    low = [x if tile.left else -none, y if tile.top else -none]
    high = [
        wide - x if tile.left + wide < picture[1] else none,
        tall - y if tile.top + tall < picture[0] else none,
    ]
    uncut = (found.boxes[:, :2] > low).all(1) & (found.boxes[:, 2:] < high).all(1)
    kept = found.take(np.flatnonzero(uncut).tolist())
    offset = np.array([tile.left, tile.top] * 2, np.float32)
    return Detections(kept.boxes + offset, kept.scores, kept.prompts)


def _without_parts(found: Detections, whole: Detections, tile: _Tile) -> Detections:
    """The detections of a tile that are no parts of those in the ``whole`` picture.

    A box of less than half the overlap is never a part: it may be one of many small objects before a large one.
    """
    sides = found.boxes[:, 2:] - found.boxes[:, :2]
    large = (sides > OVERLAP / 2 * np.array(tile.image.shape[1::-1])).any(1)
    common = np.minimum(found.boxes[:, None, 2:], whole.boxes[None, :, 2:]) - np.maximum(
        found.boxes[:, None, :2], whole.boxes[None, :, :2]
    )
    inside = common.clip(0).prod(2) >= PART * sides.prod(1)[:, None]
    larger = (whole.boxes[:, 2:] - whole.boxes[:, :2]).prod(1)[None] * MERGE_IOU > sides.prod(1)[:, None]
    part = (inside & larger & (found.prompts[:, None] == whole.prompts[None])).any(1)
    return found.take(np.flatnonzero(~(part & large)).tolist())


def _merge(parts: Sequence[Detections]) -> Detections:
    """The detections of a picture and of its tiles, each object once."""
    boxes, scores, prompts = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("boxes", "scores", "prompts")
    )
    arrays = (torch.from_numpy(array) for array in (boxes, scores, prompts))
    best = batched_nms(*arrays, MERGE_IOU).numpy()
    return Detections(boxes[best], scores[best], prompts[best])
