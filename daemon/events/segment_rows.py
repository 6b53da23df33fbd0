"""The table of segments, brought in line with the folders that they are in."""

import logging
import sqlite3
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from daemon.events.records import SegmentGone
from stages.errors import one_line
from stages.recording.leftover import read_segment
from stages.recording.segment import Segment, videos

_UPSERT = """INSERT INTO segments(stream, folder, path, start, end, frames, bytes) VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT(folder, path) DO UPDATE SET start = excluded.start, end = excluded.end, frames = excluded.frames,
    bytes = excluded.bytes"""

log = logging.getLogger(__name__)


def write(connection: sqlite3.Connection, record: Segment | SegmentGone) -> None:
    """Within a transaction. Raises sqlite3.Error."""
    match record:
        case Segment():
            about = record.start, record.end, record.frames, record.bytes
            connection.execute(_UPSERT, (record.stream, *_place(record.video), *about))
        case SegmentGone():
            connection.execute("DELETE FROM segments WHERE folder = ? AND path = ?", _place(record.video))


def forget_missing(connection: sqlite3.Connection) -> None:
    """Delete the rows of segments that are gone, as by hand; all stay while no stream's folder is there, as when the
    disk is away and its mount point stays. Each day is listed once. Raises sqlite3.Error."""
    by_day: dict[tuple[str, str], list[tuple[str, int]]] = defaultdict(list)
    for id_, folder, path in connection.execute("SELECT id, folder, path FROM segments"):
        day, _, name = path.rpartition("/")
        by_day[folder, day].append((name, id_))
    mounted = {folder for folder, day in by_day if (Path(folder) / day).parent.is_dir()}
    for (folder, day), known in by_day.items():
        if folder not in mounted:
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
    place = str(folder.absolute())
    try:
        place.encode()
        there = list(videos(folder, stream))[:-1]
    except UnicodeEncodeError:
        log.warning("segments in %s are not listed: its name is not UTF-8; set another record.dir", ascii(place))
        return []
    except OSError:  # its recording says so
        return []
    rows = connection.execute("SELECT path FROM segments WHERE folder = ?", (place,))
    known = {path for (path,) in rows}
    return [video for video in there if _place(video)[1] not in known]


def take_in(connection: sqlite3.Connection, found: Iterable[tuple[str, Path]]) -> None:
    """Add segments, each a stream and a video, whose files are read for it; those that cannot be are passed over.

    Within a transaction. Raises sqlite3.Error.
    """
    for stream, video in found:
        try:
            write(connection, read_segment(stream, video))
        except FileNotFoundError:  # it has just gone
            continue
        except (OSError, ValueError, OverflowError, sqlite3.IntegrityError, sqlite3.DataError) as error:
            log.warning("the segment %s is not listed: %s", ascii(str(video)), one_line(error))


def _place(video: Path) -> tuple[str, str]:
    """The folder of recordings, and the path in it: ``<stream>/<day>/<name>``."""
    return str(video.absolute().parents[2]), "/".join(video.parts[-3:])
