"""Finds the videos of a recording that hold a span of time."""

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from stages.recording.segment import days, of_day, start_of


class Listing:
    """The segments of one stream by their names; each folder is read once. Methods raise OSError."""

    def __init__(self, folder: Path, stream: str) -> None:
        self._home = folder / stream
        self._days = [path.name for path in days(self._home)]
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
            self._videos[day] = []
            with suppress(FileNotFoundError):  # the day has just gone
                videos = reversed(of_day(self._home / day))
                self._videos[day] = [(start_of(video) or 0.0, video) for video in videos]
        return self._videos[day]
