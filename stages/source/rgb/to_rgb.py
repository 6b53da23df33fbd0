"""Decoded video frames to upright RGB images with square pixels and the colours of BT.709."""

from collections.abc import Mapping
from fractions import Fraction
from typing import cast

import av
import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from stages.source.rgb.color_tags import UNSPECIFIED, ColorTags
from stages.source.rgb.pixel_aspect import PixelAspect
from stages.source.rgb.sdr_table import FORMATS, SdrTable, look_up, sdr_table
from stages.types import Image

# swscale takes the grey formats for full range, whatever they say
_GREY_TO_FULL = np.clip(np.rint((np.arange(256) - 16) * (255 / 219)), 0, 255).astype(np.uint8)


class RgbConverter:
    """Converts the frames of one stream, of any size and pixel format, to RGB. Of the thread that decodes them."""

    def __init__(self, stream: VideoStream, pixel_aspect: Fraction | None = None) -> None:
        """``stream`` just opened; ``pixel_aspect``: width over height of its pixels, None for what it says."""
        self._container = ColorTags.of(stream.codec_context)
        self._aspect = PixelAspect(stream, pixel_aspect)
        self._reformatter = VideoReformatter()
        self._table: SdrTable
        self._table_tags: ColorTags | None = None

    def rgb(self, frame: VideoFrame) -> Image | None:
        """uint8 (H, W, 3) RGB, contiguous; None if damaged. Changes the frame's tags.

        Its pixels are made square and it is rotated by the container's display matrix. HDR (PQ and HLG) and wide gamuts
        become BT.709; a frame without tags is converted as players do.
        """
        if frame.is_corrupt:  # would cause false detections
            return None
        try:
            image = self._convert(frame)
        except av.error.FFmpegError:
            return None
        matrix = _display_matrix(frame)
        if matrix is not None:
            image = _rotate(image, matrix)
        return np.ascontiguousarray(image)

    def _convert(self, frame: VideoFrame) -> Image:
        tags = ColorTags.of(frame).completed(self._container, frame.width, frame.height)
        frame.colorspace, frame.color_range = tags.matrix, tags.range
        frame.color_trc = frame.color_primaries = UNSPECIFIED  # swscale refuses reserved values
        width, height = self._aspect.square(frame.width, frame.height)
        # one thread: a thread pool per stream costs more than it gains
        if not tags.standard:
            if tags != self._table_tags:
                self._table, self._table_tags = sdr_table(tags), tags
            layout = frame.format.name if frame.format.name in FORMATS else FORMATS[0]
            limited = self._reformatter.reformat(
                frame, width, height, layout, dst_colorspace=tags.matrix, dst_color_range=ColorRange.MPEG, threads=1
            )
            return look_up(limited, self._table)
        rgb = self._reformatter.reformat(frame, width, height, "rgb24", threads=1)
        image = np.asarray(rgb.to_ndarray(), np.uint8)
        limited_grey = frame.format.name.startswith(("gray", "ya")) and tags.range == int(ColorRange.MPEG)
        return np.asarray(cv2.LUT(image, _GREY_TO_FULL), np.uint8) if limited_grey else image


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
