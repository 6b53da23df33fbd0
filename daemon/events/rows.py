"""Writes records as rows, and removes those that have had their time."""

import json
import sqlite3

from daemon.events import segment_rows
from daemon.events.records import EventRecord, Record, TrackRecord

MOST_EVENTS = 1_000_000  # about 100 bytes each
MOST_TRACKS = 200_000  # about 5 KB each, for the picture
CHUNK = 2000  # rows removed in one transaction: the next batch waits for it

_INSERT_EVENT = """INSERT INTO events(kind, session, time, at, frame, track, reason, score, box)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_UPSERT_TRACK = """INSERT INTO tracks(session, track, stream, prompt, first, last, score, box, quality, snapshot)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT(session, track) DO UPDATE SET last = excluded.last, score = max(score, excluded.score),
    box = iif(excluded.quality >= quality, excluded.box, box), quality = max(quality, excluded.quality),
    snapshot = iif(excluded.quality >= quality, coalesce(excluded.snapshot, snapshot), snapshot)"""

_Kind = tuple[str, str, str | None]  # stream, type, prompt


class Rows:
    """Inserts into the tables of one connection, within its transaction.

    It knows which kinds and sessions there are: after a rollback, make another. Raises sqlite3.Error, and ValueError,
    TypeError and OverflowError for a record that no row can hold.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        kinds = connection.execute("SELECT stream, type, prompt, id FROM kinds")
        self._kinds: dict[_Kind, int] = {(stream, type_, prompt): id_ for stream, type_, prompt, id_ in kinds}
        self._sessions: dict[str, int] = dict(connection.execute("SELECT name, id FROM sessions"))

    def write(self, record: Record) -> None:
        """Insert a record, or bring the row of its track up to date."""
        match record:
            case EventRecord():
                self._event(record)
            case TrackRecord():
                self._track(record)
            case _:
                segment_rows.write(self._connection, record)

    def _event(self, event: EventRecord) -> None:
        kind = self._kind(event.stream, event.type, event.prompt)
        box = None if event.box is None else json.dumps(event.box)
        about = event.time, event.at, event.frame, event.track, event.reason, event.score, box
        self._connection.execute(_INSERT_EVENT, (kind, self._session(event.session), *about))

    def _track(self, track: TrackRecord) -> None:
        about = track.first, track.last, track.score, json.dumps(track.box), track.quality, track.snapshot
        who = self._session(track.session), track.track, track.stream, track.prompt
        self._connection.execute(_UPSERT_TRACK, (*who, *about))

    def _kind(self, *kind: *_Kind) -> int:
        if kind not in self._kinds:
            self._kinds[kind] = self._insert("INSERT INTO kinds(stream, type, prompt) VALUES (?, ?, ?)", *kind)
        return self._kinds[kind]

    def _session(self, name: str) -> int:
        if name not in self._sessions:
            self._sessions[name] = self._insert("INSERT INTO sessions(name) VALUES (?)", name)
        return self._sessions[name]

    def _insert(self, statement: str, *values: str | None) -> int:
        """The id of the new row."""
        number = self._connection.execute(statement, values).lastrowid
        assert number is not None
        return number


_TIDY = (
    """DELETE FROM events WHERE id IN
    (SELECT id FROM events WHERE id <= (SELECT max(id) FROM events) - :events ORDER BY id LIMIT :chunk)""",
    """DELETE FROM tracks WHERE id IN
    (SELECT id FROM tracks WHERE id <= (SELECT max(id) FROM tracks) - :tracks ORDER BY id LIMIT :chunk)""",
    """DELETE FROM events WHERE id IN
    (SELECT e.id FROM kinds k JOIN events e ON e.kind = k.id AND e.time < :oldest LIMIT :chunk)""",
    "DELETE FROM tracks WHERE id IN (SELECT id FROM tracks WHERE last < :oldest LIMIT :chunk)",
)


def remove_old(connection: sqlite3.Connection, oldest: float) -> bool:
    """Remove what is older than ``oldest``, in Unix seconds, and the oldest above the most that are kept.

    At most CHUNK rows in each way; False when more are left. Ids rise with time, and are never used again. Raises
    sqlite3.Error.
    """
    bounds = {"events": MOST_EVENTS, "tracks": MOST_TRACKS, "oldest": oldest, "chunk": CHUNK}
    return max(connection.execute(statement, bounds).rowcount for statement in _TIDY) < CHUNK


_UNUSED = (
    # as of a prompt that nobody has asked for in all that time
    "DELETE FROM kinds WHERE NOT EXISTS (SELECT 1 FROM events WHERE events.kind = kinds.id)",
    "DELETE FROM sessions WHERE id NOT IN (SELECT session FROM events UNION SELECT session FROM tracks)",
)


def remove_unused(connection: sqlite3.Connection) -> bool:
    """Remove kinds and sessions of which nothing is kept; whether there were any. It reads all events.

    Rows made before know them still. Raises sqlite3.Error.
    """
    return sum(connection.execute(statement).rowcount for statement in _UNUSED) > 0
