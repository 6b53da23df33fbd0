"""Numbers the frames of all connections of one stream, counts and times them."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from daemon.metrics.stream_metrics import StreamMetrics
from daemon.sinks.recording import Recording
from daemon.stream.connection import Connection
from daemon.stream.frame_rate_limit import FrameRateLimit
from daemon.stream.latency import Latency
from stages.source.source import Source
from stages.types import Frame

CLOCK_SET_BACK = 5.0  # seconds by which a new connection's times may be earlier before the clock must have been set


class FrameNumbering:
    """Frames in order, each with the number lost before it; their times never run backwards.

    If the machine's clock was set back while a source was down, its new epoch has the new times. All calls come from
    the threads that read the stream, one at a time.
    """

    def __init__(self, metrics: StreamMetrics, recording: Recording, latency: Latency, max_fps: float = 0.0) -> None:
        """``max_fps``: frames per second that are kept; the others count as dropped. 0: all."""
        self.started: float | None = None  # monotonic seconds when the first frame was asked for
        self.next = 0  # index of the next frame
        self._metrics, self._recording, self._latency = metrics, recording, latency
        self._max_fps = max_fps
        self._lost = 0  # frames since the last one that an ended connection had not handed on, or max_fps left out
        self._latest = float("-inf")  # capture time of the last frame

    def of(
        self, connection: Connection, source: Source, stop: threading.Event, ready: Callable[[], bool]
    ) -> Iterator[Frame]:
        """Yield the connection's frames until it ends, is abandoned, or ``stop`` is set. Raises SourceError.

        Live frames that come before the models are ``ready`` do not belong to the stream.
        """
        self.started = self.started or time.monotonic()
        first, errors = self.next, 0
        limit = FrameRateLimit(self._max_fps)
        try:
            for frame, spent in _timed(source):
                if stop.is_set() or connection.abandoned.is_set():
                    return
                connection.touched = time.monotonic()
                errors = self._count_errors(source, errors)
                if source.live and not connection.frames and not ready():
                    first = self.next - frame.index - 1
                    continue
                kept = limit.keeps(frame.captured_at)
                if not source.live and frame.index < self._recording.next_frame:
                    if kept:
                        self._recording.skip(frame)
                    continue
                self._metrics.observe({"decode": spent})
                frame = replace(frame, index=first + frame.index)
                if kept:
                    yield self._arrived(connection, frame)
                else:
                    self._leave_out(frame)
        finally:
            if not connection.abandoned.is_set():
                self._count_errors(source, errors)

    def ended(self, connection: Connection) -> None:
        """Count the frames that an ended or abandoned connection had read but not handed on."""
        lost = connection.frames - connection.handed_on
        if lost:
            self._lost += lost
            self._metrics.drop("source", lost)

    def _leave_out(self, frame: Frame) -> None:
        """Count a frame that is not kept; those that the source dropped before it count as dropped by the source."""
        self._count(frame)
        self._metrics.dropped["max_fps"].inc()
        self._lost += 1 + frame.dropped_before

    def _count(self, frame: Frame) -> None:
        self._metrics.frames["decoded"].inc()
        self._metrics.last_frame.set_to_current_time()
        if frame.dropped_before:
            self._metrics.drop("source", frame.dropped_before)
        self.next = frame.index + 1

    def _arrived(self, connection: Connection, frame: Frame) -> Frame:
        """Count one frame; returns it with its final time and losses."""
        self._count(frame)
        if not connection.frames and frame.captured_at < self._latest - CLOCK_SET_BACK:
            self._latest = frame.captured_at
        connection.frames += 1
        lost, self._lost = self._lost, 0
        self._latest = max(self._latest, frame.captured_at)
        self._latency.decoded(frame)
        return replace(frame, captured_at=self._latest, dropped_before=frame.dropped_before + lost)

    def _count_errors(self, source: Source, before: int) -> int:
        if source.decode_errors > before:
            self._metrics.decode_errors.inc(source.decode_errors - before)
            self._metrics.damaged += source.decode_errors - before
        return source.decode_errors


def _timed(source: Source) -> Iterator[tuple[Frame, float]]:
    """Each frame with the seconds of decoding it; for live sources CPU time of this thread, as they mostly wait."""
    clock = time.thread_time if source.live else time.perf_counter
    frames = source.frames()
    while True:
        asked = clock()
        frame = next(frames, None)
        if frame is None:
            return
        yield frame, clock() - asked
