"""Decides which stream the engine runs next, and with what."""

import threading
import time
from collections.abc import Iterator

from daemon.engine.stream_state import StreamState
from daemon.lane.lane import Lane
from stages.types import Window


class Scheduler:
    """Takes the streams in turn, one window each.

    ``add`` and ``clear`` may be called from any thread, all else from the engine's.
    """

    def __init__(self) -> None:
        self._streams: list[StreamState] = []
        self._lock = threading.Lock()  # guards the list

    def add(self, stream: StreamState) -> None:
        """Schedule a stream until its inbox is drained."""
        with self._lock:
            self._streams.append(stream)

    def find(self, lane: Lane) -> StreamState | None:
        """The state of the lane's stream; None once it has been retired."""
        with self._lock:
            return next((stream for stream in self._streams if stream.lane is lane), None)

    def streams(self) -> list[StreamState]:
        """All streams that are scheduled."""
        with self._lock:
            return list(self._streams)

    def retire(self) -> list[StreamState]:
        """Take out the streams that have nothing left to do, ever."""
        with self._lock:
            over = [stream for stream in self._streams if _over(stream.lane)]
            self._streams = [stream for stream in self._streams if stream not in over]
        return over

    def round(self) -> Iterator[tuple[StreamState, Window | None]]:
        """Each stream that can be run now, with its next window; None where only notices wait."""
        with self._lock:
            ready = [stream for stream in self._streams if _ready(stream.lane)]
        for stream in ready:
            yield stream, stream.lane.inbox.get(0)

    def clear(self) -> list[StreamState]:
        """Take out all streams."""
        with self._lock:
            streams, self._streams = self._streams, []
        return streams


def _ready(lane: Lane) -> bool:
    """Whether a window or a notice waits, and there is room for its outcome.

    Windows of a file wait for room in its outbox, those of a burst until they are due; a notice never pushes out
    results.
    """
    if waiting := lane.inbox.peek():
        may_wait = lane.outbox.lossless or waiting[0].frames[-1].due > time.monotonic()
        return not (may_wait and lane.outbox.full)
    return bool(lane.notices) and not lane.outbox.full


def _over(lane: Lane) -> bool:
    return lane.inbox.drained and (not lane.notices or lane.outbox.closed)
