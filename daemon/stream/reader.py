"""Reads a stream's source into windows: a file once; a live source again and again, with reconnects."""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

from daemon.lane.lane import Lane
from daemon.lane.outcome import Notice
from daemon.sinks.recording import Recording
from daemon.stream.connection import Connection
from daemon.stream.latency import Latency
from daemon.stream.numbering import FrameNumbering
from daemon.stream.reconnect import Backoff, Reconnect
from stages.errors import MaskcastError, SourceError, SourceStalled, SourceUnreachable, one_line
from stages.keyframes.motion import watched
from stages.source.source import Source
from stages.types import StreamEvent, Window
from stages.windows import cut_windows

LOOK = 0.25  # seconds between two looks at a connection
LAST_FRAMES = 1.0  # seconds that a connection has for its last window when its stream is stopped

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SourceOpener:
    """How a stream's source is opened, again and again if it is live."""

    live: bool  # True when the source is surely live; some turn out to be once they are open
    open_source: Callable[[], Source]
    wait_for_start: Callable[[threading.Event], bool]  # holds a file back until models and subscribers are ready
    ready: Callable[[], bool]  # the models are loaded; live frames are dropped until then
    max_fps: float = 0.0  # frames per second that are kept; 0: all


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
        self._numbering = FrameNumbering(lane.metrics, recording, latency, opener.max_fps)
        self._reconnect = Reconnect(lane.name, backoff or Backoff())
        self._live = opener.live
        self._stop = threading.Event()
        self._begun = False  # a window was handed on, or is about to be
        self._epoch = 0  # of the next connection
        self._connection: Connection | None = None
        self._lost: tuple[str, float] | None = None  # why, and since when (monotonic), there are no frames
        self.trouble = ""  # the reason in words

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
        """Monotonic seconds of the source's last progress. Retrying and waiting for others count as progress."""
        if self._reconnect.stuck_since is not None:
            return self._reconnect.stuck_since
        connection = self._connection
        if connection is None or connection.waiting or self._live:
            return time.monotonic()
        return connection.touched

    def stop(self) -> None:
        """Read no more; windows that were read are still processed."""
        self._stop.set()
        connection = self._connection
        if connection is not None and connection.source is not None:
            connection.source.close()

    def run(self) -> None:
        """Read until the source has ended for good or the stream is stopped. Raises the error that ended it."""
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
                self._reconnect.wait(self._stop)
        finally:
            self._set_up(False)
            self._lane.inbox.close()
            if not self._begun:  # the engine, which may still be loading the models, has nothing to do
                self._lane.outbox.close()

    def _connect(self) -> Connection:
        number = self._connection.number + 1 if self._connection else 0
        connection = self._connection = Connection(number, self._epoch)
        name = f"{self._lane.name}-source-{number}"
        threading.Thread(target=self._read, args=(connection,), name=name, daemon=True).start()
        return connection

    def _watch(self, connection: Connection) -> None:
        """Wait until the connection has ended, or leave it behind when it is silent or does not stop."""
        while not connection.ended.wait(LOOK):
            if not self._live:
                continue  # a file may take its time
            if connection.silent:
                connection.error = SourceStalled(f"{self._lane.name}: no frame for {connection.patience:.0f} s")
            elif not self._stop.is_set() or connection.ended.wait(LAST_FRAMES):
                continue
            self._reconnect.leave(connection)
            return

    def _over(self, connection: Connection) -> bool:
        """Whether the stream ends with this connection. Raises the error that it ends with."""
        error = connection.error
        if self._stop.is_set() or self._lane.inbox.closed:  # the engine closes the inbox of what it cannot serve
            return True
        wrong = isinstance(error, MaskcastError) and not isinstance(error, SourceError)
        # what comes over HTTP may be live: only once it is open one knows
        absent = connection.source is None and isinstance(error, (SourceStalled, SourceUnreachable))
        if error is not None and (wrong or not (self._live or absent)):
            raise error
        return error is None and (self.frames_expected is not None or not self._live)

    def _down(self, connection: Connection) -> None:
        """Publish source_down, once for each loss of the source."""
        self._set_up(False)
        if connection.frames:
            self._reconnect.succeeded()
            self._lost, self.trouble = None, ""
        if self._lost is not None:
            return
        error = connection.error
        why = "ended" if error is None else "stalled" if isinstance(error, SourceStalled) else "error"
        reason = one_line(error) if error is not None else "the connection has ended"
        self._lost, self.trouble = (why, time.monotonic()), reason
        log.warning(
            "stream %s: source down: %s; trying again until it is back",
            self._lane.name,
            reason,
            extra={"event": "source_down"},
        )
        self._lane.tell(Notice(StreamEvent.SOURCE_DOWN, reason), self._epoch)

    def _read(self, connection: Connection) -> None:
        """A connection's thread."""
        try:
            with closing(self._opener.open_source()) as source:
                connection.source = source
                connection.touched = time.monotonic()
                if connection.abandoned.is_set() or not self._opened(connection, source):
                    return
                frames = self._numbering.of(connection, source, self._stop, self._opener.ready)
                for window in cut_windows(watched(frames), connection.epoch):
                    if connection.abandoned.is_set() or not self._hand_on(connection, window):
                        return
        except Exception as error:
            log.debug("stream %s: connection %d", self._lane.name, connection.number, exc_info=True)
            connection.error = connection.error or error
        finally:
            connection.ended.set()

    def _opened(self, connection: Connection, source: Source) -> bool:
        """Prepare for the frames of an opened source; False when the stream is stopped before they may come."""
        kept = min(1.0, self._opener.max_fps / source.rate) if self._opener.max_fps else 1.0  # share of the frames
        expected = source.frames_expected
        self.frames_expected = expected and max(1, round(expected * kept))
        if source.live and not self._live:
            self._live = True
            self._lane.drop_when_full()
        elif not source.live:
            self._set_up(True)
            connection.waiting = True
            may_start = self._opener.wait_for_start(self._stop)
            connection.waiting = False
            if not may_start:  # a file that never starts is not recorded
                return False
            self._delivers(connection)
        if self._recording.open(source.rate * kept, source.live) and source.live:
            self._numbering.next = self._recording.next_frame
        return True

    def _set_up(self, up: bool) -> None:
        if self.up and not up:
            self.down_since = time.monotonic()
        self.up = up
        self._metrics.source_up.set(int(up))

    def _delivers(self, connection: Connection) -> None:
        """Publish source_up."""
        self._set_up(True)
        reason = "opened"
        if self._lost is not None:
            why, since = self._lost
            reason = f"connected again after {time.monotonic() - since:.0f} s"
            self._metrics.reconnects[why].inc()
        # a return is logged at the level of its loss
        level = logging.WARNING if self._lost else logging.INFO
        log.log(level, "stream %s: source up: %s", self._lane.name, reason, extra={"event": "source_up"})
        self._lane.tell(Notice(StreamEvent.SOURCE_UP, reason), connection.epoch)

    def _hand_on(self, connection: Connection, window: Window) -> bool:
        if self._live and not connection.handed_on:
            self._delivers(connection)
        self._begun = True
        self._epoch = window.epoch + 1
        connection.handed_on += len(window.frames)
        connection.waiting = True
        taken = self._lane.inbox.put(window, window.frames[-1].due)
        connection.waiting, connection.touched = False, time.monotonic()
        return taken
