"""A decoded picture as the pipeline wants it: RGB and upright."""

from collections.abc import Mapping
from typing import cast

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from stages.types import Image


class RgbConverter:
    """Pictures of one stream, of any size and pixel format, to RGB."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def rgb(self, picture: VideoFrame) -> Image | None:
        """uint8 (H, W, 3) RGB, contiguous, turned as the container's display matrix says; None if damaged."""
        if picture.is_corrupt:  # delivered, it would make false objects
            return None
        try:
            # one thread: a pool of threads for each stream costs more than it gains
            rgb = self._reformatter.reformat(picture, format="rgb24", threads=1)
        except av.error.FFmpegError:
            return None
        image = np.asarray(rgb.to_ndarray(), np.uint8)
        matrix = cast(Mapping[str, bytes], picture.side_data).get("DISPLAYMATRIX")
        if matrix is not None:
            image = _turn(image, np.frombuffer(matrix, np.int32))
        return np.ascontiguousarray(image)


def _turn(image: Image, matrix: NDArray[np.int32]) -> Image:
    """Apply a display matrix (9 fixed-point numbers, rows a b u, c d v, x y w) rounded to right angles and flips.

    A source pixel (x, y) goes to (a x + c y, b x + d y): libavutil/display.h.
    """
    a, b, _, c, d = (int(value) for value in matrix[:5])
    if abs(b) > abs(a):
        image, right, down = image.transpose(1, 0, 2), c, b
    else:
        right, down = a, d
    return image[:: -1 if down < 0 else 1, :: -1 if right < 0 else 1]
