"""The frames of all connections of one stream: numbered through, counted and timed."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace

from daemon.lane.lane import Lane
from daemon.stream.connection import Connection
from daemon.stream.writer import Writer
from stages.source.source import Source
from stages.types import Frame

CLOCK_SET_BACK = 5.0  # seconds by which a new connection's times may be earlier before the clock must have been set


class FrameNumbering:
    """Frames in order, each with what was lost before it; their times never run backwards.

    Where the machine's clock was set back while a source was away, its new epoch has the new times.
    """

    def __init__(self, lane: Lane, writer: Writer) -> None:
        self.started: float | None = None  # monotonic seconds when the first frame was asked for
        self.next = 0  # index of the next frame
        self._metrics, self._writer = lane.metrics, writer
        self._lost = 0  # frames that a connection had read and took with it
        self._latest = float("-inf")  # capture time of the last frame

    def of(self, connection: Connection, source: Source, stop: threading.Event) -> Iterator[Frame]:
        """The connection's frames until it ends, is abandoned, or ``stop`` is set. Raises SourceError."""
        self.started = self.started or time.monotonic()
        first, recorder, errors = self.next, self._writer.recorder, 0
        try:
            for frame, spent in _timed(source):
                if stop.is_set() or connection.abandoned.is_set():
                    return
                connection.touched = time.monotonic()
                errors = self._count_errors(source, errors)
                if not source.live and recorder is not None and frame.index < recorder.next_frame:
                    recorder.skip(frame)
                    continue
                self._metrics.observe({"decode": spent})
                yield self._arrived(connection, replace(frame, index=first + frame.index))
        finally:
            if not connection.abandoned.is_set():
                self._count_errors(source, errors)

    def gone(self, connection: Connection) -> None:
        """A connection has ended, or was abandoned with what it held."""
        lost = connection.frames - connection.handed_on
        if lost:
            self._lost += lost
            self._metrics.drop("source", lost)

    def _arrived(self, connection: Connection, frame: Frame) -> Frame:
        self._metrics.frames["decoded"].inc()
        self._metrics.last_frame.set_to_current_time()
        if frame.dropped_before:
            self._metrics.drop("source", frame.dropped_before)
        if not connection.frames and frame.captured_at < self._latest - CLOCK_SET_BACK:
            self._latest = frame.captured_at
        connection.frames += 1
        lost, self._lost = self._lost, 0
        self.next = frame.index + 1
        self._latest = max(self._latest, frame.captured_at)
        self._writer.latency.decoded(frame)
        return replace(frame, captured_at=self._latest, dropped_before=frame.dropped_before + lost)

    def _count_errors(self, source: Source, before: int) -> int:
        if source.decode_errors > before:
            self._metrics.decode_errors.inc(source.decode_errors - before)
        return source.decode_errors


def _timed(source: Source) -> Iterator[tuple[Frame, float]]:
    """Each frame and the seconds that it took.

    A live source mostly waits for its camera: there only the time that this thread computes is decoding.
    """
    clock = time.thread_time if source.live else time.perf_counter
    frames = source.frames()
    while True:
        asked = clock()
        frame = next(frames, None)
        if frame is None:
            return
        yield frame, clock() - asked
