"""COCO run-length encoding of masks, with areas and boxes.

A code is ``{"size": [height, width], "counts": ...}``: alternating runs of 0 and 1, column by column, starting with 0;
``counts`` is COCO's compressed string or a list of plain integers.
"""

from collections.abc import Sequence
from typing import TypedDict

import cv2
import numpy as np
import pycocotools.mask as coco
from numpy.typing import NDArray

from stages.errors import WireError
from stages.types import Result


class Rle(TypedDict):
    """A run-length encoded mask that can be written as JSON."""

    size: list[int]  # [height, width]
    counts: str | list[int]


def full_masks(result: Result) -> NDArray[np.bool_]:
    """The masks at the frame's size, bool (N, H, W).

    The logits are resized bilinearly, as by ``interpolate(align_corners=False)``, and thresholded at 0. Only the small
    logits are copied from the device, not the full masks.
    """
    height, width = result.frame.image.shape[:2]
    logits = result.masks.detach().float().cpu().numpy()
    masks = np.empty((len(logits), height, width), np.bool_)
    for mask, logit in zip(masks, logits, strict=True):
        np.greater(cv2.resize(logit, (width, height), interpolation=cv2.INTER_LINEAR), 0, out=mask)
    return masks


def encode_all(masks: NDArray[np.bool_]) -> list[Rle]:
    """Encode each of ``masks``, bool (N, H, W), with COCO's compressed string."""
    count, height, width = masks.shape
    columns = np.empty((count, width, height), np.uint8)
    for column_major, mask in zip(columns, masks, strict=True):
        cv2.transpose(np.ascontiguousarray(mask).view(np.uint8), column_major)
    codes = coco.encode(columns.transpose(2, 1, 0))  # (H, W, N) in Fortran order, without a copy
    return [Rle(size=[height, width], counts=code["counts"].decode("ascii")) for code in codes]


def encode(mask: NDArray[np.bool_]) -> Rle:
    """Encode ``mask``, bool (H, W), with COCO's compressed string."""
    return encode_all(mask[None])[0]


def with_counts(rle: Rle) -> Rle:
    """The same code with plain integers as counts; raises WireError when the string is damaged."""
    return Rle(size=rle["size"], counts=_runs(rle["counts"]))


def decode(rle: Rle) -> NDArray[np.bool_]:
    """Decode either kind of counts to a mask, bool (H, W); raises WireError when the runs do not fill it."""
    height, width = rle["size"]
    runs = _runs(rle["counts"])
    if min(runs, default=0) < 0 or sum(runs) != height * width:
        raise WireError(f"a mask's runs do not fill its {width}x{height} pixels: the message is damaged, drop it")
    # not pycocotools: it leaves pixels uninitialised where the runs end early
    pixels = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return np.ascontiguousarray(pixels.reshape(width, height).T)


def _runs(counts: str | Sequence[int]) -> list[int]:
    """The plain run lengths. Each character of COCO's string holds five bits of a number, low bits first; its sixth bit
    is set when more bits follow. From the fourth run on, the difference to the run two before is stored."""
    if not isinstance(counts, str):
        return list(counts)
    runs: list[int] = []
    value = shift = 0
    for character in counts:
        code = ord(character) - 48
        if not 0 <= code < 64:
            raise WireError(f"a mask's counts hold {character!r}, which COCO's code has not: the message is damaged")
        value |= (code & 31) << shift
        shift += 5
        if code & 32:
            continue
        if code & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if shift:
        raise WireError("a mask's counts end in the middle of a number: the message is damaged, drop it")
    return runs


def areas(rles: Sequence[Rle]) -> NDArray[np.int64]:
    """Area of each mask in pixels, (N,), from compressed codes."""
    return np.asarray(coco.area(list(rles)), np.int64)


def boxes(rles: Sequence[Rle]) -> NDArray[np.float32]:
    """Boxes (N, 4), xyxy in pixels, half-open, from compressed codes; zeros for an empty mask."""
    corners = np.asarray(coco.toBbox(list(rles)), np.float32).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]
    return corners
