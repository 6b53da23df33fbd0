"""The folders that this daemon records live streams into."""

import contextlib
import threading
from collections.abc import Sequence
from pathlib import Path

from daemon.recording.folder import Folder
from stages.recording.segment import SegmentObserver


class Folders:
    """Gives each folder once. ``observers`` are told of all segments. Any thread may call."""

    def __init__(self, observers: Sequence[SegmentObserver] = ()) -> None:
        self._observers = observers
        self._folders: dict[Path, Folder] = {}
        self._lock = threading.Lock()

    def of(self, path: Path) -> Folder:
        """The folder, which is this daemon's until it ends. Raises ConfigError when it is another daemon's.

        Where it cannot be created now, the recording says so.
        """
        with self._lock:
            key = path.absolute()
            if key not in self._folders:
                self._folders[key] = Folder(path, self._observers)
            folder = self._folders[key]
            with contextlib.suppress(OSError):
                folder.lock.hold()
            return folder
