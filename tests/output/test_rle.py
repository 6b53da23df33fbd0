"""Masks, run lengths and boxes."""

from fractions import Fraction

import numpy as np
import pycocotools.mask as coco
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from stages.errors import WireError
from stages.output import rle
from stages.testsrc.world import ShapesWorld
from stages.types import Clock, Frame, Result


def a_result(logits: torch.Tensor, height: int, width: int) -> Result:
    frame = Frame(0, 0, Fraction(1, 30), 0.0, Clock.FILE, np.zeros((height, width, 3), np.uint8))
    return Result(frame, 0, True, (), logits)


def shapes(height: int = 180, width: int = 240) -> NDArray[np.bool_]:
    """Masks of real shapes, some of them cut by the edge of the picture, and an empty and a full one."""
    masks = ShapesWorld(seed=3, width=width, height=height, objects=6).render(40)[1].masks
    return np.concatenate([masks, np.zeros((1, height, width), bool), np.ones((1, height, width), bool)])


@pytest.mark.parametrize(("height", "width"), [(256, 256), (90, 160), (61, 47)])
def test_full_masks_are_the_logits_interpolated_bilinearly_and_above_zero(height: int, width: int) -> None:
    logits = torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(logits[:, None], (height, width), mode="bilinear", align_corners=False)[:, 0]
    masks = rle.full_masks(a_result(logits, height, width))
    assert masks.dtype == np.bool_
    sure = expected.abs() > 1e-5  # closer to the threshold, rounding decides
    assert sure.float().mean() > 0.999
    assert (masks == (expected > 0).numpy())[sure.numpy()].all()


def test_full_masks_take_half_precision_logits() -> None:
    logits = torch.tensor([[[1.0, -1.0], [1.0, -1.0]]], dtype=torch.bfloat16)
    assert rle.full_masks(a_result(logits, 2, 4)).tolist() == [[[True, True, False, False]] * 2]


def test_a_frame_without_objects_has_no_masks_codes_boxes_or_areas() -> None:
    masks = rle.full_masks(a_result(torch.zeros(0, 64, 64), 90, 160))
    codes = rle.encode_all(masks)
    assert masks.shape == (0, 90, 160)
    assert codes == []
    assert rle.boxes(codes).shape == (0, 4)
    assert rle.areas(codes).shape == (0,)


def test_codes_are_those_of_pycocotools_as_strings() -> None:
    for mask, code in zip(shapes(), rle.encode_all(shapes()), strict=True):
        expected = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
        assert code == {"size": [180, 240], "counts": expected["counts"].decode()}
        assert rle.encode(mask) == code


def test_plain_counts_run_down_the_columns_and_start_with_zeros() -> None:
    mask = np.array([[1, 0, 0], [1, 1, 0]], bool)
    assert rle.with_counts(rle.encode(mask)) == {"size": [2, 3], "counts": [0, 2, 1, 1, 2]}


def test_decoding_undoes_both_encodings() -> None:
    for mask in shapes():
        assert (rle.decode(rle.encode(mask)) == mask).all()
        assert (rle.decode(rle.with_counts(rle.encode(mask))) == mask).all()


def test_masks_may_be_views_of_other_arrays() -> None:
    masks = shapes()[:, ::2, 10:-10]
    assert not masks.flags.c_contiguous
    assert (rle.decode(rle.encode_all(masks)[0]) == masks[0]).all()


@pytest.mark.parametrize("counts", [[3, 2], [30, 2], [-3, 23], [], "", "abc", "0~", "P", "\N{SNOWMAN}"])
def test_damaged_codes_are_refused_in_one_line(counts: str | list[int]) -> None:
    with pytest.raises(WireError, match="damaged") as raised:
        rle.decode({"size": [4, 5], "counts": counts})
    assert "\n" not in str(raised.value)


def test_areas_and_boxes_are_those_of_the_pixels() -> None:
    masks = shapes()
    codes = rle.encode_all(masks)
    assert rle.areas(codes).tolist() == masks.sum((1, 2)).tolist()
    for mask, box in zip(masks, rle.boxes(codes), strict=True):
        rows, columns = np.nonzero(mask)
        expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] if len(rows) else [0, 0, 0, 0]
        assert box.tolist() == expected


def test_boxes_are_half_open() -> None:
    mask = np.zeros((10, 20), bool)
    mask[7, 12] = True
    assert rle.boxes([rle.encode(mask)]).tolist() == [[12, 7, 13, 8]]
