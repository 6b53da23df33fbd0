"""The sink that keeps the latest annotated picture of a stream for viewers over HTTP."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from daemon.sinks.sink import FrameOutput, Need
from stages.output.wire import Header, Kind

PAUSE = 0.1  # seconds between two pictures


class Preview:
    """Needs pictures only while somebody watches. A Sink (see daemon.sinks.sink); all else is for any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._watchers = 0
        self._number = 0
        self._jpeg = b""
        self._closed = False
        self._shown_at = 0.0  # monotonic seconds
        self._due = False  # the next frame is to be shown

    def need(self) -> Need:
        """A JPEG while somebody watches and the picture shown is old enough."""
        self._due = self._watchers > 0 and time.monotonic() - self._shown_at >= PAUSE
        return Need.JPEG if self._due else Need.NOTHING

    def message(self, kind: Kind, header: Header) -> bool:  # noqa: ARG002 - as of all sinks
        """Nothing: viewers see pictures."""
        return True

    def frame(self, frame: FrameOutput) -> None:
        """Show the annotated picture to all watchers."""
        if self._due and frame.jpeg is not None:
            self.show(frame.jpeg)

    def finish(self) -> None:
        """Tell all watchers that no picture follows."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def show(self, jpeg: bytes) -> None:
        """Give a picture to all watchers."""
        with self._changed:
            self._number, self._jpeg, self._shown_at = self._number + 1, jpeg, time.monotonic()
            self._changed.notify_all()

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
