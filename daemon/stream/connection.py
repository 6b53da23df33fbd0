"""One opening of a source."""

import threading
import time

from stages.source.source import Source

FRAME_AGE = 20.0  # seconds without a frame after which a connection is given up; its own time-outs are shorter


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
    def silent(self) -> bool:
        """No frame has come for too long."""
        return not self.waiting and time.monotonic() - self.touched > FRAME_AGE
