"""Finds the videos of a recording that hold a span of time."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stages.recording.segment import start_of

LONGEST_LINE = 64 << 20  # bytes


class Listing:
    """The segments of one stream by their names; each folder is read once. Methods raise OSError."""

    def __init__(self, folder: Path, stream: str) -> None:
        self._home = folder / stream
        self._days = sorted(path.name for path in self._home.iterdir()) if self._home.is_dir() else []
        self._videos: dict[str, list[tuple[float, Path]]] = {}  # of each day, newest first, with their starts

    def between(self, first: float, last: float) -> list[Path]:
        """The videos that may show what was captured from ``first`` to ``last``, in Unix seconds, in order of time.

        Whole or being written. Only the days in question are looked at.
        """
        found: list[Path] = []
        latest = datetime.fromtimestamp(last, UTC).strftime("%Y-%m-%d")
        for day in reversed([day for day in self._days if day <= latest]):
            for start, video in self._of(day):
                if start <= first:
                    # it may have ended before
                    return [video, *found] if video.stat().st_mtime >= first else found
                if start <= last:
                    found.insert(0, video)
        return found

    def _of(self, day: str) -> list[tuple[float, Path]]:
        if day not in self._videos:
            videos = ((start_of(video), video) for video in (self._home / day).glob("*.mp4"))
            named = [(start, video) for start, video in videos if start is not None]
            self._videos[day] = sorted(named, key=_in_order, reverse=True)
        return self._videos[day]


def first_header(lines: Path) -> dict[str, Any] | None:
    """The ``masks`` header of the first frame in a file of them; None where there is none. Raises OSError."""
    with lines.open("rb") as file:
        line = file.readline(LONGEST_LINE)
    try:
        header = json.loads(line)
    except ValueError:
        return None
    return header if isinstance(header, dict) else None


def _in_order(started: tuple[float, Path]) -> tuple[float, int, str]:
    """Of several that began in the same second, the later ones have a number."""
    start, video = started
    return start, len(video.name), video.name
