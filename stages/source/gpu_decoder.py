"""Decoding on the GPU with NVDEC through FFmpeg; the decoded frames are copied to host memory."""

import contextlib
import functools
from typing import Any

import av
from av.codec.hwaccel import HWAccel
from av.packet import Packet
from av.video.stream import VideoStream

_MAX_EMPTY_PACKETS = 60  # without a frame from the first I-frame on: far more than frame reordering needs
_primary_contexts: list[HWAccel] = []  # kept alive, so that torch does not create them again


@functools.cache
def cuda_decoder(index: int) -> HWAccel | None:
    """The ``hwaccel`` argument of ``av.open`` for GPU ``index``; None where it cannot decode. Tried once per process.

    All sources share the GPU's primary CUDA context, as torch does. FFmpeg cannot use it if torch created it first,
    with other flags: then each source gets its own context of some hundred MB.
    """
    for primary in (True, False):
        acceleration = _hwaccel(index, primary)
        with contextlib.suppress(Exception):  # its type varies: no GPU, no driver, no memory, no CUDA in FFmpeg
            context = acceleration.create(av.Codec("h264", "r"))
            if primary:
                _primary_contexts.append(context)
            return acceleration
    return None


def _hwaccel(index: int, primary: bool) -> HWAccel:
    options: dict[str, object] = {"primary_ctx": "1"} if primary else {}
    return HWAccel("cuda", device=str(index), allow_software_fallback=True, options=options)


def decoder_of(stream: VideoStream) -> str:
    """ "cuda" or "software": FFmpeg falls back to software where the GPU does not support a codec or profile."""
    context = stream.codec_context
    return "cuda" if context.is_hwaccel and context.pix_fmt == "cuda" else "software"


class DecoderTrial:
    """Decides on the first packets whether the decoder on the GPU has failed."""

    def __init__(self) -> None:
        self._packets = 0  # from the first I-frame on

    def failed(self, packet: "Packet[Any]", error: bool) -> bool:
        """Whether the decoder has failed. Call it for each packet without a frame, up to the first decoded frame.

        ``error``: decoding raised. Packets before the first I-frame do not count: they cannot be decoded.
        """
        if packet.is_keyframe or self._packets:
            self._packets += 1
        return (error and packet.is_keyframe) or self._packets > _MAX_EMPTY_PACKETS
