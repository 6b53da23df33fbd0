"""Clips with tags of colour and shape, written by real encoders, and the HDR of an SDR picture."""

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.bitstream import BitStreamFilterContext
from numpy.typing import NDArray

from stages.source.rgb.color_tags import ColorTags
from stages.types import Image

PQ, HLG = 16, 18  # transfers
BT709, BT601, BT2020, UNSPECIFIED = 1, 5, 9, 2  # matrices; primaries too, but for BT601
LIMITED, FULL = 1, 2
PQ_TAGS, HLG_TAGS = ColorTags(BT2020, PQ, BT2020, LIMITED), ColorTags(BT2020, HLG, BT2020, LIMITED)
NO_TAGS = ColorTags(UNSPECIFIED, UNSPECIFIED, UNSPECIFIED, 0)
_TO_BT2020 = np.array([(0.6274, 0.3293, 0.0433), (0.0691, 0.9195, 0.0114), (0.0164, 0.0880, 0.8956)])  # BT.2087
_LUMINANCE = np.array((0.2627, 0.6780, 0.0593))  # of BT.2020
_WHITE, _PEAK = 203, 1000  # cd/m²: reference white (BT.2408), nominal peak of HLG


def pq(image: Image) -> NDArray[np.uint16]:
    """16-bit R'G'B' of BT.2020 in PQ (SMPTE ST 2084) that shows what ``image`` shows by BT.1886."""
    light = np.clip(_light(image) * _WHITE / 10000, 0, 1) ** (2610 / 16384)
    signal = (3424 / 4096 + 2413 / 128 * light) / (1 + 2392 / 128 * light)
    return _sixteen_bits(signal ** (2523 / 32))


def hlg(image: Image) -> NDArray[np.uint16]:
    """The same in HLG (ARIB STD-B67) for a display of 1000 cd/m²."""
    shown = _light(image) * _WHITE / _PEAK
    luminance = np.maximum(shown @ _LUMINANCE, 1e-9)[..., None]
    scene = np.clip(shown * luminance ** (1 / 1.2 - 1), 0, 1)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return _sixteen_bits(
        np.where(scene <= 1 / 12, np.sqrt(3 * scene), a * np.log(np.maximum(12 * scene, b + 1e-9) - b) + c)
    )


def bt2020(image: Image) -> NDArray[np.uint16]:
    """16-bit R'G'B' of BT.2020 with a standard dynamic range."""
    return _sixteen_bits(_light(image) ** (1 / 2.4))


def _light(image: Image) -> NDArray[np.float64]:
    """Linear light in BT.2020, reference white 1."""
    return (image / 255) ** 2.4 @ _TO_BT2020.T


def _sixteen_bits(signal: NDArray[np.float64]) -> NDArray[np.uint16]:
    return np.rint(np.clip(signal, 0, 1) * 65535).astype(np.uint16)


def write_clip(
    path: Path,
    pictures: Sequence[NDArray],
    tags: ColorTags = NO_TAGS,
    *,
    said: ColorTags | None = None,
    pix_fmt: str = "yuv420p",
    codec: str = "ffv1",
    aspect: Fraction = Fraction(1),
    options: dict[str, str] | None = None,
) -> Path:
    """Write R'G'B' ``pictures`` (uint8 or uint16) by matrix and range of ``tags``.

    ``said``: the tags that are written, by default ``tags``. ``aspect``: width over height of the pixels.
    """
    said = said or tags
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options or {})
        context = stream.codec_context
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt, context.sample_aspect_ratio = pix_fmt, aspect
        context.colorspace, context.color_trc, context.color_primaries = said.matrix, said.transfer, said.primaries
        context.color_range = said.range
        for number, picture in enumerate([*pictures, None]):
            frame = None
            if picture is not None:
                kind = "rgb24" if picture.dtype == np.uint8 else "rgb48le"
                rgb = av.VideoFrame.from_ndarray(picture, format=kind)
                frame = rgb.reformat(format=pix_fmt, dst_colorspace=tags.matrix, dst_color_range=tags.range or LIMITED)
                frame.colorspace, frame.color_trc, frame.color_primaries = said.matrix, said.transfer, said.primaries
                frame.color_range = said.range
                frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
    return path


def with_frames_that_say(path: Path, metadata: str) -> Path:
    """A copy whose container is the same; ``metadata``: options of the filter hevc_metadata or h264_metadata."""
    copy = path.with_stem(f"{path.stem}-changed")
    with av.open(str(path)) as container, av.open(str(copy), "w") as changed:
        stream = container.streams.video[0]
        out = changed.add_stream_from_template(stream)
        change = BitStreamFilterContext(f"{stream.codec_context.name}_metadata={metadata}", stream, out)
        for packet in container.demux(stream):
            for done in change.filter(packet if packet.size else None):
                done.stream = out
                changed.mux(done)
    return copy


def with_pasp(path: Path, width: int, height: int) -> Path:
    """Write the shape of the pixels into the pasp box of an MP4; its frames go on saying what they say."""
    data = bytearray(path.read_bytes())
    struct.pack_into(">2I", data, data.index(b"pasp") + 4, width, height)
    path.write_bytes(data)
    return path
