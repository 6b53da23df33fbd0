"""What is asked of the database: pages of events and of segments, single ones, how many there were when."""

import json
import re
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from math import inf

from daemon.events.records import Box
from stages.errors import ConfigError

_CURSOR = re.compile(r"(-?[0-9]{1,20}\.[0-9]{1,20})-([0-9]{1,18})")
_EVENTS = """SELECT e.id, k.stream, s.name, k.type, e.time, e.reason, e.at, e.frame, e.track, k.prompt, e.score, e.box,
    t.snapshot IS NOT NULL FROM events e JOIN kinds k ON k.id = e.kind JOIN sessions s ON s.id = e.session
    LEFT JOIN tracks t ON t.session = e.session AND t.track = e.track
    WHERE e.id IN (SELECT value FROM json_each(?))"""

# steps from each stream to the next in the index
_STREAMS = """WITH RECURSIVE known(stream) AS (SELECT min(stream) FROM segments UNION ALL
    SELECT (SELECT min(stream) FROM segments WHERE stream > known.stream) FROM known WHERE stream IS NOT NULL)
    SELECT stream FROM known WHERE stream IS NOT NULL"""
_SEGMENTS = """SELECT stream, start, end, frames, bytes, path, id FROM segments
    WHERE stream = ? AND (start, id) < (?, ?) AND end >= ? ORDER BY start DESC, id DESC LIMIT ?"""

_Place = tuple[float, int]  # time and id of an event, by which events are sorted


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event as it is kept; see `daemon.events.records.EventRecord`."""

    id: int
    stream: str
    session: str
    type: str
    time: float
    reason: str
    at: float | None
    frame: int | None
    track: int | None
    prompt: str | None
    score: float | None
    box: Box | None
    snapshot: bool  # its track has one


@dataclass(frozen=True, slots=True)
class StoredSegment:
    """A complete segment; see `stages.recording.segment.Segment`."""

    stream: str
    start: float
    end: float
    frames: int
    bytes: int
    path: str  # of the video, in the folder of recordings


@dataclass(frozen=True, slots=True)
class Filter:
    """Which events are asked for; an empty collection, and an infinite time, lets all pass."""

    streams: Collection[str] = ()
    types: Collection[str] = ()
    prompts: Collection[str] = ()
    since: float = -inf  # Unix seconds, the first moment
    until: float = inf  # Unix seconds, the moment after the last


@dataclass(frozen=True, slots=True)
class Page:
    """Events, newest first, and where the next page begins; None where there is none."""

    events: list[StoredEvent]
    next: str | None


def page(connection: sqlite3.Connection, wanted: Filter, limit: int, cursor: str | None = None) -> Page:
    """A page of at most ``limit`` events, from ``cursor`` on, the ``next`` of the page before.

    Each kind of events (stream, type and prompt) is sorted by time in the index; the newest of all are among the newest
    of the kinds whose own newest is latest. So the time it takes depends on the number of kinds, never on that of
    events. Raises ConfigError for a cursor that is none.
    """
    before = (wanted.until, 0) if cursor is None else min(_place_of(cursor), (wanted.until, 0))
    heads: list[tuple[_Place, int]] = []
    for kind, _ in _kinds(connection, wanted):
        newest = _newest(connection, kind, before, wanted.since, 1)
        heads += [(place, kind) for place in newest]
    heads = sorted(heads, reverse=True)[: limit + 1]
    # with so many heads, nothing older than the last of them is on the page
    since = heads[-1][0][0] if len(heads) > limit else wanted.since
    places = [place for _, kind in heads for place in _newest(connection, kind, before, since, limit + 1)]
    chosen = sorted(places, reverse=True)[: limit + 1]
    events = events_of(connection, [id_ for _, id_ in chosen[:limit]])
    return Page(events, _cursor_of(chosen[limit - 1]) if len(chosen) > limit else None)


def events_of(connection: sqlite3.Connection, ids: Sequence[int]) -> list[StoredEvent]:
    """The events with these ids, in this order; without those that are gone."""
    rows = connection.execute(_EVENTS, (json.dumps(ids),))
    found = {row[0]: StoredEvent(*(*row[:-2], _box(row[-2]), bool(row[-1]))) for row in rows}
    return [found[id_] for id_ in ids if id_ in found]


def snapshot(connection: sqlite3.Connection, id_: int) -> bytes | None:
    """The JPEG of the best view of an event's track; None where the event or the picture is gone, or never was."""
    row = connection.execute(
        "SELECT t.snapshot FROM events e JOIN tracks t ON t.session = e.session AND t.track = e.track WHERE e.id = ?",
        (id_,),
    ).fetchone()
    return row[0] if row else None


