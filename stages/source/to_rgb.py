"""Decoded video frames to upright RGB images."""

from collections.abc import Mapping
from typing import cast

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from stages.types import Image


class RgbConverter:
    """Converts the frames of one stream, of any size and pixel format, to RGB."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def rgb(self, frame: VideoFrame) -> Image | None:
        """uint8 (H, W, 3) RGB, contiguous, rotated by the container's display matrix; None if damaged."""
        if frame.is_corrupt:  # would cause false detections
            return None
        try:
            # one thread: a thread pool per stream costs more than it gains
            rgb = self._reformatter.reformat(frame, format="rgb24", threads=1)
        except av.error.FFmpegError:
            return None
        image = np.asarray(rgb.to_ndarray(), np.uint8)
        matrix = _display_matrix(frame)
        if matrix is not None:
            image = _rotate(image, matrix)
        return np.ascontiguousarray(image)


def _display_matrix(frame: VideoFrame) -> NDArray[np.int32] | None:
    try:
        matrix = cast(Mapping[str, bytes], frame.side_data).get("DISPLAYMATRIX")
    except ValueError:  # PyAV 18 fails on kinds of side data that it has no name for, such as the EXIF of a JPEG
        cosine, sine = ((1, 0), (0, 1), (-1, 0), (0, -1))[round(frame.rotation / 90) % 4]
        return np.array((cosine, -sine, 0, sine, cosine, 0, 0, 0, 1), np.int32)
    return None if matrix is None else np.frombuffer(matrix, np.int32)


def _rotate(image: Image, matrix: NDArray[np.int32]) -> Image:
    """Apply a display matrix (9 fixed-point numbers, rows a b u, c d v, x y w), rounded to right angles and flips.

    It maps a source pixel (x, y) to (a x + c y, b x + d y): libavutil/display.h.
    """
    a, b, _, c, d = (int(value) for value in matrix[:5])
    if abs(b) > abs(a):
        image, right, down = image.transpose(1, 0, 2), c, b
    else:
        right, down = a, d
    return image[:: -1 if down < 0 else 1, :: -1 if right < 0 else 1]
