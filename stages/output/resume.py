"""An existing recording of a stream: find where to resume it, or move it away."""

import errno
import json
import re
import time
from dataclasses import dataclass
from pathlib import Path

from stages.errors import OutputError
from stages.output.wire import Header
from stages.types import Frame

BLOCK = 1 << 16  # bytes per read, backwards from the end


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """The last complete line of an interrupted recording."""

    path: Path
    size: int  # bytes of the complete lines
    header: Header  # the last complete line

    @property
    def frame(self) -> int:
        return int(self.header["frame"])

    def compare(self, frame: Frame) -> None:
        """Raises OutputError when ``frame``, which has the last line's number, does not match the last line."""
        height, width = frame.image.shape[:2]
        found = {
            "pts": frame.pts,
            "time_base": [frame.time_base.numerator, frame.time_base.denominator],
            "clock": str(frame.clock),
            "width": width,
            "height": height,
        }
        recorded = {key: self.header.get(key) for key in found}
        wrong = [f"{key} {recorded[key]} and not {value}" for key, value in found.items() if recorded[key] != value]
        if wrong:
            raise OutputError(
                f"cannot go on with {self.path}: it is of another source, frame {self.frame} has {', '.join(wrong)};"
                " name the source that was recorded, or record without --resume"
            )


def find_resume_point(path: Path) -> ResumePoint | None:
    """The last complete line of ``path``; None when there is none. An incomplete last line is ignored.

    Raises OSError, and OutputError when the last complete line is not one of a recording.
    """
    try:
        line, size = last_line(path)
    except FileNotFoundError:
        return None
    if not size:
        return None
    try:
        header = json.loads(line)
        valid = type(header["frame"]) is int and header["frame"] >= 0
    except (ValueError, TypeError, KeyError, RecursionError):
        valid = False
    if not valid:
        raise OutputError(
            f"cannot go on with {path}: its last line is not the masks of a frame;"
            " mend the file, or record without --resume, which moves it aside"
        )
    return ResumePoint(path, size, header)


def last_line(path: Path) -> tuple[bytes, int]:
    """The last line with a line feed, without it, and the size of the file up to its end; size 0: no such line."""
    with path.open("rb") as file:
        start = file.seek(0, 2)
        tail = b""  # from ``start`` on
        while start and tail.count(b"\n") < 2:
            length = min(BLOCK, start)
            start -= length
            file.seek(start)
            tail = file.read(length) + tail
    end = tail.rfind(b"\n")
    return tail[tail.rfind(b"\n", 0, max(end, 0)) + 1 : max(end, 0)], start + end + 1


def move_old_recording(folder: Path, stream: str) -> None:
    """Move an existing recording of the stream into a folder named after its time.

    Raises OSError, also when a video of that name exists without a recording's JSON lines.
    """
    lines = folder / f"{stream}.masks.jsonl"
    names = re.compile(rf"{re.escape(stream)}(-frames|\.masks\.jsonl|(\+(from)?\d+)?\.mp4)")
    found = sorted(path for path in folder.iterdir() if names.fullmatch(path.name))
    if lines not in found:
        videos = [path.name for path in found if path.suffix == ".mp4"]
        if videos:  # it may be the source itself
            raise FileExistsError(errno.EEXIST, f"{videos[0]} is there and was not recorded by maskcast")
        return
    target = folder / time.strftime("earlier-%Y%m%dT%H%M%SZ", time.gmtime(lines.stat().st_mtime))
    for path in found:
        _move(path, target)


def _move(path: Path, folder: Path) -> None:
    """Move ``path`` into ``folder``, with a number appended where the name is taken."""
    folder.mkdir(exist_ok=True)
    target, number = folder / path.name, 1
    while target.exists():
        target, number = folder / f"{path.name}.{number}", number + 1
    path.rename(target)
