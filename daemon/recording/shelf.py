"""The complete segments of a folder, oldest first."""

import bisect
import contextlib
import threading
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from stages.recording.segment import lines_of, pictures_of, remove_files, start_of, videos


@dataclass(frozen=True, slots=True, order=True)
class Kept:
    """A complete segment."""

    start: float  # Unix seconds
    video: Path
    stream: str
    bytes: int


class Shelf:
    """What is known of the segments in ``folder``; others may delete them meanwhile. Any thread may call."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kept: list[Kept] = []
        self._gone: set[Path] = set()  # videos that were removed since the last look began
        self._lock = threading.Lock()

    @property
    def bytes(self) -> int:
        """Of all segments."""
        with self._lock:
            return sum(kept.bytes for kept in self._kept)

    def __iter__(self) -> Iterator[Kept]:
        """All segments, oldest first."""
        with self._lock:
            return iter(tuple(self._kept))

    def scan(self, being_written: Collection[Path]) -> None:
        """Look at the folder again, whatever streams are in it. Raises OSError.

        A folder in it that cannot be read, as lost+found of a disk, is passed over.
        """
        with self._lock:
            self._gone.clear()
        found: dict[Path, Kept] = {}
        for stream in sorted(path.name for path in self._folder.iterdir() if path.is_dir()):
            with contextlib.suppress(OSError):
                for video in videos(self._folder, stream):
                    if video not in being_written:
                        found[video] = Kept(start_of(video) or 0.0, video, stream, written(video))
        with self._lock:  # what was completed meanwhile stays, and what was removed does not come back
            found |= {kept.video: kept for kept in self._kept if kept.video in found or _bytes(kept.video)}
            self._kept = sorted(kept for video, kept in found.items() if video not in self._gone)

    def add(self, kept: Kept) -> None:
        """A segment is complete."""
        with self._lock:
            self._kept = [other for other in self._kept if other.video != kept.video]
            bisect.insort(self._kept, kept)
            self._gone.discard(kept.video)

    def remove(self, kept: Kept) -> None:
        """Remove a segment, and its day where that is empty now. Raises OSError, and forgets it all the same."""
        with self._lock:
            self._kept = [other for other in self._kept if other.video != kept.video]
            self._gone.add(kept.video)
        remove_files(kept.video)
        with contextlib.suppress(OSError):
            kept.video.parent.rmdir()


def written(video: Path) -> int:
    """Bytes that a segment takes up on its disk so far."""
    pictures = pictures_of(video)
    jpegs = pictures.iterdir() if pictures.is_dir() else ()
    return sum(map(_bytes, (video, lines_of(video), *jpegs)))


def _bytes(path: Path) -> int:
    try:
        status = path.stat()
        return max(status.st_size, 512 * status.st_blocks)
    except OSError:  # it is being removed
        return 0
