"""Writes a live stream's recording in segments of a few minutes, each playable by itself."""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

from av.error import FFmpegError

from stages.output import wire
from stages.output.atomic_file import AtomicFile, write_atomically
from stages.output.mp4 import Mp4Writer
from stages.output.recorder import cannot_record
from stages.recording.leftover import note_last, take_over
from stages.recording.segment import Segment, lines_of, pictures_of, remove_files, video_path
from stages.types import Image


class SegmentWriter:
    """Writes the segments of ``stream`` below ``folder``, each ``length`` seconds long, one after another.

    A segment begins with a key picture of its own encoder, and every frame is in exactly one. A new one also begins
    where the picture's size changes, where capture times step back or stand still, and after ``cut``. With ``frames``
    the annotated frames are kept as JPEG files beside their video. ``rate`` is the nominal frame rate in Hz. What an
    earlier run left is made whole first, and frames are numbered on from it: ``next_frame`` is the first number that is
    free. ``closed`` is called with each complete segment. Raises OutputError when the folder cannot be read or written.
    """

    def __init__(
        self,
        folder: Path,
        stream: str,
        rate: float,
        length: float,
        frames: bool = False,
        closed: Callable[[Segment], None] = lambda _: None,
    ) -> None:
        self._folder, self._stream, self._rate, self._length = folder, stream, rate, length
        self._frames, self._closed = frames, closed
        self._open: _OpenSegment | None = None
        try:
            (folder / stream).mkdir(parents=True, exist_ok=True)
            left, self.next_frame = take_over(folder, stream)
        except OSError as error:
            raise cannot_record(folder, error) from error
        if left is not None:
            closed(left)

    @property
    def video(self) -> Path | None:
        """The video of the segment that is being written."""
        return self._open.path if self._open else None

    @property
    def written(self) -> int:
        """Bytes on disk of the segment that is being written."""
        return self._open.written if self._open else 0

    def write(self, header: wire.Header, annotated: Image, jpeg: bytes | None = None) -> None:
        """Append one frame: its ``masks`` header, the ``annotated`` frame, uint8 (H, W, 3) RGB, and that as JPEG.

        Raises OutputError; the segment then ends with what is whole of it, and the next call begins another one.
        """
        height, width = annotated.shape[:2]
        line = wire.to_json(header) + b"\n"
        try:
            if self._open and not self._open.accepts((width, height), header["captured_at"], self._length):
                self._close()
            if not self._open:
                self._open = self._begin((width, height), header["captured_at"])
            self._open.write(header, line, annotated, jpeg)
        except (OSError, FFmpegError) as error:
            self._abandon()
            raise cannot_record(self._folder, error) from error
        except Exception:
            self._abandon()
            raise
        self.next_frame = header["frame"] + 1

    def cut(self) -> None:
        """Complete the segment: the next frame begins another one. Raises OutputError."""
        try:
            self._close()
        except (OSError, FFmpegError) as error:
            self._abandon()
            raise cannot_record(self._folder, error) from error

    close = cut

    def _begin(self, size: tuple[int, int], captured_at: float) -> "_OpenSegment":
        path = video_path(self._folder, self._stream, captured_at)
        path.parent.mkdir(parents=True, exist_ok=True)
        note_last(self._folder, self._stream, path)
        return _OpenSegment(path, self._rate, size, captured_at, self._frames)

    def _close(self) -> None:
        if self._open:
            self._open.close()
            self._complete()

    def _abandon(self) -> None:
        if self._open:
            self._open.abandon()
            self._complete()

    def _complete(self) -> None:
        assert self._open is not None
        segment, self._open = self._open.described(self._stream), None
        if segment is not None:
            self._closed(segment)


class _OpenSegment:
    """The segment that is being written. All methods raise OSError and FFmpegError."""

    def __init__(self, path: Path, rate: float, size: tuple[int, int], start: float, frames: bool) -> None:
        self.path = path
        self._start = self._end = start
        self._began = time.monotonic()
        self._frames = 0
        self._pictures = pictures_of(path) if frames else None
        self._jpeg_bytes = self._lines_bytes = 0
        if self._pictures:
            self._pictures.mkdir(exist_ok=True)
        self._video = Mp4Writer(path, rate, size, start)
        try:
            self._lines = AtomicFile(lines_of(path))
        except OSError:
            self._video.abandon()
            path.unlink(missing_ok=True)
            raise

    @property
    def written(self) -> int:
        """Bytes on disk."""
        return self._video.written + self._lines_bytes + self._jpeg_bytes

    def accepts(self, size: tuple[int, int], captured_at: float, length: float) -> bool:
        """Whether the next frame, of this ``size`` (width, height) and capture time, belongs to this segment."""
        # where capture times stand still, as when a clock was set back, the frames in between last all the same
        lasts = max(captured_at - self._start, time.monotonic() - self._began - length / 2)
        return captured_at >= self._end and lasts < length and self._video.accepts(size, captured_at)

    def write(self, header: wire.Header, line: bytes, annotated: Image, jpeg: bytes | None) -> None:
        """Append one frame."""
        if self._pictures and jpeg is not None:
            write_atomically(self._pictures / f"{header['frame']:06d}.jpg", jpeg)
            self._jpeg_bytes += len(jpeg)
        self._video.write(annotated, header["captured_at"])
        self._lines.write(line)
        self._lines.commit()
        self._lines_bytes += len(line)
        self._end = header["captured_at"]
        self._frames += 1

    def close(self) -> None:
        """Finish both files."""
        self._video.close()
        self._lines.close()

    def abandon(self) -> None:
        """Close after a failure, which is not raised again: what is whole stays, and nothing where no picture is."""
        with contextlib.suppress(OSError):
            self._video.abandon()
        with contextlib.suppress(OSError):
            self._lines.close()
        if not self._video.whole:
            with contextlib.suppress(OSError):
                remove_files(self.path)

    def described(self, stream: str) -> Segment | None:
        """The segment, now complete; None where it has no picture or is gone."""
        try:
            size = self.path.stat().st_size + lines_of(self.path).stat().st_size + self._jpeg_bytes
        except OSError:
            return None
        return Segment(stream, self.path, self._start, self._end, self._frames, size) if self._video.whole else None
