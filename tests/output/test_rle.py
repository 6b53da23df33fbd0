"""Masks, run lengths and boxes."""

from fractions import Fraction

import cv2
import numpy as np
import pycocotools.mask as coco
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from stages.errors import WireError
from stages.output import rle
from stages.output.masks import Masks, full_masks
from stages.testsrc.world import ShapesWorld
from stages.types import Clock, Frame, Result


def a_result(logits: torch.Tensor, height: int, width: int) -> Result:
    frame = Frame(0, 0, Fraction(1, 30), 0.0, Clock.FILE, np.zeros((height, width, 3), np.uint8))
    return Result(frame, 0, True, (), logits)


def shapes(height: int = 180, width: int = 240) -> NDArray[np.bool_]:
    """Masks of real shapes, some of them cut by the edge of the picture, and an empty and a full one."""
    masks = ShapesWorld(seed=3, width=width, height=height, objects=6).render(40)[1].masks
    return np.concatenate([masks, np.zeros((1, height, width), bool), np.ones((1, height, width), bool)])


def logits_of(side: int) -> torch.Tensor:
    """20 masks: single logits, blobs at every edge and far apart, stripes, noise, an empty and a full one."""
    random = np.random.default_rng(side)
    rows, columns = np.mgrid[:side, :side] / side

    def disc(x: float, y: float, radius: float) -> NDArray[np.float64]:
        return 40 * (radius - np.hypot(columns - x, rows - y))

    def single(x: int, y: int) -> NDArray[np.float64]:
        logit = np.full((side, side), -3.0)
        logit[y, x] = 2
        return logit

    last = side - 1
    kinds = [
        *(single(x, y) for x, y in [(0, 0), (last, 0), (0, last), (last, last), (side // 3, side // 2), (5, last)]),
        *(disc(x, y, 0.13) for x, y in [(0, 0.4), (1, 0.6), (0.3, 0), (0.7, 1), (0.52, 0.47), (1, 1)]),
        disc(0.3, 0.6, 0.02),
        disc(0.5, 0.5, 0.6),
        np.maximum(disc(0.05, 0.9, 0.04), disc(0.95, 0.1, 0.05)),
        np.where(np.abs(columns - 0.3) < 0.1, 1.0, -1.0),
        np.where(np.abs(rows - 0.9) < 0.04, 1.0, -1.0),
        np.zeros((side, side)),
        np.full((side, side), 0.5),
        random.normal(-2, 1, (side, side)),
    ]
    noisy = [kind + random.normal(0, 0.02, kind.shape) * (kind != 0) for kind in kinds]
    return torch.tensor(np.array(noisy), dtype=torch.float32)


SIZES = [(1080, 1920), (720, 1280), (601, 999), (640, 360), (257, 1001), (256, 256), (128, 128), (90, 160), (61, 47)]


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("side", [256, 48])
def test_masks_are_bit_for_bit_those_of_resizing_the_whole_picture(side: int, height: int, width: int) -> None:
    logits = logits_of(side)
    masks = full_masks(a_result(logits, height, width))
    assert masks.size == (height, width)
    for logit, mask in zip(logits.numpy(), masks.full(), strict=True):
        assert (mask == (cv2.resize(logit, (width, height), interpolation=cv2.INTER_LINEAR) > 0)).all()


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_masks_are_the_logits_interpolated_bilinearly_and_above_zero(height: int, width: int) -> None:
    logits = logits_of(64)
    expected = F.interpolate(logits[:, None], (height, width), mode="bilinear", align_corners=False)[:, 0]
    sure = expected.abs() > 1e-4  # closer to the threshold, rounding decides
    sure[17] = True  # what is 0 everywhere
    assert sure.float().mean() > 0.999
    assert (full_masks(a_result(logits, height, width)).full() == (expected > 0).numpy())[sure.numpy()].all()


def test_masks_take_half_precision_logits() -> None:
    logits = torch.tensor([[[1.0, -1.0], [1.0, -1.0]]], dtype=torch.bfloat16)
    assert full_masks(a_result(logits, 2, 4)).full().tolist() == [[[True, True, False, False]] * 2]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_logits_on_the_device_give_the_same_masks() -> None:
    logits = logits_of(256)
    there, here = (full_masks(a_result(each, 1080, 1920)) for each in (logits.cuda(), logits))
    assert rle.encode_all(there) == rle.encode_all(here)


def test_a_frame_without_objects_has_no_masks_and_no_codes() -> None:
    masks = full_masks(a_result(torch.zeros(0, 64, 64), 90, 160))
    assert masks.full().shape == (0, 90, 160)
    assert masks.boxes.shape == (0, 4)
    assert masks.areas.shape == (0,)
    assert rle.encode_all(masks) == []


def test_boxes_and_areas_are_those_of_the_pixels() -> None:
    whole = shapes()
    masks = Masks.from_full(whole)
    assert masks.areas.tolist() == whole.sum((1, 2)).tolist()
    assert (masks.full() == whole).all()
    for mask, box, crop in zip(whole, masks.boxes, masks.crops, strict=True):
        rows, columns = np.nonzero(mask)
        expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] if len(rows) else [0, 0, 0, 0]
        assert box.tolist() == expected
        assert crop.shape == (box[3] - box[1], box[2] - box[0])


def test_boxes_are_half_open() -> None:
    mask = np.zeros((1, 10, 20), bool)
    mask[0, 7, 12] = True
    assert Masks.from_full(mask).boxes.tolist() == [[12, 7, 13, 8]]


def test_masks_can_be_chosen_or_emptied() -> None:
    masks = Masks.from_full(shapes())
    assert (masks.take([4, 0]).full() == shapes()[[4, 0]]).all()
    seen = np.arange(len(masks)) % 2 == 0
    assert (masks.where(seen.tolist()).full() == shapes() & seen[:, None, None]).all()


def test_codes_are_those_of_pycocotools_as_strings() -> None:
    for mask, code in zip(shapes(), rle.encode_all(Masks.from_full(shapes())), strict=True):
        expected = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
        assert code == {"size": [180, 240], "counts": expected["counts"].decode()}
        assert rle.encode(mask) == code


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_codes_of_enlarged_masks_are_those_of_the_whole_picture(height: int, width: int) -> None:
    masks = full_masks(a_result(logits_of(64), height, width))
    codes = coco.encode(np.asfortranarray(masks.full().transpose(1, 2, 0).astype(np.uint8)))
    assert [code["counts"] for code in rle.encode_all(masks)] == [code["counts"].decode() for code in codes]
    assert masks.areas.tolist() == coco.area(codes).tolist()
    corners = coco.toBbox(codes)  # x, y, width, height
    assert masks.boxes.tolist() == np.hstack([corners[:, :2], corners[:, :2] + corners[:, 2:]]).tolist()


@given(arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=7)))
def test_any_mask_has_the_code_of_pycocotools(mask: NDArray[np.bool_]) -> None:
    expected = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert rle.encode(mask)["counts"] == expected["counts"].decode()
    assert (rle.decode(rle.encode(mask, "counts")) == mask).all()


def test_plain_counts_run_down_the_columns_and_start_with_zeros() -> None:
    mask = np.array([[1, 0, 0], [1, 1, 0]], bool)
    assert rle.encode(mask, "counts") == {"size": [2, 3], "counts": [0, 2, 1, 1, 2]}


def test_decoding_undoes_both_encodings() -> None:
    for mask in shapes():
        assert (rle.decode(rle.encode(mask)) == mask).all()
        assert (rle.decode(rle.encode(mask, "counts")) == mask).all()


def test_masks_may_be_views_of_other_arrays() -> None:
    masks = shapes()[:, ::2, 10:-10]
    assert not masks.flags.c_contiguous
    assert (rle.decode(rle.encode(masks[0])) == masks[0]).all()


@pytest.mark.parametrize("counts", [[3, 2], [30, 2], [-3, 23], [], "", "abc", "0~", "P", "\N{SNOWMAN}"])
def test_damaged_codes_are_refused_in_one_line(counts: str | list[int]) -> None:
    with pytest.raises(WireError, match="damaged") as raised:
        rle.decode({"size": [4, 5], "counts": counts})
    assert "\n" not in str(raised.value)
