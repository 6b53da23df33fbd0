"""One stream: a reader thread fills the lane's inbox, a writer thread empties its outbox."""

import logging
import threading
import time
from collections.abc import Callable

from daemon.lane.lane import Lane
from daemon.lane.mailbox import Mailbox
from daemon.lane.outcome import Outcome
from daemon.sinks.preview import Preview
from daemon.stream.reader import Reader
from daemon.stream.snapshot import Snapshot
from daemon.stream.writer import Writer
from stages.errors import one_line
from stages.types import Window

log = logging.getLogger(__name__)


class Stream:
    """Runs until its source ends for good, it is stopped, or it fails; ``error`` then says why.

    Files push back all the way; live streams drop the oldest window and the oldest results, counted, and connect again
    whenever their source is lost.
    """

    def __init__(
        self,
        lane: Lane,
        reader: Reader,
        writer: Writer,
        *,
        source: str,
        preview: Preview,
        hurry: threading.Event,
        patient: bool,
    ) -> None:
        """``source`` as it may be shown; ``hurry``: once set, no message waits for a slow subscriber; ``patient``: the
        writer waits for slow subscribers, however long."""
        self.lane, self.source, self.preview = lane, source, preview
        self.name, self.metrics = lane.name, lane.metrics
        self.error: Exception | None = None
        self._reader, self._writer, self._patient, self._hurry = reader, writer, patient, hurry
        self._wrote = time.monotonic()  # when the writer thread last had nothing to do, or had done it
        self._reader_thread = threading.Thread(target=self._read, name=f"{self.name}-reader", daemon=True)
        self._writer_thread = threading.Thread(target=self._write, name=f"{self.name}-writer", daemon=True)
        for queue, mailbox in (("windows", lane.inbox), ("results", lane.outbox)):
            self.metrics.queue[queue].set_function(_frames_in(mailbox))

    def start(self) -> None:
        self._reader_thread.start()
        self._writer_thread.start()

    @property
    def up(self) -> bool:
        """The source delivers."""
        return self._reader.up

    @property
    def trouble(self) -> str:
        """Why the source is down, or was when last it was; "" when it never was."""
        return self._reader.trouble

    @property
    def live(self) -> bool:
        """The source is live, as far as is known."""
        return self._reader.live

    @property
    def stopped(self) -> bool:
        """It ends, or has ended, because it was told to."""
        return self._reader.stopped

    @property
    def snapshot(self) -> Snapshot:
        """What was published last."""
        return self._writer.snapshot

    @property
    def down_for(self) -> float:
        """Seconds without a source that delivers; 0 while it does."""
        return 0.0 if self.up else time.monotonic() - self._reader.down_since

    @property
    def frames_expected(self) -> int | None:
        """About how many frames the source has; None when live, unknown or not open yet."""
        return self._reader.frames_expected

    @property
    def ended(self) -> bool:
        """All that was read has left and the recording is closed."""
        return not (self._reader_thread.is_alive() or self._writer_thread.is_alive())

    @property
    def seconds(self) -> float:
        """From the moment the first frame was asked for until the last one was published."""
        last, started = self.metrics.last_published, self._reader.started
        return last - started if last is not None and started is not None else 0.0

    @property
    def progress(self) -> float:
        """Monotonic seconds when both threads were last seen to work, or to have nothing to do.

        A camera that is down is no standstill, nor is a subscriber that is waited for; a thread stuck in a library is.
        """
        now = time.monotonic()
        reading = self._reader.progress if self._reader_thread.is_alive() else now
        writing = self._wrote if self._writer_thread.is_alive() and not self._patient else now
        return min(reading, writing)

    def stop(self) -> None:
        """Read no more; what was read still leaves."""
        self._reader.stop()

    def abort(self) -> None:
        """Throw away what still waits; the recording is closed all the same."""
        self.stop()
        self._hurry.set()
        self.lane.inbox.close(discard=True)
        self.lane.outbox.close(discard=True)

    def join(self, timeout: float) -> bool:
        """Wait for the end; False when it did not come within ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        for thread in (self._reader_thread, self._writer_thread):
            thread.join(max(0.0, deadline - time.monotonic()))
        return self.ended

    def _read(self) -> None:
        try:
            self._reader.run()
        except Exception as error:
            self._fail(error)

    def _write(self) -> None:
        try:
            while not self.lane.outbox.drained:
                outcome = self.lane.outbox.get(timeout=0.5)
                if outcome is not None:
                    self._writer.write(outcome)
                self._writer.status_when_due()
                self._wrote = time.monotonic()
        except Exception as error:
            self._fail(error)
            self.abort()
        if self.lane.error is not None and not self.metrics.frames_published:
            self._fail(self.lane.error)
        try:
            self._writer.close(self._reason())
        except Exception as error:
            self._fail(error)
        if self._writer.failure is not None:
            self._fail(self._writer.failure)

    def _reason(self) -> str:
        if self.error is not None:
            return one_line(self.error)
        return "stopped" if self._reader.stopped else "the source has ended"

    def _fail(self, error: Exception) -> None:
        """The first reason counts; those that follow come from it."""
        log.debug("stream %s", self.name, exc_info=error)
        self.error = self.error or error


def _frames_in(mailbox: Mailbox[Window] | Mailbox[Outcome]) -> Callable[[], float]:
    def count() -> float:
        return float(sum(len(item.frames if isinstance(item, Window) else item.results) for item in mailbox.peek()))

    return count
