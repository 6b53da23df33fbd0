"""Files that stay complete when the program is killed, the disk is full or the folder is removed."""

import contextlib
import errno
import fcntl
import os
from functools import partial
from pathlib import Path
from typing import IO


class AtomicFile:
    """An append-only file that always ends at the last ``commit``; data written after it is buffered in memory.

    ``size`` is that of the file.

    ``path`` must not exist. With ``keep`` it must exist: its first ``keep`` bytes stay and the rest is cut off. All
    methods raise OSError; the constructor also when another program has the file open as an AtomicFile.
    """

    def __init__(self, path: Path, keep: int | None = None) -> None:
        self._file = path.open("xb" if keep is None else "ab", buffering=0)
        self._buffer = bytearray()
        self.size = keep or 0  # committed bytes on disk
        try:
            self._lock(path)
            self._file.truncate(self.size)
        except OSError:
            self._file.close()
            raise
        self._linked = self._links() > 0  # some network file systems report 0 links for every file

    def write(self, data: bytes) -> int:
        """Buffer ``data`` in memory; returns its length."""
        self._buffer += data
        return len(data)

    def commit(self) -> None:
        """Write the buffered data to disk, in one piece."""
        if self._linked and not self._links():  # writing to a removed file succeeds, but the data is lost
            raise FileNotFoundError(errno.ENOENT, "the file that was being written has been removed")
        data, self._buffer = self._buffer, bytearray()
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) :]
        self.size += len(data)

    def close(self) -> None:
        """Discard the buffered data and cut off what a failed ``commit`` wrote only in part."""
        if self._file.closed:
            return
        try:
            self._file.truncate(self.size)
        finally:
            self._file.close()

    def _links(self) -> int:
        return os.fstat(self._file.fileno()).st_nlink

    def _lock(self, path: Path) -> None:
        try:
            lock(self._file)
        except BlockingIOError as error:
            raise BlockingIOError(error.errno, f"another program is recording {path.name}") from None


def lock(file: int | IO[bytes] | IO[str]) -> None:
    """Lock an open file until it is closed; the kernel releases the lock when the program ends in any way.

    Raises BlockingIOError where another has locked it. On a file system without locks nothing happens.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        pass


def write_atomically(path: Path, content: bytes, *, mode: int = 0o666, sync: bool = False) -> None:
    """Write the complete file, or leave ``path`` unchanged; with ``sync`` it is on the disk then. Raises OSError.

    ``mode`` are its permissions, before the umask.
    """
    part = path.with_suffix(".part")
    try:
        part.unlink(missing_ok=True)  # of an earlier crash, with whatever mode
        with open(part, "xb", opener=partial(os.open, mode=mode)) as file:
            file.write(content)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        part.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise
    if sync:
        with contextlib.suppress(OSError):  # not every file system can
            _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Let the name of a new file be on the disk, too. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
