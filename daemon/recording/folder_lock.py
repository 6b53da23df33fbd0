"""A folder of recordings belongs to one daemon at a time."""

import contextlib
import os
import threading
from pathlib import Path
from typing import IO

from stages.errors import ConfigError
from stages.output.atomic_file import lock

_NAME = ".maskcast.lock"


class FolderLock:
    """Holds a folder for this process; the kernel lets it go when the process ends in any way. Any thread may call."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: IO[str] | None = None
        self._lock = threading.RLock()

    def hold(self) -> None:
        """Create the folder where it is not there, and hold it. Does nothing while it is held.

        Raises OSError, and ConfigError when another daemon holds it.
        """
        with self._lock:
            self._hold(self._folder / _NAME)

    def _hold(self, path: Path) -> None:
        if self._file is not None:
            with contextlib.suppress(FileNotFoundError):
                if os.fstat(self._file.fileno()).st_ino == path.stat().st_ino:
                    return
            self.release()  # it was removed, and another one may be there
        self._folder.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
        try:
            lock(file)
        except BlockingIOError:
            file.close()
            raise ConfigError(
                f"{self._folder}: another daemon records into it; give each a record.dir of its own, or stop one"
            ) from None
        self._file = file

    def release(self) -> None:
        """Let it go."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None
