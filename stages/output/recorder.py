"""A stream's recording: JSON lines, an MP4 of the annotated frames and, on request, each of them as a JPEG.

The recording outlives a killed program: the video is written in fragments of a second, a line in one piece. Another
run can go on with it.
"""

import contextlib
import errno
from pathlib import Path

from av.error import FFmpegError

from stages.errors import OutputError
from stages.output import wire
from stages.output.atomic_file import AtomicFile, write_whole
from stages.output.mp4 import Mp4Writer
from stages.output.resume import ending, set_aside
from stages.types import Frame, Image

OTHERWISE = "choose another folder"
ROOM = f"free some space or {OTHERWISE}"
ADVICE = {  # what to do, by the cause
    errno.ENOSPC: ROOM,
    errno.EDQUOT: ROOM,
    errno.EFBIG: ROOM,
    errno.EEXIST: f"move what is there or {OTHERWISE}",
    errno.EACCES: "choose a folder that may be written",
    errno.EROFS: "choose a folder that may be written",
}


class Recorder:
    """Writes ``<stream>.masks.jsonl``, ``<stream>.mp4`` and, with ``frames``, ``<stream>-frames/000000.jpg``.

    ``folder`` is made; an earlier recording of the stream in it is moved into a folder named after its time. ``rate``
    is the nominal frame rate in Hz. With ``resume`` an earlier recording stays: its lines and JPEGs go on with frame
    ``next_frame``, behind its last whole line, and its video in another file. OutputError when the folder cannot be
    written, the disk is full or what is there is no recording: what was written before is then whole.
    """

    def __init__(self, folder: Path, stream: str, rate: float, frames: bool = False, resume: bool = False) -> None:
        self._folder, self._stream, self._rate = folder, stream, rate
        self._pictures = folder / f"{stream}-frames" if frames else None
        self._video: Mp4Writer | None = None
        self._failure: OutputError | None = None
        lines = folder / f"{stream}.masks.jsonl"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._earlier = ending(lines) if resume else None
            if self._earlier is None:
                set_aside(folder, stream)
            if self._pictures:
                self._pictures.mkdir(exist_ok=self._earlier is not None)
            self._lines = AtomicFile(lines, self._earlier.size if self._earlier else None)
            self.next_frame = self._earlier.frame + 1 if self._earlier else 0
            if self._earlier:  # begun by a run that was killed before its first line: its frames come again
                self._video_from(self.next_frame).unlink(missing_ok=True)
        except OSError as error:
            raise _cannot_record(folder, error) from error

    def skip(self, frame: Frame) -> None:
        """Pass over a frame of a file that is recorded already, one below ``next_frame``.

        Raises OutputError when the last of them is not what the recording tells of: then it is of another source.
        """
        if self._earlier and frame.index == self._earlier.frame:
            self._earlier.compare(frame)

    def write(self, header: wire.Header, picture: Image, jpeg: bytes | None = None) -> None:
        """Append one frame: its ``masks`` header, the annotated picture, uint8 (H, W, 3) RGB, and that as JPEG.

        Frames keep the distances of their ``captured_at``. When their size changes, or after an hour without any, the
        video goes on in ``<stream>+from<frame>.mp4``. Raises OutputError, and again whenever called after a failure.
        """
        if self._failure:
            raise self._failure
        line = wire.to_json(header) + b"\n"
        try:
            if self._pictures and jpeg is not None:
                write_whole(self._pictures / f"{header['frame']:06d}.jpg", jpeg)
            self._video_for(picture, header).write(picture, header["captured_at"])
            self._lines.write(line)
            self._lines.mark()
        except (OSError, FFmpegError) as error:
            self._failure = _cannot_record(self._folder, error)
            self._abandon()
            raise self._failure from error

    def close(self) -> None:
        """Finish the files; raises OutputError when the video's last second cannot be written."""
        if self._failure:
            return
        try:
            if self._video:
                self._video.close()
            self._video = None
            self._lines.close()
        except (OSError, FFmpegError) as error:
            self._failure = _cannot_record(self._folder, error)
            self._abandon()
            raise self._failure from error

    def _abandon(self) -> None:
        """Close whatever is open, after a failure."""
        with contextlib.suppress(OSError):
            self._lines.close()
        if self._video:
            with contextlib.suppress(OSError):
                self._video.abandon()

    def _video_for(self, picture: Image, header: wire.Header) -> Mp4Writer:
        height, width = picture.shape[:2]
        if not self._video or not self._video.takes((width, height), header["captured_at"]):
            path = self._folder / f"{self._stream}.mp4"
            if self._video:
                self._video.close()
            if self._video or self._earlier:
                path = self._video_from(header["frame"])
            self._video = Mp4Writer(path, self._rate, (width, height), header["captured_at"])
        return self._video

    def _video_from(self, frame: int) -> Path:
        return self._folder / f"{self._stream}+from{frame}.mp4"  # no stream's name has a plus


def _cannot_record(folder: Path, error: OSError | FFmpegError) -> OutputError:
    reason = error.strerror or str(error)
    return OutputError(f"cannot record into {folder}: {reason}; {ADVICE.get(error.errno or 0, OTHERWISE)}")
