"""The table of segments, brought in line with the folders that they are in."""

import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from daemon.events.records import SegmentGone
from stages.recording.leftover import read_segment
from stages.recording.segment import Segment, videos

_UPSERT = """INSERT INTO segments(stream, folder, path, start, end, frames, bytes) VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT(folder, path) DO UPDATE SET start = excluded.start, end = excluded.end, frames = excluded.frames,
    bytes = excluded.bytes"""


def write(connection: sqlite3.Connection, record: Segment | SegmentGone) -> None:
    """Within a transaction. Raises sqlite3.Error."""
    match record:
        case Segment():
            about = record.start, record.end, record.frames, record.bytes
            connection.execute(_UPSERT, (record.stream, *_place(record.video), *about))
        case SegmentGone():
            connection.execute("DELETE FROM segments WHERE folder = ? AND path = ?", _place(record.video))


def forget_missing(connection: sqlite3.Connection) -> None:
    """Delete the rows of segments that are gone, as by hand; all stay while their folder cannot be read, as when its
    disk is away. Each day is listed once. Raises sqlite3.Error."""
    by_day: dict[tuple[str, str], list[tuple[str, int]]] = defaultdict(list)
    for id_, folder, path in connection.execute("SELECT id, folder, path FROM segments"):
        day, _, name = path.rpartition("/")
        by_day[folder, day].append((name, id_))
    for (folder, day), known in by_day.items():
        if not Path(folder).is_dir():
            continue
        try:
            there = {path.name for path in (Path(folder) / day).iterdir()}
        except FileNotFoundError:
            there = set()
        except OSError:
            continue
        gone = [(id_,) for name, id_ in known if name not in there]
        connection.executemany("DELETE FROM segments WHERE id = ?", gone)


def unknown(connection: sqlite3.Connection, folder: Path, stream: str) -> list[Path]:
    """The videos of segments in the folder that are not in the table, as after the database was lost; oldest first.

    Not the newest: it may be written, and its recorder tells of it when it is complete. Raises sqlite3.Error.
    """
    try:
        there = list(videos(folder, stream))[:-1]
    except OSError:  # its recording says so
        return []
    rows = connection.execute("SELECT path FROM segments WHERE folder = ?", (str(folder.absolute()),))
    known = {path for (path,) in rows}
    return [video for video in there if _place(video)[1] not in known]


def take_in(connection: sqlite3.Connection, stream: str, found: Sequence[Path]) -> None:
    """Add segments whose files are read for it. Within a transaction. Raises sqlite3.Error."""
    for video in found:
        with suppress(OSError):  # it has just gone
            write(connection, read_segment(stream, video))


def _place(video: Path) -> tuple[str, str]:
    """The folder of recordings, and the path in it: ``<stream>/<day>/<name>``."""
    return str(video.absolute().parents[2]), "/".join(video.parts[-3:])
