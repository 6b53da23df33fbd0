"""One opening of a source."""

import threading
import time

from stages.source.source import Source

OPENING = 60.0  # seconds that opening a source may take: its own timeouts, for TCP and for UDP
OVERDUE = 20.0  # seconds past a source's own patience after which its connection is given up


class Connection:
    """One opening of a source, read in a thread of its own: one that hangs in a library can be left behind.

    Its thread writes, the reader's thread reads; ``abandon`` is for the reader's.
    """

    def __init__(self, number: int, epoch: int) -> None:
        self.number, self.epoch = number, epoch
        self.frames = self.handed_on = 0  # read, and of them those handed on in windows
        self.touched = time.monotonic()  # when the last frame came, or the connection began
        self.waiting = False  # for room, models or subscribers: not the source's fault
        self.source: Source | None = None
        self.error: Exception | None = None
        self.abandoned = threading.Event()
        self.ended = threading.Event()

    def abandon(self) -> None:
        """Take nothing more from it, and close its source."""
        self.abandoned.set()
        if self.source is not None:
            self.source.close()

    @property
    def patience(self) -> float:
        """Seconds without a frame after which it is given up: its source, which should have raised by then, hangs."""
        return OVERDUE + (OPENING if self.source is None else self.source.patience)

    @property
    def silent(self) -> bool:
        """No frame has come for too long."""
        return not self.waiting and time.monotonic() - self.touched > self.patience
