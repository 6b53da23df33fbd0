"""Files that are whole whenever the program ends: at kill -9, on a full disk, on a folder that vanishes."""

import contextlib
import errno
import fcntl
import os
from pathlib import Path


class AtomicFile:
    """A file that ends where it was last marked; what comes after that waits in memory.

    ``path`` must be new, or with ``keep`` be there: its first ``keep`` bytes stay and the rest is cut off. Raises
    OSError, as all methods do, also when another program has it open as a AtomicFile.
    """

    def __init__(self, path: Path, keep: int | None = None) -> None:
        self._file = path.open("xb" if keep is None else "ab", buffering=0)
        self._waiting = bytearray()
        self._size = keep or 0  # bytes on disk that are whole
        try:
            self._lock(path)
            self._file.truncate(self._size)
        except OSError:
            self._file.close()
            raise
        self._linked = self._links() > 0  # some network file systems say 0 of every file

    def write(self, data: bytes) -> int:
        """Take ``data``, without putting it on disk yet."""
        self._waiting += data
        return len(data)

    def mark(self) -> None:
        """Put on disk all that waits, in one write: together with what is there it is whole."""
        if self._linked and not self._links():  # writing to a removed file succeeds, and nobody will ever read it
            raise FileNotFoundError(errno.ENOENT, "the file that was being written has been removed")
        waiting, self._waiting = self._waiting, bytearray()
        rest = memoryview(waiting)
        while rest:
            rest = rest[self._file.write(rest) :]
        self._size += len(waiting)

    def close(self) -> None:
        """Forget what waits and cut off what a mark could write only in part."""
        if self._file.closed:
            return
        try:
            self._file.truncate(self._size)
        finally:
            self._file.close()

    def _links(self) -> int:
        return os.fstat(self._file.fileno()).st_nlink

    def _lock(self, path: Path) -> None:
        """Until the file is closed. The kernel frees it whatever ends the program."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BlockingIOError(error.errno, f"another program is recording {path.name}") from None
        except OSError:  # a file system without locks
            pass


def write_whole(path: Path, content: bytes) -> None:
    """All of the file or none of it."""
    part = path.with_suffix(".part")
    try:
        part.write_bytes(content)
        part.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise
