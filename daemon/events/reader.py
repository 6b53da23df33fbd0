"""Connections that read the database while it is written."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from daemon.errors import BusyError
from daemon.events.database import connect, is_damage

MOST = 4  # questions at a time; others wait
CACHE = 16 << 20  # bytes of pages that each connection keeps
WAIT = 5.0  # seconds for one of the connections

T = TypeVar("T")


class Reader:
    """Answers questions to the database at ``path``. Any thread may ask.

    ``damaged`` is called with the file's inode when an answer shows that it is damaged.
    """

    def __init__(self, path: Path, damaged: Callable[[int], None]) -> None:
        self._path, self._damaged = path, damaged
        self._idle: list[tuple[int, sqlite3.Connection]] = []  # each with the number of the file that it has open
        self._lock = threading.Lock()
        self._closed = False
        self._free = threading.BoundedSemaphore(MOST)

    def ask(self, question: Callable[[sqlite3.Connection], T]) -> T:
        """What ``question`` finds, in one view of the database. Raises BusyError when it cannot be read now."""
        try:
            with self._connection() as connection:
                connection.execute("BEGIN")
                try:
                    return question(connection)
                finally:
                    connection.execute("COMMIT")
        except sqlite3.Error as error:
            if is_damage(error):
                raise BusyError("the database is damaged; a new one begins, try again") from None
            raise BusyError(f"the database cannot be read now ({error}); try again") from None
        except OSError as error:
            raise BusyError(f"the database cannot be read now ({error.strerror}); try again") from None

    def close(self) -> None:
        """Close the connections: the last one, which writes, can then complete the file."""
        with self._lock:
            idle, self._idle = self._idle, []
            self._closed = True
        for _, connection in idle:
            connection.close()

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        if not self._free.acquire(timeout=WAIT):
            raise BusyError("too many questions to the database; try again")
        try:
            inode = self._path.stat().st_ino
            try:
                connection = self._take(inode)
                try:
                    yield connection
                except BaseException:
                    connection.close()
                    raise
            except sqlite3.Error as error:
                if is_damage(error):
                    self._damaged(inode)
                raise
            with self._lock:
                if not self._closed:
                    self._idle.append((inode, connection))
                    return
            connection.close()
        finally:
            self._free.release()

    def _take(self, inode: int) -> sqlite3.Connection:
        """A connection to the file that is there now, which is ``inode``."""
        with self._lock:
            while self._idle:
                opened, connection = self._idle.pop()
                if opened == inode:
                    return connection
                connection.close()
        connection = connect(self._path, read_only=True)
        connection.execute(f"PRAGMA cache_size = -{CACHE >> 10}")
        return connection
