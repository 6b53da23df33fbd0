"""Reads a stream's source into windows: a file once; a live source again and again, whatever ends it."""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

from daemon.lane.lane import Lane
from daemon.lane.outcome import Notice
from daemon.sinks.recording import Recording
from daemon.stream.connection import FRAME_AGE, Backoff, Connection
from daemon.stream.latency import Latency
from daemon.stream.numbering import FrameNumbering
from stages.errors import MaskcastError, SourceError, SourceStalled, one_line
from stages.source.source import Source
from stages.types import StreamEvent, Window
from stages.windows import cut_windows

LOOK = 0.25  # seconds between two looks at a connection
LAST_FRAMES = 1.0  # seconds that a connection has to hand on what it holds when its stream is stopped
MOST_STUCK = 4  # threads of one stream that may hang in a library before no further one is started

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SourceOpener:
    """How a stream's source is opened, again and again if it is live."""

    live: bool  # True when the source is surely live; some turn out to be once they are open
    open_source: Callable[[], Source]
    wait_for_start: Callable[[threading.Event], bool]  # holds a file back until models and subscribers are ready


class Reader:
    """Fills a lane's inbox from its source. ``run`` is the reader thread; all else may be called from any.

    Each connection that delivers frames begins a new epoch; each has a thread of its own (see Connection).
    """

    def __init__(
        self,
        lane: Lane,
        recording: Recording,
        latency: Latency,
        opener: SourceOpener,
        backoff: Backoff | None = None,
    ) -> None:
        self.up = False  # the source delivers
        self.down_since = time.monotonic()  # while it does not
        self.frames_expected: int | None = None
        self._lane, self._metrics, self._recording, self._opener = lane, lane.metrics, recording, opener
        self._numbering = FrameNumbering(lane.metrics, recording, latency)
        self._backoff = backoff or Backoff()
        self._live = opener.live
        self._stop = threading.Event()
        self._begun = False  # the engine has a window to come
        self._epoch = 0  # of the next connection
        self._connection: Connection | None = None
        self._stuck: list[Connection] = []
        self._stuck_since: float | None = None  # monotonic seconds since which too many hang
        self._lost: tuple[str, float] | None = None  # why, and since when (monotonic), there are no frames
        self.trouble = ""  # the same in words

    @property
    def started(self) -> float | None:
        """Monotonic seconds when the first frame was asked for."""
        return self._numbering.started

    @property
    def stopped(self) -> bool:
        return self._stop.is_set()

    @property
    def live(self) -> bool:
        """The source is live, as far as is known."""
        return self._live

    @property
    def progress(self) -> float:
        """Monotonic seconds when the source was last seen to work. Retrying is work, and so is waiting for others."""
        if self._stuck_since is not None:
            return self._stuck_since
        connection = self._connection
        if connection is None or connection.waiting or self._live:
            return time.monotonic()
        return connection.touched

    def stop(self) -> None:
        """Read no more; what was read still leaves."""
        self._stop.set()
        connection = self._connection
        if connection is not None and connection.source is not None:
            connection.source.close()

    def run(self) -> None:
        """Until the source has ended for good or the stream is stopped. Raises what ended it."""
        if self._live:
            self._lane.drop_when_full()
        try:
            while not self._stop.is_set():
                connection = self._connect()
                self._watch(connection)
                self._numbering.ended(connection)
                if self._over(connection):
                    break
                self._down(connection)
                self._pause()
        finally:
            self._set_up(False)
            self._lane.inbox.close()
            if not self._begun:  # nothing for the engine, which may still be loading the models
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
            if not self._live:
                continue  # a file may take its time
            if connection.silent:
                connection.error = SourceStalled(f"{self._lane.name}: no frame for {FRAME_AGE:.0f} s")
            elif not self._stop.is_set() or connection.ended.wait(LAST_FRAMES):
                continue
            connection.abandon()
            self._stuck.append(connection)
            return

    def _over(self, connection: Connection) -> bool:
        """Whether this is the stream's end. Raises what it ended by."""
        error = connection.error
        if self._stop.is_set() or self._lane.inbox.closed:  # the engine closes the inbox of what it cannot serve
            return True
        wrong = isinstance(error, MaskcastError) and not isinstance(error, SourceError)
        if error is not None and (wrong or not self._live):
            raise error
        return error is None and (self.frames_expected is not None or not self._live)

    def _down(self, connection: Connection) -> None:
        """Tell it once for each time that the source is lost."""
        self._set_up(False)
        if connection.frames:
            self._backoff.reset()
            self._lost, self.trouble = None, ""
        if self._lost is not None:
            return
        error = connection.error
        why = "ended" if error is None else "stalled" if isinstance(error, SourceStalled) else "error"
        reason = one_line(error) if error is not None else "the connection has ended"
        self._lost, self.trouble = (why, time.monotonic()), reason
        log.warning("stream %s: source down: %s; trying again until it is back", self._lane.name, reason)
        self._lane.tell(Notice(StreamEvent.SOURCE_DOWN, reason), self._epoch)

    def _pause(self) -> None:
        """Before the next attempt. Where too many connections hang in a library, until one of them has ended."""
        self._stop.wait(self._backoff.next())
        while not self._stop.is_set():
            self._stuck = [connection for connection in self._stuck if not connection.ended.is_set()]
            if len(self._stuck) < MOST_STUCK:
                self._stuck_since = None
                return
            if self._stuck_since is None:
                self._stuck_since = time.monotonic()
                log.error("stream %s: %d connections hang; waiting for one to end", self._lane.name, MOST_STUCK)
            self._stop.wait(LOOK)

    def _read(self, connection: Connection) -> None:
        """A connection's thread."""
        try:
            with closing(self._opener.open_source()) as source:
                connection.source = source
                connection.touched = time.monotonic()
                if connection.abandoned.is_set() or not self._opened(connection, source):
                    return
                frames = self._numbering.of(connection, source, self._stop)
                for window in cut_windows(frames, self._lane.governor, connection.epoch):
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
        if source.live and not self._live:
            self._live = True
            self._lane.drop_when_full()
        elif not source.live:
            self._set_up(True)
            connection.waiting = True
            may_start = self._opener.wait_for_start(self._stop)
            connection.waiting = False
            if not may_start:  # no recording is begun of a file that never starts
                return False
            self._delivers(connection)
        if self._recording.open(source.rate) and source.live:
            self._numbering.next = self._recording.next_frame
        return True

    def _set_up(self, up: bool) -> None:
        if self.up and not up:
            self.down_since = time.monotonic()
        self.up = up
        self._metrics.source_up.set(int(up))

    def _delivers(self, connection: Connection) -> None:
        """Tell that the source is up, or up again."""
        self._set_up(True)
        reason = "opened"
        if self._lost is not None:
            why, since = self._lost
            reason = f"connected again after {time.monotonic() - since:.0f} s"
            self._metrics.reconnects[why].inc()
        # a return is told where its loss was
        log.log(logging.WARNING if self._lost else logging.INFO, "stream %s: source up: %s", self._lane.name, reason)
        self._lane.tell(Notice(StreamEvent.SOURCE_UP, reason), connection.epoch)

    def _hand_on(self, connection: Connection, window: Window) -> bool:
        if self._live and not connection.handed_on:
            self._delivers(connection)
        self._begun = True
        self._epoch = window.epoch + 1
        connection.handed_on += len(window.frames)
        connection.waiting = True
        taken = self._lane.inbox.put(window)
        connection.waiting, connection.touched = False, time.monotonic()
        return taken
