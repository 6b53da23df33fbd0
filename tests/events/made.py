"""Records made up for tests, and stores that keep them."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from daemon.events.questions import Filter, StoredEvent, page
from daemon.events.records import EventRecord, Record, TrackRecord
from daemon.events.store import EventStore

SESSION = "5d0c8a1e-3f52-4b7a-9c11-2e6f8d40b7a3"
NOON = 1795435200.0  # 2026-11-23, in Unix seconds


def event(number: int = 0, **other: Any) -> EventRecord:
    """An event ``number`` seconds past noon."""
    usual = {"stream": "gate", "session": SESSION, "type": "track_started", "time": NOON + number, "reason": "detected"}
    return EventRecord(**{**usual, "frame": number, "track": number, "prompt": "car", **other})


def track(number: int = 0, **other: Any) -> TrackRecord:
    usual = {"stream": "gate", "session": SESSION, "track": number, "prompt": "car", "first": NOON, "last": NOON + 1}
    view = {"score": 0.5, "box": (1.0, 2.0, 3.0, 4.0), "quality": 1.0, "snapshot": b"jpeg"}
    return TrackRecord(**{**usual, **view, **other})


@contextmanager
def opened(path: Path, **options: Any) -> Iterator[EventStore]:
    """A store at work; ``store.lost`` are the numbers of records that it has lost."""
    lost: list[int] = []
    store = EventStore(path, lost.append, **options)
    store.lost = lost  # type: ignore[attr-defined]
    store.start()
    try:
        yield store
    finally:
        store.close()


def keep(path: Path, records: Iterable[Record], **options: Any) -> list[int]:
    """Give records to a store and close it; how many were lost, each time."""
    with opened(path, **options) as store:
        for record in records:
            store.add(record)
    return store.lost  # type: ignore[attr-defined,no-any-return]


def kept(path: Path) -> list[StoredEvent]:
    """All events in a database that nobody has open, oldest first."""
    with opened(path) as store:
        found = store.reader.ask(lambda connection: page(connection, Filter(), 200)).events
    return found[::-1]
