"""One stream: a reader thread fills the lane's inbox, a writer thread empties its outbox."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass

from daemon.engine import Lane, one_line
from daemon.mailbox import Mailbox
from daemon.outcome import Notice, Outcome, skip_outcome, skip_window
from daemon.writer import Writer
from stages.errors import SourceError
from stages.record import Recorder
from stages.source import Source
from stages.types import Frame, Window
from stages.windows import cut_windows
from stages.wire import StreamEvent

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sources:
    """What a stream opens once it runs."""

    open_source: Callable[[], Source]
    open_recorder: Callable[[float], Recorder | None]  # given the rate
    wait_for_start: Callable[[threading.Event], bool]  # holds a file back until models and subscribers are there


class Stream:
    """Runs until its source ends, it is stopped, or it fails; ``error`` then says why.

    Files push back all the way; live streams drop the oldest window and the oldest results, counted.
    """

    def __init__(self, lane: Lane, writer: Writer, sources: Sources) -> None:
        self.lane, self.name, self.metrics = lane, lane.name, lane.metrics
        self.error: Exception | None = None
        self.frames_expected: int | None = None
        self.up = False  # the source delivers
        self.started: float | None = None  # monotonic seconds when the first frame was asked for
        self._writer, self._sources = writer, sources
        self._source: Source | None = None
        self._stop = threading.Event()
        self._reader_thread = threading.Thread(target=self._read, name=f"{self.name}-reader", daemon=True)
        self._writer_thread = threading.Thread(target=self._write, name=f"{self.name}-writer", daemon=True)
        for queue, mailbox in (("windows", lane.inbox), ("results", lane.outbox)):
            self.metrics.queue[queue].set_function(_frames_in(mailbox))

    def start(self) -> None:
        self._reader_thread.start()
        self._writer_thread.start()

    @property
    def ended(self) -> bool:
        """All that was read has left and the recording is closed."""
        return not (self._reader_thread.is_alive() or self._writer_thread.is_alive())

    @property
    def seconds(self) -> float:
        """From the moment the first frame was asked for until the last one was published."""
        last = self.metrics.last_published
        return last - self.started if last is not None and self.started is not None else 0.0

    def stop(self) -> None:
        """Read no more; what was read still leaves."""
        self._stop.set()
        if self._source is not None:
            self._source.close()

    def abort(self) -> None:
        """Throw away what still waits; the recording is closed all the same."""
        self.stop()
        self._writer.hurry.set()
        self.lane.inbox.close(discard=True)
        self.lane.outbox.close(discard=True)

    def join(self, timeout: float) -> bool:
        """Wait for the end; False when it did not come within ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        for thread in (self._reader_thread, self._writer_thread):
            thread.join(max(0.0, deadline - time.monotonic()))
        return self.ended

    def _read(self) -> None:
        begun = False
        try:
            with closing(self._sources.open_source()) as source:
                self._begin(source)
                detection, tracking = self.lane.detection, self.lane.tracking
                for window in cut_windows(self._decoded(source), tracking.window, detection.every):
                    begun = True
                    if not self.lane.inbox.put(window):
                        break
                if source.live and not self._stop.is_set():
                    raise SourceError(f"{self.name}: the live source has ended; check it and start the stream again")
        except Exception as error:
            self._fail(error)
        finally:
            self.up = False
            self.metrics.source_up.set(0)
            self.lane.inbox.close()
            if not begun:  # nothing for the engine, which may still be loading the models
                self.lane.outbox.close()

    def _begin(self, source: Source) -> None:
        self._source = source
        self.frames_expected = source.frames_expected
        if source.live:
            self.lane.inbox.drop_oldest(self._skip_window)
            self.lane.outbox.drop_oldest(self._skip_outcome)
        self.up = True
        self.metrics.source_up.set(1)
        # no recording is begun of a file that never starts
        if source.live or self._sources.wait_for_start(self._stop):
            self._writer.recorder = self._sources.open_recorder(source.rate)
        self.lane.outbox.put(Outcome(notices=(Notice(StreamEvent.SOURCE_UP, "opened"),)))

    def _decoded(self, source: Source) -> Iterator[Frame]:
        """The source's frames, counted and timed."""
        # a live source mostly waits for its camera: there only the time this thread computes is decoding
        clock = time.perf_counter if source.lossless else time.thread_time
        frames = source.frames()
        errors = 0
        self.started = time.monotonic()
        while not self._stop.is_set():
            asked = clock()
            frame = next(frames, None)
            if source.decode_errors > errors:
                self.metrics.decode_errors.inc(source.decode_errors - errors)
                errors = source.decode_errors
            if frame is None:
                return
            self.metrics.observe({"decode": clock() - asked})
            self.metrics.frames["decoded"].inc()
            self.metrics.last_frame.set_to_current_time()
            if frame.dropped_before:
                self.metrics.drop("source", frame.dropped_before)
            self._writer.decoded(frame)
            yield frame

    def _skip_window(self, lost: Window, following: Window) -> Window:
        self.metrics.drop("engine_busy", len(lost.frames))
        return skip_window(lost, following)

    def _skip_outcome(self, lost: Outcome, following: Outcome) -> Outcome:
        self.metrics.drop("writer_busy", len(lost.results))
        return skip_outcome(lost, following)

    def _write(self) -> None:
        try:
            while not self.lane.outbox.drained:
                outcome = self.lane.outbox.get(timeout=0.5)
                if outcome is not None:
                    self._writer.write(outcome)
                self._writer.status_when_due()
        except Exception as error:
            self._fail(error)
            self.abort()
        if self.lane.error is not None and not self.metrics.frames_published:
            self._fail(self.lane.error)
        try:
            self._writer.close(self._reason())
        except Exception as error:
            self._fail(error)

    def _reason(self) -> str:
        if self.error is not None:
            return one_line(self.error)
        return "stopped" if self._stop.is_set() else "the source has ended"

    def _fail(self, error: Exception) -> None:
        """The first reason counts; those that follow come from it."""
        log.debug("stream %s", self.name, exc_info=error)
        self.error = self.error or error


def _frames_in(mailbox: Mailbox[Window] | Mailbox[Outcome]) -> Callable[[], float]:
    def count() -> float:
        return float(sum(len(item.frames if isinstance(item, Window) else item.results) for item in mailbox.peek()))

    return count
