"""COCO run lengths to pixels, without pycocotools.

A mask on the wire is ``{"size": [height, width], "counts": ...}``: the lengths of runs of 0 and 1 in turn, column by
column, starting with 0. ``counts`` is a list of integers or COCO's compressed string
(https://github.com/cocodataset/cocoapi, common/maskApi.c).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskcast_client.errors import MessageError

_LONGEST = 7  # characters of one number in a compressed string: 35 bits


class Crop(NamedTuple):
    """The smallest rectangle that holds all pixels of a mask."""

    x: int  # left column
    y: int  # upper row
    width: int
    height: int
    runs: NDArray[np.int64]  # run lengths of the rectangle alone, column by column, starting with 0

    def pixels(self) -> NDArray[np.bool_]:
        """The mask inside the rectangle, bool (height, width)."""
        values = np.zeros(len(self.runs), np.bool_)
        values[1::2] = True
        return np.ascontiguousarray(np.repeat(values, self.runs).reshape(self.width, self.height).T)


def cut(mask: Mapping[str, Any]) -> Crop:
    """Cut the rectangle around its pixels out of ``mask``. No pixel is decoded: the work depends on the number of runs.

    An empty mask has an empty rectangle at (0, 0). Raises MessageError when the runs do not fill the picture.
    """
    height, width = mask["size"]
    runs = _runs(mask["counts"])
    ends = np.cumsum(runs)
    if not len(runs) or runs.min() < 0 or ends[-1] != height * width:
        raise MessageError(f"a mask's runs do not fill its {width}x{height} pixels: the message is damaged")
    starts, stops = ends[:-1:2], ends[1::2]
    if not (stops > starts).all():  # runs of length 0 may stand in plain counts
        starts, stops = starts[stops > starts], stops[stops > starts]
    if not len(starts):
        return Crop(0, 0, 0, 0, np.zeros(1, np.int64))
    left, first = np.divmod(starts, height)  # column and row of each run's first pixel
    right, last = np.divmod(stops - 1, height)  # and of its last
    # a run that goes on in the next column touches the lower and the upper edge of the picture
    whole = bool((left != right).any())
    top, bottom = (0, height) if whole else (int(first.min()), int(last.max()) + 1)
    rows, columns = bottom - top, int(right[-1] - left[0]) + 1
    bounds = np.empty(2 * len(starts) + 2, np.int64)
    bounds[0], bounds[-1] = 0, rows * columns
    bounds[1:-1:2] = (left - left[0]) * rows + first - top
    bounds[2:-1:2] = (right - left[0]) * rows + last - top + 1
    return Crop(int(left[0]), top, columns, rows, np.diff(bounds))


def _runs(counts: Any) -> NDArray[np.int64]:
    """The run lengths in either kind of counts."""
    if isinstance(counts, str):
        return _uncompressed(counts)
    try:
        return np.array(counts, np.int64).reshape(-1)
    except (TypeError, ValueError, OverflowError) as error:
        raise MessageError(f"a mask's counts are not integers: the message is damaged ({error})") from None


def _uncompressed(text: str) -> NDArray[np.int64]:
    """Each character holds five bits of a number, low bits first; its sixth bit says that more follow, and the fifth of
    the last character is the sign. From the fourth run on, the difference to the run two before is stored."""
    try:
        codes = np.frombuffer(text.encode("ascii"), np.uint8) - 48  # what is below 48 wraps around to large values
    except UnicodeEncodeError:
        codes = np.full(1, 255, np.uint8)
    if not len(codes) or codes.max() > 63 or codes[-1] > 31:
        raise MessageError("a mask's counts are not COCO's compressed string: the message is damaged")
    ends = np.flatnonzero(codes < 32) + 1
    starts = np.concatenate(([0], ends[:-1]))
    lengths = ends - starts
    if lengths.max() > _LONGEST:
        raise MessageError("a mask's counts hold a number that is too large: the message is damaged")
    shifts = 5 * (np.arange(len(codes)) - np.repeat(starts, lengths))
    runs: NDArray[np.int64] = np.add.reduceat((codes & 31).astype(np.int64) << shifts, starts)
    runs -= np.where(codes[ends - 1] & 16, np.int64(1) << 5 * lengths, 0)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs
