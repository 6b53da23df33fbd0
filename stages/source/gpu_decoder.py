"""Decoding on the GPU: NVIDIA's decoder by way of FFmpeg; pictures come back to the machine's memory as usual."""

import contextlib
import functools
from typing import Any

import av
from av.codec.hwaccel import HWAccel
from av.packet import Packet
from av.video.stream import VideoStream

_PATIENCE = 60  # packets from the first key picture on without a picture, far more than any reordering needs
_kept: list[HWAccel] = []  # primary contexts, so that torch does not make them anew


@functools.cache
def cuda_decoder(index: int) -> HWAccel | None:
    """What makes ``av.open`` decode on GPU ``index``; None where that cannot be. Found out once in a process.

    Sources share the GPU's primary context, which is torch's too; FFmpeg cannot take it where torch has made it
    first, with other flags: then each source has a context of its own, of some hundred MB.
    """
    for primary in (True, False):
        acceleration = _on_gpu(index, primary)
        with contextlib.suppress(Exception):  # which one differs: no GPU, no driver, no memory, no CUDA in FFmpeg
            context = acceleration.create(av.Codec("h264", "r"))
            if primary:
                _kept.append(context)
            return acceleration
    return None


def _on_gpu(index: int, primary: bool) -> HWAccel:
    options: dict[str, object] = {"primary_ctx": "1"} if primary else {}
    return HWAccel("cuda", device=str(index), allow_software_fallback=True, options=options)


def decoder_of(stream: VideoStream) -> str:
    """ "cuda" or "software": FFmpeg changes over by itself where the GPU does not know a codec or a profile."""
    context = stream.codec_context
    return "cuda" if context.is_hwaccel and context.pix_fmt == "cuda" else "software"


class DecoderTrial:
    """Whether a decoder on the GPU has shown that it works, or that it does not, on the first pictures."""

    def __init__(self) -> None:
        self._packets = 0  # from the first key picture on

    def failed(self, packet: "Packet[Any]", error: bool) -> bool:
        """To be told of each packet that brought no picture, until one does; before a key picture none can."""
        if packet.is_keyframe or self._packets:
            self._packets += 1
        return (error and packet.is_keyframe) or self._packets > _PATIENCE
