"""Pictures as a camera of low rate sends them: coded as H.264 and decoded again."""

from collections.abc import Sequence
from fractions import Fraction

import av
import numpy as np

from stages.types import Image

GROUP = 8  # pictures that are coded together; each group begins with a key picture


def through_h264(images: Sequence[Image], crf: int) -> list[Image]:
    """The images (H, W, 3) of one group, coded by x264 at this constant rate factor and decoded."""
    height, width = images[0].shape[:2]
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height = width + width % 2, height + height % 2
    encoder.pix_fmt, encoder.time_base = "yuv420p", Fraction(1, 30)
    encoder.thread_count = 1
    encoder.options = {"preset": "ultrafast", "tune": "zerolatency", "crf": str(crf)}
    decoder = av.CodecContext.create("h264", "r")
    decoder.thread_count = 1
    decoded: list[av.VideoFrame] = []
    padding = ((0, height % 2), (0, width % 2), (0, 0))
    for image in images:
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(np.pad(image, padding, "edge")), "rgb24")
        for packet in encoder.encode(frame):
            decoded += decoder.decode(packet)
    for packet in encoder.encode(None):
        decoded += decoder.decode(packet)
    decoded += decoder.decode(None)
    return [frame.to_ndarray(format="rgb24")[:height, :width] for frame in decoded]
