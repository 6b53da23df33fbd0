"""Crops of tracked objects: square, with a margin, inside the picture."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from stages.classification.crops import MARGIN, crop, object_crops
from stages.types import Clock, Frame, Image, Result, Track, TrackState


def numbered(height: int, width: int) -> Image:
    """A picture whose pixels encode their position: red the column, green the row."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([columns, rows, np.zeros_like(rows)], -1).astype(np.uint8)


def test_a_crop_is_square_and_centred_on_its_box() -> None:
    cut = crop(numbered(200, 200), (80, 90, 120, 110))
    side = round(40 * MARGIN)
    assert cut.shape == (side, side, 3)
    assert tuple(cut[side // 2, side // 2, :2]) == (100, 100)


@pytest.mark.parametrize(
    "box", [(0, 0, 20, 20), (180, 80, 200, 100), (0, 80, 200, 100), (5, 5, 5, 5), (199, 99, 200, 100)]
)
def test_a_crop_at_the_edge_stays_inside_and_holds_its_box(box: tuple[int, int, int, int]) -> None:
    cut = crop(numbered(100, 200), box)
    assert min(cut.shape[:2]) >= 1
    x0, y0, x1, y1 = box
    if x1 > x0:
        assert cut[..., 0].min() <= x0
        assert cut[..., 0].max() >= x1 - 1
        assert cut[..., 1].min() <= y0
        assert cut[..., 1].max() >= y1 - 1


def test_each_object_that_shows_is_cut_out_by_the_bounds_of_its_mask_and_named_by_its_track() -> None:
    masks = torch.full((3, 50, 100), -1.0)  # half of the picture's size
    masks[0, 20:30, 40:50] = 1
    masks[2, 0:5, 0:5] = 1
    states = (TrackState.TRACKED, TrackState.TRACKED, TrackState.OCCLUDED)
    tracks = tuple(Track(7 + i, 0, 0, 0, state, 0.9, 0.9) for i, state in enumerate(states))
    frame = Frame(0, 0, Fraction(1), 0.0, Clock.FILE, numbered(100, 200))
    [(track, cut)] = object_crops(Result(frame, 0, False, tracks, masks))
    assert track == 7
    side = round(20 * MARGIN)
    assert cut.shape == (side, side, 3)
    assert tuple(cut[side // 2, side // 2, :2]) == (90, 50)
