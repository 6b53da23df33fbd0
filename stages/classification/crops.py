"""Crops of tracked objects from their frame, for models that work on single objects."""

import numpy as np
from numpy.typing import ArrayLike

from stages.types import Image, Result, TrackState

MARGIN = 1.3  # side of the crop divided by the longer side of the box


def crop(image: Image, box: ArrayLike) -> Image:
    """A square view of the image around ``box`` (xyxy in pixels), with a margin; narrower where the image is."""
    x0, y0, x1, y1 = np.asarray(box, float)
    side = max(1, round(MARGIN * float(max(x1 - x0, y1 - y0))))
    spans = []
    for centre, limit in (((y0 + y1) / 2, image.shape[0]), ((x0 + x1) / 2, image.shape[1])):
        length = min(side, limit)
        start = min(max(0, round(centre - length / 2)), limit - length)
        spans.append(slice(start, start + length))
    return image[tuple(spans)]


def object_crops(result: Result) -> list[tuple[int, Image]]:
    """The track id and crop of each object with a visible pixel; its box is that of its mask."""
    masks = (result.masks > 0).numpy()
    height, width = result.frame.image.shape[:2]
    crops = []
    for track, mask in zip(result.tracks, masks, strict=True):
        if track.state is TrackState.OCCLUDED or not mask.any():
            continue
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) / (*mask.shape[::-1], *mask.shape[::-1])
        crops.append((track.id, crop(result.frame.image, box * (width, height, width, height))))
    return crops
