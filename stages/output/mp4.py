"""The annotated video: an MP4 in fragments of a second, each of which is on disk whole or not at all."""

import contextlib
from fractions import Fraction
from pathlib import Path

import av
import cv2
from av.error import FFmpegError

from stages.output.atomic_file import AtomicFile
from stages.types import Image

# Exact for the usual frame rates, NTSC's too; MPEG-4 has no finer clock than 1/65535 s.
TIME_BASE = Fraction(1, 60000)
# Without the trailer, an index that players do not need, or the muxer would remember every fragment up to the end.
FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof+skip_trailer", "flush_packets": "1"}
X264 = {"preset": "veryfast", "tune": "zerolatency", "crf": "20"}
LONGEST_GAP = 3600.0  # seconds between two pictures; from 2**31 of its ticks on, 10 hours, an MP4 is ruined
BT601 = 6  # the matrix that RGB is converted with, SMPTE 170M in FFmpeg's numbering


class Mp4Writer:
    """A new MP4 of one picture size (width, height); odd sides are padded by a pixel, as 4:2:0 needs even ones.

    ``rate`` is the nominal frame rate in Hz, ``start`` the capture time in seconds that the video begins with.
    All methods raise OSError and FFmpegError.
    """

    def __init__(self, path: Path, rate: float, size: tuple[int, int], start: float) -> None:
        self.size = size
        self._start = start
        self._step = round(1 / rate / TIME_BASE)
        self._last = -self._step
        self._file = AtomicFile(path)
        self._container = av.open(self._file, "w", format="mp4", options=FRAGMENTED)
        x264 = "libx264" in av.codecs_available
        codec = "libx264" if x264 else "mpeg4"
        self._stream = self._container.add_stream(codec, rate=Fraction(rate).limit_denominator(1001))
        self._stream.width, self._stream.height = (side + side % 2 for side in size)
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = TIME_BASE
        self._stream.codec_context.gop_size = max(1, round(rate))
        self._stream.codec_context.colorspace = BT601
        if x264:
            self._stream.options = X264
        else:
            self._stream.codec_context.bit_rate = 6 * size[0] * size[1]

    def takes(self, size: tuple[int, int], captured_at: float) -> bool:
        """Whether a picture of ``size`` (width, height) and ``captured_at`` can be next."""
        gap = captured_at - self._start - float(self._last * TIME_BASE)
        return size == self.size and gap < LONGEST_GAP

    def write(self, picture: Image, captured_at: float) -> None:
        """Append a picture, uint8 (H, W, 3) RGB; pictures keep the distances of their capture times, in seconds."""
        pts = round((captured_at - self._start) / TIME_BASE)
        if pts <= self._last:  # the clock stepped back: go on from here
            pts = self._last + self._step
            self._start = captured_at - float(pts * TIME_BASE)
        self._last = pts
        height, width = picture.shape[:2]
        if width % 2 or height % 2:
            picture = cv2.copyMakeBorder(picture, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts, frame.time_base = pts, TIME_BASE
        self._mux(self._stream.encode(frame))

    def close(self) -> None:
        """Finish the last fragment."""
        self._mux(self._stream.encode(None))
        self._container.close()
        self._file.mark()
        self._file.close()

    def abandon(self) -> None:
        """Close after a failure: the file ends with its last whole fragment."""
        with contextlib.suppress(OSError, FFmpegError):
            self._container.close()
        self._file.close()

    def _mux(self, packets: list[av.Packet]) -> None:
        for packet in packets:
            self._container.mux(packet)
            if packet.is_keyframe:  # which made the muxer write the fragment before it
                self._file.mark()
