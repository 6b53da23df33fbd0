"""One stream: a reader thread fills the lane's inbox, a writer thread empties its outbox."""

import logging
import threading
import time
from collections.abc import Callable

from daemon.lane.lane import Lane, frames_in
from daemon.lane.mailbox import Mailbox
from daemon.lane.outcome import Outcome
from daemon.sinks.preview import Preview
from daemon.sinks.recording import Recording
from daemon.stream.reader import Reader
from daemon.stream.snapshot import Snapshot
from daemon.stream.writer import Identity, Writer
from stages.errors import one_line
from stages.types import Window

log = logging.getLogger(__name__)


class Stream:
    """One stream with its two threads. It ends when its source has ended for good, when it is stopped or when it fails.

    ``error`` says why it failed. A file's reader waits for the engine and the writer; a live stream drops its oldest
    window and its oldest results instead, counts them, and reconnects whenever its source is lost. Any thread may call.
    """

    def __init__(
        self,
        lane: Lane,
        reader: Reader,
        writer: Writer,
        *,
        source: str,
        preview: Preview,
        recording: Recording,
        hurry: threading.Event,
        patient: bool,
    ) -> None:
        """``source`` as it may be shown; ``hurry``: once set, no message waits for a slow subscriber; ``patient``: the
        writer waits for slow subscribers, however long."""
        self.lane, self.source, self.preview, self._recording = lane, source, preview, recording
        self.name, self.metrics = lane.name, lane.metrics
        self.error: Exception | None = None
        self._reader, self._writer, self._patient, self._hurry = reader, writer, patient, hurry
        self._wrote = time.monotonic()  # when the writer thread last finished an outcome or had none
        self._reader_thread = threading.Thread(target=self._read, name=f"{self.name}-reader", daemon=True)
        self._writer_thread = threading.Thread(target=self._write, name=f"{self.name}-writer", daemon=True)
        for queue, mailbox in (("windows", lane.inbox), ("results", lane.outbox)):
            self.metrics.queue[queue].set_function(_frames_in(mailbox))

    def start(self) -> None:
        """Start both threads."""
        self._reader_thread.start()
        self._writer_thread.start()

    @property
    def identity(self) -> Identity:
        """What its headers say of it."""
        return self._writer.identity

    @property
    def placed(self) -> bool:
        """A program that places streams on many daemons has started it here."""
        return self.lane.lease.fence is not None or self.identity.predecessor is not None

    @property
    def frames_waiting(self) -> int:
        """Frames that wait for the engine."""
        return sum(map(frames_in, self.lane.inbox.peek()))

    @property
    def up(self) -> bool:
        """The source delivers."""
        return self._reader.up

    @property
    def trouble(self) -> str:
        """Why the source is down, or was down last; "" when it never was."""
        return self._reader.trouble

    @property
    def not_recorded(self) -> str:
        """Why its frames are not recorded now; "" while they are, or none are to be."""
        return self._recording.trouble

    @property
    def live(self) -> bool:
        """The source is live, as far as is known."""
        return self._reader.live

    @property
    def stopped(self) -> bool:
        """It was asked to stop."""
        return self._reader.stopped

    @property
    def snapshot(self) -> Snapshot:
        """The last published frame."""
        return self._writer.snapshot

    @property
    def down_for(self) -> float:
        """Seconds since the source last delivered; 0 while it does."""
        return 0.0 if self.up else time.monotonic() - self._reader.down_since

    @property
    def frames_expected(self) -> int | None:
        """Estimated number of frames of the source; None when live, unknown or not open yet."""
        return self._reader.frames_expected

    @property
    def ended(self) -> bool:
        """Both threads have ended: every result was sent and the recording is closed."""
        return not (self._reader_thread.is_alive() or self._writer_thread.is_alive())

    @property
    def seconds(self) -> float:
        """Seconds from the request for the first frame until the last publication."""
        last, started = self.metrics.last_published, self._reader.started
        return last - started if last is not None and started is not None else 0.0

    @property
    def progress(self) -> float:
        """Monotonic seconds of the last moment at which both threads had made progress or had nothing to do.

        A camera that is down and a slow subscriber that is waited for count as progress; a thread that hangs in a
        library does not.
        """
        now = time.monotonic()
        reading = self._reader.progress if self._reader_thread.is_alive() else now
        writing = self._wrote if self._writer_thread.is_alive() and not self._patient else now
        return min(reading, writing)

    def stop(self) -> None:
        """Read no more; frames that were read are still published."""
        self._reader.stop()

    def abort(self) -> None:
        """Stop, and discard what waits in the queues; the recording is still closed."""
        self.stop()
        self._hurry.set()
        self.lane.inbox.close(discard=True)
        self.lane.outbox.close(discard=True)

    def join(self, timeout: float) -> bool:
        """Wait for both threads; False when they have not ended within ``timeout`` seconds."""
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
        """Keep the first error; later ones follow from it."""
        log.debug("stream %s", self.name, exc_info=error)
        self.error = self.error or error


def _frames_in(mailbox: Mailbox[Window] | Mailbox[Outcome]) -> Callable[[], float]:
    return lambda: float(sum(map(frames_in, mailbox.peek())))