def counts(connection: sqlite3.Connection, wanted: Filter, step: int) -> list[tuple[float, str | None, int]]:
    """How many events there were: start of the ``step`` seconds, in Unix seconds and a multiple of it, prompt, number.

    Oldest first, without zeros. ``wanted`` has both times.
    """
    found: Counter[tuple[int, str | None]] = Counter()
    for kind, prompt in _kinds(connection, wanted):
        rows = connection.execute(
            "SELECT CAST(time / ? AS INTEGER), count(*) FROM events WHERE kind = ? AND time >= ? AND time < ? "
            "GROUP BY 1",
            (step, kind, wanted.since, wanted.until),
        )
        for number, count in rows:
            found[number, prompt] += count
    ordered = sorted(found.items(), key=lambda item: (item[0][0], item[0][1] or ""))
    return [(float(number * step), prompt, count) for (number, prompt), count in ordered]


def segments(
    connection: sqlite3.Connection, wanted: Filter, limit: int, cursor: str | None = None
) -> tuple[list[StoredSegment], str | None]:
    """At most ``limit`` complete segments that overlap the time, those that began last first; and the next cursor.

    Of ``wanted`` only streams and times count. Raises ConfigError for a cursor that is none.
    """
    before = (wanted.until, 0) if cursor is None else min(_place_of(cursor), (wanted.until, 0))
    found: list[tuple[float, int, StoredSegment]] = []
    for (stream,) in connection.execute(_STREAMS).fetchall():
        if not wanted.streams or stream in wanted.streams:
            rows = connection.execute(_SEGMENTS, (stream, *before, wanted.since, limit + 1))
            found += [(row[1], row[-1], StoredSegment(*row[:-1])) for row in rows]
    found = sorted(found, key=lambda one: one[:2], reverse=True)
    on = [segment for _, _, segment in found[:limit]]
    return on, _cursor_of(found[limit - 1][:2]) if len(found) > limit else None


def _kinds(connection: sqlite3.Connection, wanted: Filter) -> Iterable[tuple[int, str | None]]:
    """Id and prompt of the kinds that pass."""
    for id_, *kind in connection.execute("SELECT id, stream, type, prompt FROM kinds").fetchall():
        allowed = (wanted.streams, wanted.types, wanted.prompts)
        if all(not some or value in some for value, some in zip(kind, allowed, strict=True)):
            yield id_, kind[2]


def _newest(connection: sqlite3.Connection, kind: int, before: _Place, since: float, limit: int) -> Sequence[_Place]:
    return connection.execute(
        "SELECT time, id FROM events WHERE kind = ? AND (time, id) < (?, ?) AND time >= ? "
        "ORDER BY time DESC, id DESC LIMIT ?",
        (kind, *before, since, limit),
    ).fetchall()


def _cursor_of(place: _Place) -> str:
    return f"{place[0]!r}-{place[1]}"


def _place_of(cursor: str) -> _Place:
    match = _CURSOR.fullmatch(cursor)
    if match is None:
        raise ConfigError("cursor is none of ours; take what the page before has as next, or leave it out")
    return float(match[1]), int(match[2])


def _box(text: str | None) -> Box | None:
    return None if text is None else tuple(json.loads(text))
