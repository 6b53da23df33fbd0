"""One opening of a source, and how long to wait before the next."""

import random
import threading
import time

from stages.source.source import Source

FRAME_AGE = 20.0  # seconds without a frame after which a connection is given up; its own time-outs are shorter


class Backoff:
    """Seconds to wait before the next attempt: longer from one to the next, with jitter, from ``least`` to ``most``."""

    def __init__(self, least: float = 1.0, most: float = 30.0) -> None:
        self._least, self._most = least, most
        self.reset()

    def reset(self) -> None:
        self._ceiling = self._least

    def next(self) -> float:
        self._ceiling = min(self._most, 2 * self._ceiling)
        return random.uniform(self._least, self._ceiling)  # noqa: S311 - spreads load, guards nothing


class Connection:
    """One opening of a source, read in a thread of its own, so that one that hangs can be left to itself."""

    def __init__(self, number: int, epoch: int) -> None:
        self.number, self.epoch = number, epoch
        self.frames = self.handed_on = 0  # that it has brought, and of them those that left it in windows
        self.touched = time.monotonic()  # when the last frame came, or the connection began
        self.waiting = False  # for room, models or subscribers: no fault of the source's
        self.source: Source | None = None
        self.error: Exception | None = None
        self.abandoned = threading.Event()
        self.ended = threading.Event()

    def abandon(self) -> None:
        """Take nothing more from it."""
        self.abandoned.set()
        if self.source is not None:
            self.source.close()

    @property
    def silent(self) -> bool:
        return not self.waiting and time.monotonic() - self.touched > FRAME_AGE
