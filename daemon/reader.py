"""Reads a stream's source into windows: a file once; a live source again and again, whatever ends it."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace

from daemon.connection import FRAME_AGE, Backoff, Connection
from daemon.engine import Lane, one_line
from daemon.outcome import Notice, Outcome, skip_outcome, skip_window
from daemon.writer import Writer
from stages.errors import MaskcastError, SourceError, SourceStalled
from stages.record import Recorder
from stages.source import Source
from stages.types import Frame, Window
from stages.windows import cut_windows
from stages.wire import StreamEvent

LOOK = 0.25  # seconds between two looks at a connection
LAST_FRAMES = 1.0  # seconds that a connection has to hand on what it holds when its stream is stopped
MOST_STUCK = 4  # threads of one stream that may hang in a library before no further one is started

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sources:
    """What a stream opens once it runs."""

    live: bool  # True when the source is surely live; of some it shows only once they are open
    open_source: Callable[[], Source]
    open_recorder: Callable[[float], Recorder | None]  # given the rate
    wait_for_start: Callable[[threading.Event], bool]  # holds a file back until models and subscribers are there


class Reader:
    """Fills a lane's inbox from its source. ``run`` is the reader thread; all else may be called from any.

    Frames of all connections are numbered through and their times never run backwards; each connection that brings
    frames begins a new epoch.
    """

    def __init__(self, lane: Lane, writer: Writer, sources: Sources, backoff: Backoff | None = None) -> None:
        self.up = False  # the source delivers
        self.down_since = time.monotonic()  # while it does not
        self.begun = False  # the engine has a window to come
        self.started: float | None = None  # monotonic seconds when the first frame was asked for
        self.frames_expected: int | None = None
        self._lane, self._metrics, self._writer, self._sources = lane, lane.metrics, writer, sources
        self._backoff = backoff or Backoff()
        self._stop = threading.Event()
        self._recording = False
        self._next = 0  # index of the next frame
        self._epoch = 0
        self._latest = float("-inf")  # capture time of the last frame
        self._connection: Connection | None = None
        self._stuck: list[Connection] = []
        self._lost: tuple[str, float] | None = None  # why, and since when (monotonic), there are no frames

    def stop(self) -> None:
        """Read no more; what was read still leaves."""
        self._stop.set()
        connection = self._connection
        if connection is not None and connection.source is not None:
            connection.source.close()

    @property
    def stopped(self) -> bool:
        return self._stop.is_set()

    @property
    def progress(self) -> float:
        """Monotonic seconds when the source was last seen to work. Retrying is work, and so is waiting for others."""
        connection = self._connection
        if connection is None or connection.waiting or self._live(connection):
            return time.monotonic()
        return connection.touched

    def run(self) -> None:
        """Until the source has ended for good or the stream is stopped. Raises what ended it."""
        if self._sources.live:
            self._drop_when_full()
        try:
            while not self._stop.is_set():
                connection = self._connect()
                self._watch(connection)
                if self._over(connection):
                    break
                self._down(connection)
                self._pause()
        finally:
            self._set_up(False)
            self._lane.inbox.close()
            if not self.begun:  # nothing for the engine, which may still be loading the models
                self._lane.outbox.close()

    def _connect(self) -> Connection:
        number = self._connection.number + 1 if self._connection else 0
        connection = self._connection = Connection(number, self._epoch)
        name = f"{self._lane.name}-source-{number}"
        threading.Thread(target=self._read, args=(connection,), name=name, daemon=True).start()
        return connection

    def _watch(self, connection: Connection) -> None:
        """Until the connection has ended, or is to be left to itself."""
        while not connection.ended.wait(LOOK):
            if not self._live(connection):
                continue  # a file may take its time
            if connection.silent:
                connection.error = SourceStalled(f"{self._lane.name}: no frame for {FRAME_AGE:.0f} s")
            elif not self._stop.is_set() or connection.ended.wait(LAST_FRAMES):
                continue
            connection.abandon()
            self._stuck.append(connection)
            return

    def _live(self, connection: Connection) -> bool:
        return self._sources.live if connection.source is None else connection.source.live

    def _over(self, connection: Connection) -> bool:
        """Whether this is the stream's end. Raises what it ended by."""
        error = connection.error
        if self._stop.is_set():
            return True
        wrong = isinstance(error, MaskcastError) and not isinstance(error, SourceError)
        if error is not None and (wrong or not self._live(connection)):
            raise error
        finite = connection.source is not None and connection.source.frames_expected is not None
        return error is None and (finite or not self._live(connection))

    def _down(self, connection: Connection) -> None:
        """Tell it once for each time that the source is lost."""
        self._set_up(False)
        if connection.frames:
            self._backoff.reset()
            self._lost = None
        if self._lost is not None:
            return
        error = connection.error
        why = "ended" if error is None else "stalled" if isinstance(error, SourceStalled) else "error"
        reason = one_line(error) if error is not None else "the connection has ended"
        self._lost = why, time.monotonic()
        log.warning("stream %s: source down: %s; trying again until it is back", self._lane.name, reason)
        self._lane.outbox.put(Outcome(notices=(Notice(StreamEvent.SOURCE_DOWN, reason),)))

    def _pause(self) -> None:
        """Before the next attempt. Where too many connections hang in a library, until one of them has ended."""
        self._stop.wait(self._backoff.next())
        while not self._stop.is_set():
            self._stuck = [connection for connection in self._stuck if not connection.ended.is_set()]
            if len(self._stuck) < MOST_STUCK:
                return
            self._stop.wait(LOOK)

    def _read(self, connection: Connection) -> None:
        """A connection's thread."""
        try:
            with closing(self._sources.open_source()) as source:
                connection.source = source
                connection.touched = time.monotonic()
                if connection.abandoned.is_set() or not self._opened(connection, source):
                    return
                for window in cut_windows(self._frames(connection, source), self._lane.governor, connection.epoch):
                    if connection.abandoned.is_set() or not self._hand_on(connection, window):
                        return
        except Exception as error:
            log.debug("stream %s: connection %d", self._lane.name, connection.number, exc_info=True)
            connection.error = connection.error or error
        finally:
            connection.ended.set()

    def _opened(self, connection: Connection, source: Source) -> bool:
        """Get ready for a source's frames; False when the stream is stopped before they may come."""
        self.frames_expected = source.frames_expected
        if source.live:
            self._drop_when_full()
        else:
            self._set_up(True)
            connection.waiting = True
            may_start = self._sources.wait_for_start(self._stop)
            connection.waiting = False
            if not may_start:  # no recording is begun of a file that never starts
                return False
            self._delivers()
        if not self._recording:
            self._recording = True
            recorder = self._writer.recorder = self._sources.open_recorder(source.rate)
            if recorder is not None and source.live:
                self._next = recorder.next_frame
        return True

    def _set_up(self, up: bool) -> None:
        if self.up and not up:
            self.down_since = time.monotonic()
        self.up = up
        self._metrics.source_up.set(int(up))

    def _delivers(self) -> None:
        """Tell that the source is up, or up again."""
        self._set_up(True)
        reason = "opened"
        if self._lost is not None:
            why, since = self._lost
            reason = f"connected again after {time.monotonic() - since:.0f} s"
            self._metrics.reconnects[why].inc()
        # a return is told where its loss was
        log.log(logging.WARNING if self._lost else logging.INFO, "stream %s: source up: %s", self._lane.name, reason)
        self._lane.outbox.put(Outcome(notices=(Notice(StreamEvent.SOURCE_UP, reason),)))

    def _hand_on(self, connection: Connection, window: Window) -> bool:
        self.begun = True
        self._epoch = window.epoch + 1  # of the next connection
        connection.waiting = True
        taken = self._lane.inbox.put(window)
        connection.waiting, connection.touched = False, time.monotonic()
        return taken

    def _frames(self, connection: Connection, source: Source) -> Iterator[Frame]:
        """The connection's frames, numbered on, counted and timed."""
        # a live source mostly waits for its camera: there only the time this thread computes is decoding
        clock = time.perf_counter if source.lossless else time.thread_time
        frames, errors, first, recorder = source.frames(), 0, self._next, self._writer.recorder
        self.started = self.started or time.monotonic()
        while not self._stop.is_set():
            asked = clock()
            frame = next(frames, None)
            if connection.abandoned.is_set():
                return
            connection.touched = time.monotonic()
            if source.decode_errors > errors:
                self._metrics.decode_errors.inc(source.decode_errors - errors)
                errors = source.decode_errors
            if frame is None:
                return
            if source.lossless and recorder is not None and frame.index < recorder.next_frame:
                recorder.skip(frame)
                continue
            self._metrics.observe({"decode": clock() - asked})
            if source.live and not connection.frames:
                self._delivers()
            connection.frames += 1
            yield self._count(replace(frame, index=first + frame.index))

    def _count(self, frame: Frame) -> Frame:
        self._next = frame.index + 1
        self._latest = max(self._latest, frame.captured_at)
        self._metrics.frames["decoded"].inc()
        self._metrics.last_frame.set_to_current_time()
        if frame.dropped_before:
            self._metrics.drop("source", frame.dropped_before)
        self._writer.decoded(frame)
        return replace(frame, captured_at=self._latest)

    def _drop_when_full(self) -> None:
        self._lane.inbox.drop_oldest(self._skip_window)
        self._lane.outbox.drop_oldest(self._skip_outcome)

    def _skip_window(self, lost: Window, following: Window) -> Window:
        self._lane.overloads += 1
        self._metrics.drop("engine_busy", len(lost.frames))
        return skip_window(lost, following)

    def _skip_outcome(self, lost: Outcome, following: Outcome) -> Outcome:
        self._metrics.drop("writer_busy", len(lost.results))
        return skip_outcome(lost, following)
