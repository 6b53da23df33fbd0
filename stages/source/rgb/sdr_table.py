"""HDR and wide-gamut pictures to BT.709 by a table.

swscale converts them too, by its own table of 16-bit colours: 38 ms of one core for 1920 x 1080, against 3 ms for SDR.
Here it fills a table of all 10-bit Y'CbCr in steps of 4 once, and each pixel takes its colour from there, which errs by
a level of R'G'B' or two. FFmpeg's filters `lut3d` and `haldclut` (35 ms) and Pillow's Color3DLUT (43 ms) are slower.
"""

import threading
from functools import lru_cache

import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from av.video.reformatter import ColorPrimaries, ColorRange, ColorTrc, VideoReformatter
from numpy.typing import NDArray

from stages.source.rgb.color_tags import ColorTags
from stages.types import Image

FORMATS = ("yuv420p10le", "p010le")  # of the frames that are looked up; GPUs decode to the second
_STEP_BITS = 2
_STEP = 1 << _STEP_BITS  # of 10-bit values
_LUMA = 1024 // _STEP
_DARKEST, _BRIGHTEST = 64, 960  # of chroma in the limited range
_CHROMA = (_BRIGHTEST - _DARKEST) // _STEP + 1
_ROWS = 32  # looked up at a time: keeps the temporary arrays in the processor's cache

SdrTable = NDArray[np.uint32]  # R'G'B' as bytes R, G, B, 255 by Cb, Cr and Y': 52 MB

_lock = threading.Lock()


def sdr_table(tags: ColorTags) -> SdrTable:
    """The table for Y'CbCr of ``tags``; shared by all streams. The first call with new tags takes 2 to 3 s.

    Reference white of HDR, 203 cd/m² (ITU-R BT.2408), becomes white; what is brighter is clipped, as in an SDR camera.
    """
    with _lock:  # so that streams that start together fill it once
        return _fill(tags.matrix, tags.transfer, tags.primaries)


def look_up(frame: VideoFrame, table: SdrTable) -> Image:
    """A frame of one of ``FORMATS`` in limited range as uint8 (H, W, 3) RGB."""
    height, width = frame.height, frame.width
    luma = _values(frame.planes[0], width)
    if frame.format.name == "p010le":  # the 10 bits stand above 6 zeros, Cb and Cr alternate
        both = np.right_shift(_values(frame.planes[1], (width + 1) // 2 * 2), 6, dtype=np.uint16)
        blue, red, bits = both[:, ::2], both[:, 1::2], 6 + _STEP_BITS
    else:
        blue, red = (_values(plane, (width + 1) // 2) for plane in frame.planes[1:])
        bits = _STEP_BITS
    image = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, _ROWS):
        half = slice(top // 2, (top + _ROWS) // 2)
        rows = _position(blue[half]) * _CHROMA + _position(red[half])
        # as 64-bit numbers of another kind, because cv2 has no integers of that size; it only copies them
        chroma = (rows * _LUMA).view(np.float64)
        pixels = cv2.resize(chroma, (2 * chroma.shape[1], 2 * chroma.shape[0]), interpolation=cv2.INTER_NEAREST)
        bright = luma[top : top + _ROWS]
        index = pixels.view(np.int64)[: len(bright), :width] + (bright >> bits)
        colours = table.take(index).view(np.uint8).reshape(*index.shape, 4)
        cv2.cvtColor(colours, cv2.COLOR_RGBA2RGB, dst=image[top : top + _ROWS])
    return image


@lru_cache(maxsize=4)
def _fill(matrix: int, transfer: int, primaries: int) -> SdrTable:
    frame = VideoFrame(_LUMA, _CHROMA, "yuv444p10le")
    # without the metadata of the source: swscale would take a mastering display's peak for the SDR one's too
    frame.colorspace, frame.color_trc, frame.color_primaries = matrix, transfer, primaries
    frame.color_range = int(ColorRange.MPEG)
    luma, blue, red = (_values(plane, _LUMA) for plane in frame.planes)
    steps = np.arange(_DARKEST, _BRIGHTEST + 1, _STEP)
    luma[:] = np.arange(0, 1024, _STEP) + 1
    red[:] = steps[:, None]
    table = np.empty((_CHROMA, _CHROMA, _LUMA), np.uint32)
    reformatter = VideoReformatter()
    for part, value in zip(table, steps, strict=True):
        blue[:] = value
        converted = reformatter.reformat(
            frame, format="rgba", dst_color_trc=ColorTrc.BT709, dst_color_primaries=ColorPrimaries.BT709, threads=1
        )
        part[:] = np.frombuffer(memoryview(converted.planes[0]), np.uint32).reshape(_CHROMA, -1)[:, :_LUMA]
    return table.ravel()


def _position(chroma: NDArray[np.uint16]) -> NDArray[np.int64]:
    """The nearest step of each value."""
    steps = np.clip(chroma, _DARKEST, _BRIGHTEST) - (_DARKEST - _STEP // 2) >> _STEP_BITS
    return steps.astype(np.int64)


def _values(plane: VideoPlane, width: int) -> NDArray[np.uint16]:
    """The first ``width`` values of each of a plane's lines, which are padded; a view."""
    values: NDArray[np.uint16] = np.frombuffer(memoryview(plane), np.uint16).reshape(plane.height, -1)
    return values[:, :width]
