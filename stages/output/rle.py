"""COCO run-length encoding of masks, inside their boxes.

A code is ``{"size": [height, width], "counts": ...}``: alternating runs of 0 and 1, column by column, starting with 0;
``counts`` is COCO's compressed string or a list of plain integers.
"""

from collections.abc import Sequence
from typing import Literal, TypedDict

import cv2
import numpy as np
import pycocotools.mask as coco
from numpy.typing import NDArray

from stages.errors import WireError
from stages.output.masks import Masks


class Rle(TypedDict):
    """A run-length encoded mask that can be written as JSON."""

    size: list[int]  # [height, width]
    counts: str | list[int]


def encode_all(masks: Masks, encoding: Literal["rle", "counts"] = "rle") -> list[Rle]:
    """Encode each of ``masks``, with COCO's compressed string or with plain integers as counts."""
    height, width = masks.size
    codes = []
    for crop, (left, top) in zip(masks.crops, masks.boxes[:, :2].tolist(), strict=True):
        runs = run_lengths(crop, height, left * height + top, height * width)
        codes.append(Rle(size=[height, width], counts=_compress(runs) if encoding == "rle" else runs.tolist()))
    return codes


def _compress(runs: NDArray[np.uint32]) -> str:
    """COCO's string of plain counts."""
    code: dict[str, bytes] = coco.frPyObjects({"size": [1, int(runs.sum())], "counts": runs}, 1, int(runs.sum()))
    return code["counts"].decode("ascii")


def run_lengths(crop: NDArray[np.bool_], height: int, start: int, total: int) -> NDArray[np.uint32]:
    """The plain counts of a picture of ``height`` and of ``total`` pixels that is empty but for ``crop``.

    ``start`` is the place of the crop's first pixel in the picture, counted down the columns.
    """
    rows, columns = crop.shape
    # a 0 before the first column and one below each, so that every run of ones has an end in its own column
    line = np.zeros(1 + columns * (rows + 1), np.uint8)
    if rows and columns:
        cv2.transpose(crop.view(np.uint8), line[1:].reshape(columns, rows + 1)[:, :rows])
    column, row = np.divmod(np.flatnonzero(line[1:] != line[:-1]), rows + 1)
    edges = np.empty(len(row) + 2, np.int64)
    edges[0], edges[1:-1], edges[-1] = 0, start + column * height + row, total
    if rows == height:  # a run that ends at the bottom goes on where the next column starts with a one
        joined = 2 * np.flatnonzero(edges[2:-2:2] == edges[3:-1:2]) + 2
        edges = np.delete(edges, np.concatenate([joined, joined + 1]))
    counts = edges[1:] - edges[:-1]
    return (counts if counts[-1] or len(counts) == 1 else counts[:-1]).astype(np.uint32)


def encode(mask: NDArray[np.bool_], encoding: Literal["rle", "counts"] = "rle") -> Rle:
    """Encode ``mask``, bool (H, W), as ``encode_all`` does."""
    return encode_all(Masks.from_full(mask[None]), encoding)[0]


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
