"""What an earlier run left of a stream's segments: the last one is made whole, and frames are numbered on.

``<folder>/<stream>/.last`` names the segment that was begun last; names alone do not tell, as clocks are set back.
"""

import os
from pathlib import Path

import av
from av.error import FFmpegError

from stages.output.atomic_file import write_atomically
from stages.output.resume import last_line
from stages.output.wire import Header
from stages.recording.headers import captured, first_header, last_header
from stages.recording.segment import Segment, lines_of, pictures_of, remove_files, start_of, videos

_LAST = ".last"


def note_last(folder: Path, stream: str, video: Path) -> None:
    """Remember that the segment of ``video`` is begun. Raises OSError."""
    write_atomically(folder / stream / _LAST, f"{video.relative_to(folder / stream)}\n".encode())


def take_over(folder: Path, stream: str) -> tuple[Segment | None, int]:
    """Make the segment whole that was begun last: that segment, None where it is gone, and the next frame's number.

    A killed run leaves a torn last line at most, which is cut off, or a video without a picture: such a segment is
    removed, and its numbers are given again. Raises OSError.
    """
    last = _last(folder, stream)
    if last is None:
        return None, _next_number(folder, stream)
    lines = lines_of(last)
    if not has_picture(last):
        first = _number(first_header(lines))
        remove_files(last)
        return (None, first) if first >= 0 else take_over(folder, stream)
    if lines.exists():
        os.truncate(lines, last_line(lines)[1])
    number = _number(last_header(lines))
    return read_segment(stream, last), number + 1 if number >= 0 else _next_number(folder, stream)


def read_segment(stream: str, video: Path) -> Segment:
    """The segment of a complete ``video``, from its files. Raises OSError."""
    lines, size, count = lines_of(video), video.stat().st_size, 0
    if lines.exists():
        size += lines.stat().st_size
        with lines.open("rb") as file:
            count = sum(1 for _ in file)
    size += sum(path.stat().st_size for path in pictures_of(video).glob("*.jpg"))
    first, last = captured(first_header(lines)), captured(last_header(lines))
    start = first if first is not None else start_of(video) or 0.0
    return Segment(stream, video, start, last if last is not None else start, count, size)


def _next_number(folder: Path, stream: str) -> int:
    """The next frame's number, by the last lines of all segments. Raises OSError."""
    return max((_number(last_header(lines_of(video))) for video in videos(folder, stream)), default=-1) + 1


def has_picture(video: Path) -> bool:
    """Whether a picture can be read from the ``video``."""
    try:
        with av.open(str(video)) as container:
            return any(packet.size for packet in container.demux(video=0))
    except (FFmpegError, OSError, IndexError):
        return False


def _last(folder: Path, stream: str) -> Path | None:
    """The video of the segment that was begun last; None where that is not known or it is gone."""
    try:
        video = folder / stream / (folder / stream / _LAST).read_text().strip()
    except (OSError, ValueError):
        return None
    return video if start_of(video) is not None and video.is_file() else None


def _number(header: Header) -> int:
    number = header.get("frame")
    return number if type(number) is int else -1
