"""The database file: opened by one daemon at a time, its schema brought up to date, a damaged one moved aside."""

import logging
import sqlite3
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from stages.errors import ConfigError
from stages.output.atomic_file import lock

NAME = "maskcast.db"
APPLICATION = 0x6D61736B  # "mask": tells our files from those of other programs
BUSY = 5.0  # seconds to wait for another program that has the file locked
MOST_WAL = 64 << 20  # bytes that the journal keeps on the disk after a checkpoint

# the statements that lead from each version of the schema to the next; those that were released never change
MIGRATIONS = (
    """
    CREATE TABLE kinds(id INTEGER PRIMARY KEY, stream TEXT NOT NULL, type TEXT NOT NULL, prompt TEXT);
    CREATE TABLE sessions(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
    CREATE TABLE events(id INTEGER PRIMARY KEY AUTOINCREMENT, kind INTEGER NOT NULL, session INTEGER NOT NULL,
        time REAL NOT NULL, at REAL, frame INTEGER, track INTEGER, reason TEXT NOT NULL, score REAL, box TEXT);
    CREATE INDEX events_by_kind ON events(kind, time);
    CREATE TABLE tracks(id INTEGER PRIMARY KEY AUTOINCREMENT, session INTEGER NOT NULL, track INTEGER NOT NULL,
        stream TEXT NOT NULL, prompt TEXT, first REAL NOT NULL, last REAL NOT NULL, score REAL NOT NULL,
        box TEXT NOT NULL, quality REAL NOT NULL, snapshot BLOB, UNIQUE(session, track));
    CREATE INDEX tracks_by_last ON tracks(last);
    """,
    """
    CREATE TABLE segments(id INTEGER PRIMARY KEY AUTOINCREMENT, stream TEXT NOT NULL, folder TEXT NOT NULL,
        path TEXT NOT NULL, start REAL NOT NULL, end REAL NOT NULL, frames INTEGER NOT NULL, bytes INTEGER NOT NULL,
        UNIQUE(folder, path));
    CREATE INDEX segments_by_stream ON segments(stream, start);
    """,
)

log = logging.getLogger(__name__)


class Database:
    """The one connection that writes, and the lock that keeps other daemons away. One thread at a time uses it.

    A file that is damaged, or not ours, is moved aside and a new one begun. Raises ConfigError when another daemon has
    it or a newer version wrote it; OSError and sqlite3.Error when it cannot be opened now.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(path)
        try:
            try:
                self.connection = _opened(path)
            except sqlite3.DatabaseError as error:
                if not is_damage(error):
                    raise
                move_aside(path)
                self.connection = _opened(path)
            self.inode = path.stat().st_ino  # of the file that is open
        except BaseException:
            self._lock.close()
            raise

    @property
    def lost(self) -> bool:
        """The file was removed or replaced: what is written would be gone."""
        try:
            return self.path.stat().st_ino != self.inode
        except OSError:
            return True

    def close(self) -> None:
        """Complete the file and let others have it. Raises nothing."""
        with suppress(sqlite3.Error):
            self.connection.close()
        self._lock.close()


def connect(path: Path, read_only: bool = False) -> sqlite3.Connection:
    """A connection in autocommit mode, for any thread, one at a time. Raises sqlite3.Error."""
    # as_uri escapes "?", "#" and "%" in the path
    uri = f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rwc'}"
    return sqlite3.connect(uri, timeout=BUSY, isolation_level=None, check_same_thread=False, uri=True)


def is_damage(error: sqlite3.Error) -> bool:
    """The file is damaged, or no database of ours."""
    return _code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _code(error: sqlite3.Error) -> int:
    """SQLite's primary result code; 0 for an error of the interpreter's module itself."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def move_aside(path: Path) -> None:
    """Rename a damaged database, with its journal, and say so. Raises OSError."""
    stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%S.%fZ")
    moved = path.with_name(f"{path.stem}-damaged-{stamp}{path.suffix}")
    for suffix in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(moved.with_name(moved.name + suffix))
    log.warning("%s is damaged; it was moved to %s, and a new one begins", path, moved.name)


def _locked(path: Path) -> IO[bytes]:
    """An open file whose lock says that this daemon has the database; the kernel frees it, whatever ends the daemon."""
    # not on the database: closing any file of it would free SQLite's own locks
    file = path.with_name(f".{path.name}.lock").open("ab")
    try:
        lock(file)
    except BlockingIOError:
        file.close()
        raise ConfigError(f"{path} is in use by another daemon; stop that one, or set another record.dir") from None
    return file


def _opened(path: Path) -> sqlite3.Connection:
    connection = connect(path)
    try:
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        _check(connection, path, version)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")  # a killed daemon loses nothing that was committed
        connection.execute(f"PRAGMA journal_size_limit = {MOST_WAL}")
        for number, statements in enumerate(MIGRATIONS[version:], version + 1):
            connection.executescript(
                f"BEGIN IMMEDIATE; PRAGMA application_id = {APPLICATION}; {statements};"
                f"PRAGMA user_version = {number}; COMMIT;"
            )
    except sqlite3.OperationalError as error:
        connection.close()
        if _code(error) == sqlite3.SQLITE_BUSY:
            raise ConfigError(f"{path} is locked by another program; close that, or set another record.dir") from None
        raise
    except BaseException:
        connection.close()
        raise
    return connection


def _check(connection: sqlite3.Connection, path: Path, version: int) -> None:
    """Raises ConfigError for a newer version, and as for damage for a database of another program."""
    ours = connection.execute("PRAGMA application_id").fetchone()[0] == APPLICATION
    empty = version == 0 and not connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
    if not ours and not empty:
        error = sqlite3.DatabaseError("it belongs to another program")
        error.sqlite_errorcode = sqlite3.SQLITE_NOTADB
        raise error
    if version > len(MIGRATIONS):
        raise ConfigError(
            f"{path} is of a newer maskcast (its version is {version}, this one knows {len(MIGRATIONS)}); "
            "install that one again, or move the file away"
        )
