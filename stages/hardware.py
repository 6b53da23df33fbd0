"""Decoding on the GPU: NVIDIA's decoder by way of FFmpeg; pictures come back to the machine's memory as usual."""

from typing import Any

import av
from av.codec.hwaccel import HWAccel
from av.packet import Packet
from av.video.stream import VideoStream

_PATIENCE = 60  # packets from the first key picture on without a picture, far more than any reordering needs


def cuda_decoder() -> HWAccel | None:
    """What makes ``av.open`` decode on the GPU; None where that cannot be."""
    acceleration = HWAccel("cuda", allow_software_fallback=True)
    try:
        acceleration.create(av.Codec("h264", "r"))
    except Exception:  # which one differs: no GPU, no driver, no memory, a build of FFmpeg without it
        return None
    return acceleration


def decoder_of(stream: VideoStream) -> str:
    """ "cuda" or "software": FFmpeg changes over by itself where the GPU does not know a codec or a profile."""
    context = stream.codec_context
    return "cuda" if context.is_hwaccel and context.pix_fmt == "cuda" else "software"


class Trial:
    """Whether a decoder on the GPU has shown that it works, or that it does not, on the first pictures."""

    def __init__(self) -> None:
        self._packets = 0  # from the first key picture on

    def failed(self, packet: "Packet[Any]", error: bool) -> bool:
        """To be told of each packet that brought no picture, until one does; before a key picture none can."""
        if packet.is_keyframe or self._packets:
            self._packets += 1
        return (error and packet.is_keyframe) or self._packets > _PATIENCE
