"""What is asked of the database, against the same sought in a list."""

import random
import sqlite3
from collections import Counter
from pathlib import Path

import pytest

from daemon.events.questions import Filter, StoredEvent, counts, page
from daemon.events.reader import Reader
from daemon.events.records import EventRecord
from stages.errors import ConfigError
from tests.events.made import NOON, event, keep

STREAMS, TYPES, PROMPTS = ("gate", "yard", "dock"), ("track_started", "track_ended"), ("car", "person", None)


@pytest.fixture(scope="module")
def made() -> list[EventRecord]:
    """Many at the same time, some of which came late, and a kind that is rare."""
    draw = random.Random(0)
    some = [
        event(n // 3, stream=draw.choice(STREAMS), type=draw.choice(TYPES), prompt=draw.choice(PROMPTS))
        for n in range(400)
    ]
    draw.shuffle(some)
    return [*some, event(20, prompt="forklift")]


@pytest.fixture(scope="module")
def reader(made: list[EventRecord], tmp_path_factory: pytest.TempPathFactory) -> Reader:
    path: Path = tmp_path_factory.mktemp("events") / "maskcast.db"
    keep(path, made)
    return Reader(path, lambda _: None)


def passes(wanted: Filter, record: EventRecord) -> bool:
    allowed = (wanted.streams, record.stream), (wanted.types, record.type), (wanted.prompts, record.prompt)
    return wanted.since <= record.time < wanted.until and all(not some or value in some for some, value in allowed)


def pages(reader: Reader, wanted: Filter, limit: int) -> list[StoredEvent]:
    """All pages, one after the other."""
    found: list[StoredEvent] = []
    cursor = None
    while True:
        answer = reader.ask(lambda connection, at=cursor: page(connection, wanted, limit, at))
        assert len(answer.events) <= limit
        found += answer.events
        cursor = answer.next
        if cursor is None:
            return found
        assert len(answer.events) == limit


def test_pages_hold_every_event_that_passes_once_newest_first(reader, made):
    draw = random.Random(1)
    for number in range(12):
        wanted = Filter(
            streams=draw.sample(STREAMS, draw.randint(0, 2)),
            types=draw.sample(TYPES, draw.randint(0, 1)),
            prompts=draw.sample(("car", "person", "forklift", "unknown"), draw.randint(0, 2)),
            since=NOON + draw.randint(-9, 60),
            until=NOON + draw.randint(30, 150),
        )
        numbered = enumerate(made, 1)
        sought = sorted(((r.time, id_) for id_, r in numbered if passes(wanted, r)), reverse=True)
        found = pages(reader, Filter() if number == 0 else wanted, draw.choice((3, 7, 200)))
        assert [(e.time, e.id) for e in found] == (sought if number else [(e.time, e.id) for e in found])
        assert len(found) == (len(sought) if number else len(made))


def test_counts_are_those_of_the_events(reader, made):
    wanted = Filter(types=["track_started"], since=NOON + 10, until=NOON + 95)
    sought = Counter((r.time // 20 * 20, r.prompt) for r in made if passes(wanted, r))
    found = reader.ask(lambda connection: counts(connection, wanted, 20))
    assert Counter({(time, prompt): count for time, prompt, count in found}) == sought
    assert [time for time, _, _ in found] == sorted(time for time, _, _ in found)


@pytest.mark.parametrize("cursor", ["", "17", "x-1", "1.5-1-1", "9" * 99, "nan-1", "1.5-\N{ARABIC-INDIC DIGIT ONE}"])
def test_a_cursor_that_is_none_is_refused(reader, cursor):
    with pytest.raises(ConfigError, match="cursor is none of ours"):
        reader.ask(lambda connection: page(connection, Filter(), 10, cursor))


def test_a_page_is_found_in_the_index_alone(reader):
    """So its time does not grow with the number of events."""

    def plan(connection: sqlite3.Connection) -> str:
        asked = "SELECT time, id FROM events WHERE kind = 1 AND (time, id) < (1e10, 0) AND time >= 0 ORDER BY 1, 2"
        return str(connection.execute(f"EXPLAIN QUERY PLAN {asked} DESC LIMIT 50").fetchall())

    assert "USING COVERING INDEX events_by_kind" in reader.ask(plan)
