"""The last annotated picture of a stream, for whoever looks at it over HTTP."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

PAUSE = 0.1  # seconds between two pictures


class Preview:
    """Pictures are drawn for it only while somebody watches. Any thread may call."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._watchers = 0
        self._number = 0
        self._jpeg = b""
        self._closed = False
        self._shown_at = 0.0  # monotonic seconds

    @property
    def due(self) -> bool:
        """Somebody waits for the next picture, and the last one is old enough."""
        return self._watchers > 0 and time.monotonic() - self._shown_at >= PAUSE

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Within it pictures are made."""
        with self._changed:
            self._watchers += 1
        try:
            yield
        finally:
            with self._changed:
                self._watchers -= 1

    def show(self, jpeg: bytes) -> None:
        """Give the newest picture to all who wait."""
        with self._changed:
            self._number, self._jpeg, self._shown_at = self._number + 1, jpeg, time.monotonic()
            self._changed.notify_all()

    def close(self) -> None:
        """No picture will follow."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def next(self, seen: int, timeout: float) -> tuple[int, bytes] | None:
        """The newest picture and its number, once that is not ``seen``; None when none comes in ``timeout`` seconds.

        Number 0 has never been seen. Raises EOFError when no picture will follow.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._number != seen, timeout)
            if self._number != seen:
                return self._number, self._jpeg
            if self._closed:
                raise EOFError
            return None
