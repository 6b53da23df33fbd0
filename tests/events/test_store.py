"""The database: real files, killed writers, damage, full disks and rivals."""

import itertools
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from daemon.errors import BusyError
from daemon.events import rows, store
from daemon.events.database import APPLICATION, MIGRATIONS
from daemon.events.questions import Filter, page, snapshot
from daemon.events.store import EventStore
from stages.errors import ConfigError
from tests.events.made import NOON, event, keep, kept, opened, track
from tests.support.program import wait_until
from tests.support.small_disk import full_at

pytestmark = pytest.mark.process

WRITER = """
import sys
from pathlib import Path
from daemon.events import store
from tests.events.made import event, track
store.BATCH = 0.01
kept = store.EventStore(Path(sys.argv[1]), print)
kept.start()
for number in range(10**6):
    while len(kept._waiting) > 100:
        pass
    kept.add(track(number, snapshot=b"%d" % number))
    kept.add(event(number))
    if number == 300:
        print("on", flush=True)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out" / "maskcast.db"


@pytest.fixture
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BATCH", "RETRY", "TIDY", "LOOK"):
        monkeypatch.setattr(store, name, 0.02)


def events_in(opened_store: EventStore) -> list[int | None]:
    """The frames of the events, newest first."""
    try:
        return [e.frame for e in opened_store.reader.ask(lambda found: page(found, Filter(), 200)).events]
    except BusyError:
        return []


def test_what_was_kept_is_there_after_a_restart_and_ids_go_on(path):
    assert keep(path, [track(3), event(3, box=(1.0, 2.0, 3.0, 4.0), score=0.5)]) == []
    assert {file.name for file in path.parent.iterdir()} == {"maskcast.db", ".maskcast.db.lock"}
    keep(path, [event(4, prompt=None, track=None)])
    first, second = kept(path)
    assert (first.frame, first.box, first.score, first.prompt, first.snapshot) == (3, (1, 2, 3, 4), 0.5, "car", True)
    assert (second.id, second.prompt, second.track, second.snapshot) == (first.id + 1, None, None, False)


def test_of_several_views_of_a_track_the_best_is_kept(path):
    views = [track(quality=1.0, snapshot=b"good"), track(quality=2.0, snapshot=b"best"), track(snapshot=b"return")]
    keep(path, [event(0), *views, track(last=NOON + 60, quality=2.0, snapshot=None)])
    with opened(path) as there:
        assert there.reader.ask(lambda found: snapshot(found, 1)) == b"best"
        assert there.reader.ask(lambda found: found.execute("SELECT first, last FROM tracks").fetchall()) == [
            (NOON, NOON + 60)
        ]


def test_a_killed_daemon_leaves_whole_events_without_a_hole_each_with_its_picture(path):
    """kill -9 while it writes a batch every 10 ms, three times."""
    for _ in range(3):
        shutil.rmtree(path.parent, ignore_errors=True)
        with subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "on\n"
            writer.kill()
        assert writer.returncode == -signal.SIGKILL
        with opened(path) as there:
            found = there.reader.ask(
                lambda found: found.execute(
                    "SELECT e.frame, t.snapshot FROM events e LEFT JOIN tracks t USING (track) ORDER BY e.id"
                ).fetchall()
            )
        assert len(found) > 100
        assert found == [(number, b"%d" % number) for number in range(len(found))]


@pytest.mark.parametrize("content", [b"no database" * 999, b"SQLite format 3\0" + b"\xff" * 9999], ids=["text", "torn"])
def test_a_damaged_database_is_moved_aside_and_a_new_one_begun(path, content, caplog):
    path.parent.mkdir()
    path.write_bytes(content)
    keep(path, [event(1)])
    assert [e.frame for e in kept(path)] == [1]
    (aside,) = path.parent.glob("maskcast-damaged-*.db")
    assert aside.read_bytes() == content
    assert f"{path} is damaged; it was moved to {aside.name}, and a new one begins" in caplog.messages


def test_the_database_of_another_program_is_moved_aside_unchanged(path):
    path.parent.mkdir()
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE precious(a)")
    other.close()
    before = path.read_bytes()
    keep(path, [event(1)])
    (aside,) = path.parent.glob("maskcast-damaged-*.db")
    assert aside.read_bytes() == before


@pytest.mark.usefixtures("_hasty")
def test_damage_that_is_found_later_costs_what_was_kept_not_what_comes(path):
    """By a reader, who is told to try again."""
    keep(path, [event(number) for number in range(2000)])
    pages = bytearray(path.read_bytes())
    pages[4096:] = b"\x99" * (len(pages) - 4096)  # all but the first, which has the schema
    path.write_bytes(pages)
    with opened(path) as there:
        wait_until(lambda: list(path.parent.glob("maskcast-damaged-*.db")))
        there.add(event(7))
        wait_until(lambda: events_in(there) == [7])


def test_a_newer_database_is_refused_and_left_alone(path):
    keep(path, [event(1)])
    with sqlite3.connect(path) as newer:
        newer.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    newer.close()
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=r"maskcast.db is of a newer maskcast .*; install that one again, or move"):
        EventStore(path, print).start()
    assert path.read_bytes() == before


@pytest.mark.parametrize("version", range(len(MIGRATIONS)))
def test_an_older_database_is_brought_up_to_date(path, version):
    """From every version on."""
    path.parent.mkdir()
    with sqlite3.connect(path) as older:
        for statements in MIGRATIONS[:version]:
            older.executescript(statements)
        older.execute(f"PRAGMA user_version = {version}")
        older.execute(f"PRAGMA application_id = {APPLICATION}")
    older.close()
    keep(path, [event(1)])
    assert [e.frame for e in kept(path)] == [1]


def test_a_second_daemon_is_refused(path):
    with opened(path), pytest.raises(ConfigError, match=r"maskcast.db is in use by another daemon; stop that one, or"):
        EventStore(path, print).start()
    keep(path, [event(1)])  # now it is free


def test_a_database_that_another_program_has_locked_is_refused(path, monkeypatch):
    monkeypatch.setattr("daemon.events.database.BUSY", 0.0)
    keep(path, [])
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(ConfigError, match="is locked by another program; close that, or"):
            EventStore(path, print).start()
    other.close()


@pytest.mark.usefixtures("_hasty")
def test_a_folder_that_vanishes_is_made_anew(path, caplog):
    with opened(path) as there:
        there.add(event(1))
        wait_until(lambda: events_in(there) == [1])
        shutil.rmtree(path.parent)
        there.add(event(2))
        wait_until(lambda: events_in(there) == [2])
    assert f"{path} was removed; a new one begins" in caplog.messages


@pytest.mark.usefixtures("_hasty")
def test_what_cannot_be_written_on_a_full_disk_is_written_when_there_is_room_again(path, caplog):
    with opened(path) as there:
        there.add(event(1))
        wait_until(lambda: events_in(there) == [1])
        with full_at(path.stat().st_size // 2):
            there.add(event(2, reason="x" * 10**6))
            wait_until(lambda: any("cannot be written" in line for line in caplog.messages))
            assert events_in(there) == [1]
        wait_until(lambda: events_in(there) == [2, 1])
    assert there.lost == []


@pytest.mark.usefixtures("_hasty")
def test_a_folder_that_cannot_be_made_costs_events_only(tmp_path, caplog):
    """It is tried again and again, and said when it lasts."""
    (tmp_path / "out").write_text("a file")
    with opened(tmp_path / "out" / "maskcast.db") as there:
        there.add(event(1))
        wait_until(lambda: any("cannot be written" in line for line in caplog.messages))
        (tmp_path / "out").unlink()
        wait_until(lambda: events_in(there) == [1])
    (line,) = (line for line in caplog.messages if "cannot be written" in line)
    assert "it is tried again, events are lost meanwhile" in line


def test_too_many_records_are_dropped_and_counted_and_nobody_waits(path, monkeypatch):
    monkeypatch.setattr(store, "MOST_WAITING", 10)
    lost: list[int] = []
    waits = EventStore(path, lost.append)
    for number in range(25):
        waits.add(event(number))
    assert lost == [1] * 15
    waits.start()
    waits.close()
    assert [e.frame for e in kept(path)] == list(range(10))


def test_a_record_that_no_row_can_hold_is_lost_alone(path):
    assert keep(path, [event(1), event(2, frame=2**70), event(3, prompt="\ud800"), event(4)]) == [2]
    assert [e.frame for e in kept(path)] == [1, 4]


@pytest.mark.usefixtures("_hasty")
def test_a_clock_that_is_set_ahead_makes_no_event_old(path, monkeypatch):
    looks: list[int] = []
    with opened(path, keep=lambda: looks.append(1) or 60.0) as there:
        now = store.time.time()
        there.add(event(1, time=now))
        wait_until(lambda: events_in(there) == [1])
        monkeypatch.setattr(store.time, "time", lambda: now + 1e6)
        there.add(event(2, time=now + 1e6))
        wait_until(lambda: events_in(there) == [2, 1])
        before = len(looks)
        wait_until(lambda: len(looks) > before + 2)
        assert events_in(there) == [2, 1]


@pytest.mark.usefixtures("_hasty")
def test_whatever_fails_the_writing_goes_on(path, monkeypatch, caplog):
    monkeypatch.setattr(store, "remove_old", lambda *_: [][0])
    with opened(path) as there:
        wait_until(lambda: any("cannot be written: IndexError" in line for line in caplog.messages))
        there.add(event(1))
        wait_until(lambda: events_in(there) == [1])


@pytest.mark.usefixtures("_hasty")
def test_what_was_said_of_a_damaged_file_is_no_damage_of_the_next(path):
    with opened(path) as there:
        there.add(event(1))
        wait_until(lambda: events_in(there) == [1])
        there._suspect(path.stat().st_ino + 1)
        there.add(event(2))
        wait_until(lambda: events_in(there) == [2, 1])
    assert not list(path.parent.glob("maskcast-damaged-*.db"))


@pytest.mark.usefixtures("_hasty")
def test_what_is_older_than_keep_goes_and_so_does_what_is_above_the_most(path, monkeypatch):
    """Also a prompt and a session of which nothing is left. Ids are not used again."""
    now = itertools.count()
    monkeypatch.setattr(rows, "CHUNK", 3)
    monkeypatch.setattr(store.time, "time", lambda: NOON + 100 + next(now) * 1e-6)
    old = [event(number, prompt="bus", session="old") for number in range(10)] + [
        track(number, last=NOON) for number in range(10)
    ]
    with opened(path, keep=lambda: 60.0) as there:
        for record in [*old, *(event(number) for number in range(50, 60)), track(50, last=NOON + 90)]:
            there.add(record)
        wait_until(lambda: events_in(there) == [*range(59, 49, -1)])
        monkeypatch.setattr(rows, "MOST_EVENTS", 4)
        wait_until(lambda: events_in(there) == [59, 58, 57, 56])
        counted = (
            "SELECT (SELECT group_concat(track) FROM tracks), (SELECT group_concat(prompt) FROM kinds),"
            "(SELECT count(*) FROM sessions)"
        )
        wait_until(lambda: there.reader.ask(lambda found: found.execute(counted).fetchone()) == ("50", "car", 1))
    keep(path, [event(99)])
    assert kept(path)[-1].id == 21
