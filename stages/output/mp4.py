"""Fragmented MP4 writer for the annotated video: each fragment of one second is on disk complete or not at all."""

import contextlib
from fractions import Fraction
from pathlib import Path

import av
import cv2
from av.error import FFmpegError
from av.video.frame import PictureType

from stages.output.atomic_file import AtomicFile
from stages.types import Image

# exact for the usual frame rates, NTSC included; MPEG-4 allows nothing finer than 1/65535 s
TIME_BASE = Fraction(1, 60000)
# no trailer: it is an index that players do not need, and for it the muxer would keep every fragment in memory
FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof+skip_trailer", "flush_packets": "1"}
X264 = {"preset": "veryfast", "tune": "zerolatency", "crf": "20"}
FRAGMENT = round(1 / TIME_BASE)  # ticks from one key picture to the next, at most
MAX_GAP = 3600.0  # seconds between two frames; a gap of 2**31 ticks, 10 hours, corrupts an MP4
BT601 = 6  # colour matrix of the conversion from RGB: SMPTE 170M in FFmpeg's numbering


class Mp4Writer:
    """A new MP4 with one frame size (width, height); odd sides are padded by a pixel, because 4:2:0 needs even ones.

    ``rate`` is the nominal frame rate in Hz, ``start`` the capture time of the first frame in seconds. ``whole`` counts
    the frames that are on disk in complete fragments. All methods raise OSError and FFmpegError.
    """

    def __init__(self, path: Path, rate: float, size: tuple[int, int], start: float) -> None:
        self.size, self.whole = size, 0
        self._start = self._captured_at = start
        self._frame_ticks = round(1 / rate / TIME_BASE)
        self._last_pts = -self._frame_ticks
        self._key_pts = 0  # of the last key picture
        self._muxed = 0  # frames
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

    @property
    def written(self) -> int:
        """Bytes on disk."""
        return self._file.size

    def accepts(self, size: tuple[int, int], captured_at: float) -> bool:
        """Whether the next frame may have this ``size`` (width, height) and capture time."""
        gap = captured_at - self._start - float(self._last_pts * TIME_BASE)
        return size == self.size and gap < MAX_GAP

    def write(self, image: Image, captured_at: float) -> None:
        """Append a frame, uint8 (H, W, 3) RGB; its timestamp follows its capture time in seconds.

        A frame with the capture time of the frame before comes a tick later, as MP4 needs.
        """
        if captured_at < self._captured_at:  # the clock stepped back: continue one frame interval later
            self._start = captured_at - float((self._last_pts + self._frame_ticks) * TIME_BASE)
        pts = max(round((captured_at - self._start) / TIME_BASE), self._last_pts + 1)
        self._last_pts, self._captured_at = pts, captured_at
        height, width = image.shape[:2]
        if width % 2 or height % 2:
            image = cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        frame.pts, frame.time_base, frame.duration = pts, TIME_BASE, self._frame_ticks
        if pts - self._key_pts >= FRAGMENT:  # frames may come at less than the nominal rate
            frame.pict_type, self._key_pts = PictureType.I, pts
        self._mux(self._stream.encode(frame))

    def close(self) -> None:
        """Finish the last fragment."""
        self._mux(self._stream.encode(None))
        self._container.close()
        self._file.commit()
        self.whole = self._muxed
        self._file.close()

    def abandon(self) -> None:
        """Close after a failure: the file ends with its last complete fragment."""
        with contextlib.suppress(OSError, FFmpegError):
            self._container.close()
        self._file.close()

    def _mux(self, packets: list[av.Packet]) -> None:
        for packet in packets:
            self._container.mux(packet)
            if packet.is_keyframe:  # it starts a fragment: the muxer has written the previous one
                self._file.commit()
                self.whole, self._key_pts = self._muxed, packet.pts
            self._muxed += 1
