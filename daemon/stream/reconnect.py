"""Waits before a lost source is connected again."""

import logging
import random
import threading
import time

from daemon.stream.connection import Connection

LOOK = 0.25  # seconds between two looks at connections that hang
MOST_STUCK = 4  # threads of one stream that may hang in a library before no further one is started

log = logging.getLogger(__name__)


class Backoff:
    """Seconds to wait before the next attempt: doubling from ``least`` to ``most``, with jitter."""

    def __init__(self, least: float = 1.0, most: float = 30.0) -> None:
        self._least, self._most = least, most
        self.reset()

    def reset(self) -> None:
        """Start again at ``least``."""
        self._ceiling = self._least

    def next(self) -> float:
        """The next pause in seconds."""
        self._ceiling = min(self._most, 2 * self._ceiling)
        return random.uniform(self._least, self._ceiling)  # noqa: S311 - spreads load, guards nothing


class Reconnect:
    """The pauses between the connections of one stream. The reader's thread calls; any may read ``stuck_since``."""

    def __init__(self, stream: str, backoff: Backoff) -> None:
        self.stuck_since: float | None = None  # monotonic seconds since which too many connections hang
        self._stream, self._backoff = stream, backoff
        self._stuck: list[Connection] = []

    def succeeded(self) -> None:
        """A connection has delivered frames: the next pause is a short one."""
        self._backoff.reset()

    def leave(self, connection: Connection) -> None:
        """Leave a connection that does not end, and its thread, behind."""
        connection.abandon()
        self._stuck.append(connection)

    def wait(self, stop: threading.Event) -> None:
        """Wait for the next attempt, or until ``stop`` is set. While too many connections hang, wait for one to end."""
        stop.wait(self._backoff.next())
        while not stop.is_set():
            self._stuck = [connection for connection in self._stuck if not connection.ended.is_set()]
            if len(self._stuck) < MOST_STUCK:
                self.stuck_since = None
                return
            if self.stuck_since is None:
                self.stuck_since = time.monotonic()
                log.error(
                    "stream %s: %d connections hang; waiting for one to end",
                    self._stream,
                    MOST_STUCK,
                    extra={"event": "connections_hang"},
                )
            stop.wait(LOOK)
