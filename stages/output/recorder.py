"""A stream's recording: JSON lines, an MP4 of the annotated frames and, on request, each annotated frame as a JPEG.

The recording stays readable when the program is killed: the video is written in fragments of a second, and each line in
one piece. Another run can continue it.
"""

import contextlib
import errno
from pathlib import Path

from av.error import FFmpegError

from stages.errors import OutputError
from stages.output import wire
from stages.output.atomic_file import AtomicFile, write_atomically
from stages.output.mp4 import Mp4Writer
from stages.output.resume import find_resume_point, move_old_recording
from stages.types import Frame, Image

ANOTHER_FOLDER = "choose another folder"
FREE_SPACE = f"free some space or {ANOTHER_FOLDER}"
ADVICE = {  # by error number
    errno.ENOSPC: FREE_SPACE,
    errno.EDQUOT: FREE_SPACE,
    errno.EFBIG: FREE_SPACE,
    errno.EEXIST: f"move what is there or {ANOTHER_FOLDER}",
    errno.EACCES: "choose a folder that may be written",
    errno.EROFS: "choose a folder that may be written",
}


class Recorder:
    """Writes ``<stream>.masks.jsonl``, ``<stream>.mp4`` and, with ``frames``, ``<stream>-frames/000000.jpg``.

    ``folder`` is created; an existing recording of the stream in it is moved into a folder named after its time.
    ``rate`` is the nominal frame rate in Hz. With ``resume`` an existing recording is continued: its lines and JPEGs
    with frame ``next_frame``, after its last complete line, and its video in another file. Raises OutputError when the
    folder cannot be written, the disk is full or existing files are not a recording; all files are then complete.
    """

    def __init__(self, folder: Path, stream: str, rate: float, frames: bool = False, resume: bool = False) -> None:
        self._folder, self._stream, self._rate = folder, stream, rate
        self._jpeg_folder = folder / f"{stream}-frames" if frames else None
        self._video: Mp4Writer | None = None
        self._failure: OutputError | None = None
        lines = folder / f"{stream}.masks.jsonl"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._resumed = find_resume_point(lines) if resume else None
            if self._resumed is None:
                move_old_recording(folder, stream)
            if self._jpeg_folder:
                self._jpeg_folder.mkdir(exist_ok=self._resumed is not None)
            self._lines = AtomicFile(lines, self._resumed.size if self._resumed else None)
            self.next_frame = self._resumed.frame + 1 if self._resumed else 0
            if self._resumed:  # left by a run that was killed before its first line: its frames are written again
                self._video_from(self.next_frame).unlink(missing_ok=True)
        except OSError as error:
            raise cannot_record(folder, error) from error

    def skip(self, frame: Frame) -> None:
        """Skip a frame that is already recorded: one with an index below ``next_frame``.

        Raises OutputError when the last one does not match the recording, which is then of another source.
        """
        if self._resumed and frame.index == self._resumed.frame:
            self._resumed.compare(frame)

    def write(self, header: wire.Header, annotated: Image, jpeg: bytes | None = None) -> None:
        """Append one frame: its ``masks`` header, the ``annotated`` frame, uint8 (H, W, 3) RGB, and that as JPEG.

        The video's timestamps follow ``captured_at``. When the frame size changes, or after an hour without a frame,
        the video continues in ``<stream>+from<frame>.mp4``. Raises OutputError, also on every call after a failure.
        """
        if self._failure:
            raise self._failure
        line = wire.to_json(header) + b"\n"
        try:
            if self._jpeg_folder and jpeg is not None:
                write_atomically(self._jpeg_folder / f"{header['frame']:06d}.jpg", jpeg)
            self._video_for(annotated, header).write(annotated, header["captured_at"])
            self._lines.write(line)
            self._lines.commit()
        except (OSError, FFmpegError) as error:
            self._failure = cannot_record(self._folder, error)
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
            self._failure = cannot_record(self._folder, error)
            self._abandon()
            raise self._failure from error

    def _abandon(self) -> None:
        """Close the open files after a failure."""
        with contextlib.suppress(OSError):
            self._lines.close()
        if self._video:
            with contextlib.suppress(OSError):
                self._video.abandon()

    def _video_for(self, annotated: Image, header: wire.Header) -> Mp4Writer:
        height, width = annotated.shape[:2]
        if not self._video or not self._video.accepts((width, height), header["captured_at"]):
            path = self._folder / f"{self._stream}.mp4"
            if self._video:
                self._video.close()
            if self._video or self._resumed:
                path = self._video_from(header["frame"])
            self._video = Mp4Writer(path, self._rate, (width, height), header["captured_at"])
        return self._video

    def _video_from(self, frame: int) -> Path:
        return self._folder / f"{self._stream}+from{frame}.mp4"  # stream names never contain a plus


def cannot_record(folder: Path, error: OSError | FFmpegError) -> OutputError:
    """What to tell of an ``error`` in ``folder``."""
    reason = error.strerror or str(error)
    return OutputError(f"cannot record into {folder}: {reason}; {ADVICE.get(error.errno or 0, ANOTHER_FOLDER)}")
