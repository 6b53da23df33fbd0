"""A stream's recording: JSON lines, an MP4 of the annotated frames and, on request, each of them as a JPEG.

The recording outlives a killed program: the video is written in fragments of a second, a line in one piece.
"""

import contextlib
import errno
import re
import time
from fractions import Fraction
from pathlib import Path

import av
import cv2
from av.error import FFmpegError

from stages import wire
from stages.errors import OutputError
from stages.types import Image

# Exact for the usual frame rates, NTSC's too; MPEG-4 has no finer clock than 1/65535 s.
TIME_BASE = Fraction(1, 60000)
FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "flush_packets": "1"}
X264 = {"preset": "veryfast", "tune": "zerolatency", "crf": "20"}
BT601 = 6  # the matrix that RGB is converted with, SMPTE 170M in FFmpeg's numbering


class Recorder:
    """Writes ``<stream>.masks.jsonl``, ``<stream>.mp4`` and, with ``frames``, ``<stream>-frames/000000.jpg``.

    ``folder`` is made; an earlier recording of the stream in it is moved into a folder named after its time. ``rate``
    is the nominal frame rate in Hz. OutputError when the folder cannot be written or the disk is full: what was
    written before is then whole.
    """

    def __init__(self, folder: Path, stream: str, rate: float, frames: bool = False) -> None:
        self._folder, self._stream, self._rate = folder, stream, rate
        self._pictures = folder / f"{stream}-frames" if frames else None
        self._video: _Video | None = None
        self._failure: OutputError | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _set_aside(folder, stream)
            if self._pictures:
                self._pictures.mkdir()
            self._lines = _WholeFile(folder / f"{stream}.masks.jsonl")
        except OSError as error:
            raise _cannot_record(folder, error) from error

    def write(self, header: wire.Header, picture: Image, jpeg: bytes | None = None) -> None:
        """Append one frame: its ``masks`` header, the annotated picture, uint8 (H, W, 3) RGB, and that as JPEG.

        Frames keep the distances of their ``captured_at``. When their size changes the video goes on in
        ``<stream>.<epoch>.mp4``. Raises OutputError, and again whenever called after a failure.
        """
        if self._failure:
            raise self._failure
        line = wire.to_json(header) + b"\n"
        try:
            if self._pictures and jpeg is not None:
                _write_whole(self._pictures / f"{header['frame']:06d}.jpg", jpeg)
            self._video_for(picture, header).write(picture, header["captured_at"])
            self._lines.write(line)
            self._lines.mark()
        except (OSError, FFmpegError) as error:
            self._lines.close()
            if self._video:
                self._video.abandon()
            self._failure = _cannot_record(self._folder, error)
            raise self._failure from error

    def close(self) -> None:
        """Finish the files; raises OutputError when the video's last second cannot be written."""
        self._lines.close()
        video, self._video = self._video, None
        if self._failure or not video:
            return
        try:
            video.close()
        except (OSError, FFmpegError) as error:
            video.abandon()
            raise _cannot_record(self._folder, error) from error

    def _video_for(self, picture: Image, header: wire.Header) -> "_Video":
        height, width = picture.shape[:2]
        if not self._video or self._video.size != (width, height):
            name = f"{self._stream}.mp4"
            if self._video:
                self._video.close()
                name = f"{self._stream}+{header['epoch']}.mp4"  # no stream's name has a plus
            self._video = _Video(self._folder / name, self._rate, (width, height), header["captured_at"])
        return self._video


class _Video:
    """One MP4 of one picture size (width, height); odd sides are padded by a pixel, as 4:2:0 needs even ones."""

    def __init__(self, path: Path, rate: float, size: tuple[int, int], start: float) -> None:
        self.size = size
        self._start = start
        self._step = round(1 / rate / TIME_BASE)
        self._last = -self._step
        self._file = _WholeFile(path)
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

    def write(self, picture: Image, captured_at: float) -> None:
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
        self._mux(self._stream.encode(None))
        self._container.close()
        self._file.mark()
        self._file.close()

    def abandon(self) -> None:
        """Close after a failure."""
        with contextlib.suppress(OSError, FFmpegError):
            self._container.close()
        self._file.close()

    def _mux(self, packets: list[av.Packet]) -> None:
        for packet in packets:
            self._container.mux(packet)
            if packet.is_keyframe:  # which made the muxer write the fragment before it
                self._file.mark()


class _WholeFile:
    """A new file that, once closed, ends where it was last marked."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("xb", buffering=0)
        self._size = self._marked = 0  # bytes

    def write(self, data: bytes) -> int:
        """Write all of ``data``; raises OSError when only some of it, or nothing, could be written."""
        rest = memoryview(data)
        while rest:
            written = self._file.write(rest) or 0
            self._size += written
            rest = rest[written:]
        return len(data)

    def mark(self) -> None:
        """All that was written so far is whole."""
        self._marked = self._size

    def close(self) -> None:
        if not self._file.closed:
            self._file.truncate(self._marked)
            self._file.close()


def _cannot_record(folder: Path, error: OSError | FFmpegError) -> OutputError:
    reason = error.strerror or str(error)
    return OutputError(f"cannot record into {folder}: {reason}; free some space or choose another folder")


def _write_whole(path: Path, content: bytes) -> None:
    """All of the file or none of it, whenever the program ends."""
    part = path.with_suffix(".part")
    try:
        part.write_bytes(content)
    except OSError:
        part.unlink(missing_ok=True)
        raise
    part.replace(path)


def _set_aside(folder: Path, stream: str) -> None:
    """Move an earlier recording of the stream out of the way."""
    lines, video = folder / f"{stream}.masks.jsonl", folder / f"{stream}.mp4"
    if not lines.exists():
        if video.exists():  # perhaps the very file that is being read
            raise FileExistsError(errno.EEXIST, f"{video.name} is there and was not recorded by maskcast")
        return
    earlier = folder / time.strftime("earlier-%Y%m%dT%H%M%SZ", time.gmtime(lines.stat().st_mtime))
    ours = re.compile(rf"{re.escape(stream)}(-frames|\.masks\.jsonl|(\+\d+)?\.mp4)")
    for path in list(folder.iterdir()):
        if ours.fullmatch(path.name):
            _move(path, earlier)


def _move(path: Path, folder: Path) -> None:
    """Into ``folder``, under another name where that one is taken."""
    folder.mkdir(exist_ok=True)
    target, number = folder / path.name, 1
    while target.exists():
        target, number = folder / f"{path.name}.{number}", number + 1
    path.rename(target)
