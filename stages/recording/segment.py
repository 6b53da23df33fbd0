"""A segment: a few minutes of a live stream's recording, in two files named by their UTC start.

``<folder>/<stream>/2026-11-27/14-05-00Z.mp4`` and, beside it, ``14-05-00Z.masks.jsonl``. Annotated frames that are kept
as JPEG files are in ``14-05-00Z-frames``.
"""

import contextlib
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_NAME = re.compile(r"(\d\d-\d\d-\d\dZ)(\+\d+)?\.mp4")


@dataclass(frozen=True, slots=True)
class Segment:
    """A complete segment."""

    stream: str
    video: Path  # the MP4
    start: float  # Unix seconds, capture time of the first frame
    end: float  # Unix seconds, capture time of the last frame
    frames: int
    bytes: int  # of its files

    @property
    def lines(self) -> Path:
        """The file of masks headers."""
        return lines_of(self.video)


class SegmentObserver(Protocol):
    """Is told what becomes of segments, from any thread; returns at once and raises nothing."""

    def segment_closed(self, segment: Segment) -> None:
        """The segment is complete."""
        ...

    def segment_removed(self, stream: str, video: Path) -> None:
        """Its files are gone."""
        ...


def video_path(folder: Path, stream: str, start: float) -> Path:
    """The video of a segment that begins at ``start``, in Unix seconds; one that no file has yet."""
    moment = datetime.fromtimestamp(start, UTC)
    day = folder / stream / moment.strftime("%Y-%m-%d")
    name = moment.strftime("%H-%M-%SZ")
    path, number = day / f"{name}.mp4", 1
    while path.exists() or lines_of(path).exists():
        path, number = day / f"{name}+{number}.mp4", number + 1
    return path


def lines_of(video: Path) -> Path:
    """The file of masks headers beside a ``video``."""
    return video.with_name(f"{video.stem}.masks.jsonl")


def pictures_of(video: Path) -> Path:
    """The folder of JPEG files beside a ``video``."""
    return video.with_name(f"{video.stem}-frames")


def remove_files(video: Path) -> None:
    """Remove a segment, the ``video`` last: what is left half-way is still found. Raises OSError."""
    lines_of(video).unlink(missing_ok=True)
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(pictures_of(video))
    video.unlink(missing_ok=True)


def start_of(video: Path) -> float | None:
    """Unix seconds, whole, at which the segment of a ``video`` began, by its name; None for any other file."""
    name = _NAME.fullmatch(video.name)
    if name is None or not _DAY.fullmatch(video.parent.name):
        return None
    try:
        moment = datetime.strptime(f"{video.parent.name} {name[1]}", "%Y-%m-%d %H-%M-%SZ")
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC).timestamp()


def videos(folder: Path, stream: str) -> Iterator[Path]:
    """The videos of a stream's segments, oldest first, whole or being written. Raises OSError."""
    for day in days(folder / stream):
        yield from of_day(day)


def days(home: Path) -> list[Path]:
    """The folders of days in that of a stream, oldest first. Raises OSError."""
    return sorted(path for path in home.iterdir() if _DAY.fullmatch(path.name)) if home.is_dir() else []


def of_day(day: Path) -> list[Path]:
    """The videos of segments in the folder of a day, oldest first. Raises OSError."""
    return sorted((path for path in day.iterdir() if start_of(path) is not None), key=_in_order)


def _in_order(video: Path) -> tuple[str, int]:
    name = _NAME.fullmatch(video.name)
    assert name is not None
    return name[1], int(name[2] or 0)
