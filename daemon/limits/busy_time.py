"""How much of the engine's time one stream takes."""

import time
from collections import deque

SPAN = 30.0  # seconds that are looked back on
LEAST = 5.0  # seconds that a share is of at least: the first windows of a stream say little


class BusyTime:
    """The seconds that the engine's thread spent on one stream, over the last SPAN seconds.

    It is wall-clock time of the thread that runs the models: from taking a window up until its results are on the host.
    On a GPU that is a fair measure of the GPU's time, too, since a window ends by reading small results back, which
    waits for all its kernels, and since one thread runs all streams. What the host does meanwhile counts as well. The
    engine adds, any thread reads.
    """

    def __init__(self) -> None:
        self._since: float | None = None  # monotonic seconds when the first time was spent
        self._spent: deque[tuple[float, float]] = deque()  # monotonic seconds of its end, seconds

    def add(self, seconds: float) -> None:
        """Add time that has just been spent; negative where another stream is to be charged."""
        now = time.monotonic()
        if self._since is None:
            self._since = now - max(0.0, seconds)
        self._spent.append((now, seconds))
        while self._spent[0][0] < now - SPAN:
            self._spent.popleft()

    @property
    def seconds(self) -> float:
        """Seconds spent over the last SPAN seconds."""
        oldest = time.monotonic() - SPAN
        return max(0.0, sum(seconds for ended, seconds in self._spent.copy() if ended >= oldest))

    @property
    def share(self) -> float:
        """The same as a share, 0 to 1, of these seconds, or of those since the stream's first window began."""
        if self._since is None:
            return 0.0
        span = min(SPAN, max(LEAST, time.monotonic() - self._since))
        return min(1.0, self.seconds / span)
