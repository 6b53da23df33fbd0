"""The masks of a picture, each inside its box: from the decoder's logits to pixels."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, floor, gcd

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.types import Result


@dataclass(frozen=True, slots=True, eq=False)
class Masks:
    """N masks of one picture of ``size`` (height, width). Of each, the smallest box that holds its pixels is kept."""

    size: tuple[int, int]
    boxes: NDArray[np.int64]  # (N, 4) xyxy in pixels, half-open; zeros for an empty mask
    crops: tuple[NDArray[np.bool_], ...]  # the pixels inside each box

    @classmethod
    def from_full(cls, masks: NDArray[np.bool_]) -> "Masks":
        """From masks of the picture's size, bool (N, H, W)."""
        height, width = masks.shape[1:]
        return _join((height, width), [_tighten(mask, 0, 0) for mask in masks])

    def __len__(self) -> int:
        return len(self.crops)

    @property
    def areas(self) -> NDArray[np.int64]:
        """The number of pixels of each mask, (N,)."""
        return np.array([cv2.countNonZero(crop.view(np.uint8)) if crop.size else 0 for crop in self.crops], np.int64)

    def where(self, seen: Sequence[bool]) -> "Masks":
        """The same masks; those that are not ``seen`` are empty."""
        kept = zip(self.boxes.tolist(), self.crops, seen, strict=True)
        return _join(self.size, [(box, crop) if one else _EMPTY for box, crop, one in kept])

    def take(self, indices: Sequence[int]) -> "Masks":
        """The masks at ``indices``, in that order."""
        return Masks(self.size, self.boxes[list(indices)], tuple(self.crops[index] for index in indices))

    def full(self) -> NDArray[np.bool_]:
        """The masks at the picture's size, bool (N, H, W)."""
        masks = np.zeros((len(self), *self.size), np.bool_)
        for mask, (left, top, right, bottom), crop in zip(masks, self.boxes.tolist(), self.crops, strict=True):
            mask[top:bottom, left:right] = crop
        return masks


_Placed = tuple[tuple[int, int, int, int], NDArray[np.bool_]]  # a mask's box and the pixels inside it
_EMPTY: _Placed = (0, 0, 0, 0), np.zeros((0, 0), np.bool_)


def full_masks(result: Result) -> Masks:
    """The masks at the frame's size.

    The logits are resized bilinearly, as by ``interpolate(align_corners=False)``, and thresholded at 0. Waits until
    they have come from the device.
    """
    height, width = result.frame.image.shape[:2]
    logits = result.masks.detach().cpu().numpy()
    return _join((height, width), [_enlarge(logit, height, width) for logit in logits])


def _join(size: tuple[int, int], masks: Sequence[_Placed]) -> Masks:
    boxes = np.array([box for box, _ in masks], np.int64).reshape(-1, 4)
    return Masks(size, boxes, tuple(crop for _, crop in masks))


def _tighten(mask: NDArray[np.bool_], left: int, top: int) -> _Placed:
    """The smallest box that holds all pixels of ``mask``, whose corner is at (left, top) of the picture."""
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    if width == 0:
        return _EMPTY
    crop = np.ascontiguousarray(mask[y : y + height, x : x + width])
    return (left + x, top + y, left + x + width, top + y + height), crop


def _enlarge(logit: NDArray[np.float32], height: int, width: int) -> _Placed:
    """Where ``logit``, (h, w), resized to (height, width), is above 0. Only what may be above 0 is computed.

    The result is bit for bit that of one cv2.resize of the whole. That resizes the rows first, then the columns; here
    each is a call of its own, the first with the rows that matter, the second with the columns that matter. A sample's
    position depends on its index, in single precision, so what lies before the box cannot be left out of a call.
    """
    x, y, columns, rows = cv2.boundingRect((logit > 0).view(np.uint8))
    if columns == 0:
        return _EMPTY
    across = _span(x, x + columns, logit.shape[1], width)
    down = _span(y, y + rows, logit.shape[0], height)
    if 2 * (across.stop - across.start) > width or height <= logit.shape[0] or width <= logit.shape[1]:
        return _tighten(cv2.resize(logit, (width, height), interpolation=cv2.INTER_LINEAR) > 0, 0, 0)
    first, last = max(y - 1, 0), min(y + rows + 1, down.source)
    wide = cv2.resize(logit[first:last, : across.source], (across.target, last - first), interpolation=cv2.INTER_LINEAR)
    strip = np.full((down.source, across.stop - across.start), -1, np.float32)
    strip[first:last] = wide[:, across.start : across.stop]
    tall = cv2.resize(strip, (strip.shape[1], down.target), interpolation=cv2.INTER_LINEAR)
    return _tighten(tall[down.start : down.stop] > 0, across.start, down.start)


@dataclass(frozen=True, slots=True)
class _Span:
    """Along one axis: the pixels ``start`` to ``stop`` of the picture depend on given logits. ``source`` logits resized
    to ``target`` pixels have the same scale as the whole, and hold all of them."""

    start: int
    stop: int
    source: int
    target: int


@lru_cache(maxsize=4096)
def _span(first: int, stop: int, source: int, target: int) -> _Span:
    """The span of the logits ``first`` to ``stop`` of ``source`` where these become ``target`` pixels."""
    scale = target / source
    # pixel i lies at (i + 0.5) / scale - 0.5 and depends on the logits on both sides; a pixel more for the rounding
    begin = max(floor((first - 0.5) * scale - 0.5) - 1, 0)
    end = min(ceil((stop + 0.5) * scale - 0.5) + 2, target)
    steps = gcd(source, target)
    kept = min(-(-end // (target // steps)) + 1, steps)
    return _Span(begin, end, kept * (source // steps), kept * (target // steps))
