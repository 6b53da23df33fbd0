"""The database as the daemon uses it: records go in without waiting, a thread of its own writes them."""

import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from daemon.events.database import Database, is_damage, move_aside
from daemon.events.questions import Filter, page
from daemon.events.reader import Reader
from daemon.events.records import Record, SegmentGone
from daemon.events.rows import Rows, remove_old, remove_unused
from daemon.events.segment_rows import forget_missing, take_in, unknown
from daemon.limits.steady_clock import SteadyClock
from stages.errors import one_line
from stages.plural import plural
from stages.recording.segment import Segment

MOST_WAITING = 5000  # records; more are dropped and counted
BATCH = 0.25  # seconds between two batches
RETRY = 5.0  # seconds until a database that could not be opened or written is tried again
TIDY = 30.0  # seconds between two looks for what has had its time
READ = 5  # segments that are read for the table at a time: events wait meanwhile
LOOK = 600.0  # seconds between two looks whether the recordings are still there, and what no event needs any more
CLOSING = 3.0  # seconds that the last batch has

log = logging.getLogger(__name__)


class EventStore:
    """Keeps records in the database at ``path``.

    ``count_dropped`` is called with the number of records that are lost: where the disk is full, or another program has
    the file locked for long, the newest are, and never does a stream wait. ``keep`` tells for how many
    seconds records are kept; None: as long as there is room for them. A SegmentObserver (stages.recording.segment).
    ``start`` and ``close`` are for one thread, all else for any.
    """

    def __init__(
        self, path: Path, count_dropped: Callable[[int], None], keep: Callable[[], float | None] = lambda: None
    ) -> None:
        self.path = path
        self.reader = Reader(path, self._suspect)
        self._count_dropped, self._keep, self._clock = count_dropped, keep, SteadyClock()
        self._waiting: deque[Record] = deque()
        self._database: Database | None = None
        self._rows: Rows | None = None
        self._folders: dict[str, Path] = {}  # where streams are recorded in segments
        self._to_look: deque[str] = deque()  # streams of which segments may be unknown
        self._to_read: list[tuple[str, Path]] = []  # those segments
        self._missed: dict[str, Path] = {}  # of each stream, the last segment that was dropped
        self._damaged = 0  # inode of the file that was found so
        self._trouble = self._told = ""  # what is wrong now, and what was said of it; "" when nothing is
        self._next_try = self._next_tidy = self._next_look = 0.0  # monotonic seconds
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)

    def start(self) -> None:
        """Open the database and begin to write. Raises ConfigError when another daemon or a newer version has it.

        One that cannot be opened for another reason is tried again and again.
        """
        try:
            self._open()
        except (OSError, sqlite3.Error) as error:
            self._fail(error)
        self._thread.start()

    def add(self, record: Record) -> None:
        """Take a record, or drop and count it where too many wait; returns at once."""
        if len(self._waiting) >= MOST_WAITING:
            self._count_dropped(1)
            if isinstance(record, Segment):
                self._missed[record.stream] = record.video
        else:
            self._waiting.append(record)

    def recorded(self, stream: str, folder: Path) -> None:
        """The segments of a stream are in ``folder``; those that the database does not know are looked for."""
        self._folders[stream] = folder
        self._to_look.append(stream)

    def segment_closed(self, segment: Segment) -> None:
        """Take a complete segment."""
        self.add(segment)

    def segment_removed(self, stream: str, video: Path) -> None:
        """Take note that a segment is gone."""
        self.add(SegmentGone(stream, video))

    def close(self) -> None:
        """Write what waits, within CLOSING seconds, and close the database."""
        self.reader.close()
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(CLOSING)

    def _suspect(self, inode: int) -> None:
        self._damaged = inode

    def _run(self) -> None:
        with suppress(Exception):  # so that the first page is as quick as all others
            self.reader.ask(lambda connection: page(connection, Filter(), 50))
        stopping = False
        while not stopping:
            stopping = self._stopping.wait(BATCH)
            if stopping or time.monotonic() >= self._next_try:
                self._turn()
        self._drop(self._waiting)
        if self._database is not None:
            self._database.close()

    def _turn(self) -> None:
        """Write what waits; what cannot be written now waits on."""
        try:
            database, rows = self._ready()
            self._write(database, rows)
            self._look(database)
            self._tidy(database)
            if self._trouble:
                log.info("%s is written again", self.path)
            self._trouble = self._told = ""
        except Exception as error:  # whatever it is, the thread goes on
            self._fail(error)

    def _ready(self) -> tuple[Database, Rows]:
        """The open database, one that is not removed or damaged."""
        old = self._database
        if old is not None and (old.lost or old.inode == self._damaged):
            lost = old.lost  # what is there now is another file
            old.close()
            self._database = None
            if lost:
                log.warning("%s was removed; a new one begins", self.path)
            else:
                self._next_try = time.monotonic() + RETRY  # a disk that damages all does not get a file at each turn
                move_aside(self.path)
        if self._database is None:
            self._open()
        assert self._database is not None
        if self._rows is None:
            self._rows = Rows(self._database.connection)
        return self._database, self._rows

    def _open(self) -> None:
        self._database, self._rows = Database(self.path), None
        self._to_look.extend(self._folders)  # it may be a new one

    def _write(self, database: Database, rows: Rows) -> None:
        count = len(self._waiting)
        if not count:
            return
        batch = [self._waiting[number] for number in range(count)]  # others append meanwhile
        unfit = []
        database.connection.execute("BEGIN IMMEDIATE")
        for record in batch:
            try:
                rows.write(record)
            except (ValueError, TypeError, OverflowError, sqlite3.IntegrityError, sqlite3.DataError) as error:
                log.warning("an event cannot be kept: %s", one_line(error))
                unfit.append(record)
        database.connection.execute("COMMIT")
        for _ in batch:
            self._waiting.popleft()
        if unfit:
            self._count_dropped(len(unfit))

    def _look(self, database: Database) -> None:
        """Take in segments that the database does not know, the newest first."""
        connection = database.connection
        while self._missed:
            missed = self._missed.popitem()
            self._to_look.append(missed[0])
            self._to_read.append(missed)  # it may be the newest
        if not self._to_read and self._to_look:
            stream = self._to_look.popleft()
            if stream in self._folders:
                self._to_read = [(stream, video) for video in unknown(connection, self._folders[stream], stream)]
        if self._to_read:
            some = self._to_read[-READ:]
            connection.execute("BEGIN IMMEDIATE")
            take_in(connection, reversed(some))
            connection.execute("COMMIT")
            del self._to_read[-READ:]

    def _tidy(self, database: Database) -> None:
        if time.monotonic() < self._next_tidy:
            return
        keep, now = self._keep(), self._clock.now()
        oldest = 0.0 if keep is None else now - keep
        database.connection.execute("BEGIN IMMEDIATE")
        done = remove_old(database.connection, oldest)
        database.connection.execute("COMMIT")
        if time.monotonic() >= self._next_look:
            forget_missing(database.connection)
            if remove_unused(database.connection):
                self._rows = None
            self._next_look = time.monotonic() + LOOK
        self._next_tidy = time.monotonic() + (TIDY if done else BATCH)

    def _fail(self, error: Exception) -> None:
        """Undo what is half done, say once what is wrong, and try again later."""
        if self._database is not None and self._database.connection.in_transaction:
            with suppress(sqlite3.Error):
                self._database.connection.rollback()
        self._rows = None
        if self._database is not None and isinstance(error, sqlite3.Error) and is_damage(error):
            self._damaged = self._database.inode
            return
        self._next_try = time.monotonic() + RETRY
        trouble = f"{self.path} cannot be written: {one_line(error)}"
        # that a folder cannot be made the recording tells at once, whose it is
        lasts = bool(self._trouble) and not self._stopping.is_set()
        if trouble != self._told and (lasts or self.path.parent.is_dir()):
            log.warning("%s; it is tried again, events are lost meanwhile", trouble)
            self._told = trouble
        self._trouble = trouble

    def _drop(self, records: deque[Record]) -> None:
        if records:
            count = len(records)
            self._count_dropped(count)
            if self.path.parent.is_dir():
                log.warning("%s: the last %d %s lost", self.path, count, plural(count, "record is", "records are"))
