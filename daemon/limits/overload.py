"""Tells whether a stream keeps losing windows because the engine is too slow for it."""

BURST = 2.0  # seconds of losses that are no overload yet: a camera that connects sends many frames at once
SERIES = 10.0  # seconds without a loss that end a series of losses


class Overload:
    """Counts the windows of one stream that were dropped because the engine was busy."""

    def __init__(self) -> None:
        self.count = 0  # the reader's thread adds, the engine's reads
        self._seen = 0
        self._since = 0.0  # monotonic seconds of the first and the last loss of a series
        self._last = float("-inf")

    def add(self) -> None:
        """Count one dropped window."""
        self.count += 1

    def forgive(self) -> None:
        """Ignore the windows dropped so far: they say nothing of the engine's speed."""
        self._seen = self.count

    def lasts(self, now: float) -> bool:
        """Whether windows were dropped since the last call, in a series of losses that is longer than a burst."""
        count = self.count
        losing, self._seen = count > self._seen, count
        if losing:
            if now - self._last > SERIES:
                self._since = now
            self._last = now
        return losing and now - self._since >= BURST

    def is_recent(self, now: float) -> bool:
        """Whether windows were dropped within the last SERIES seconds."""
        return self.count > self._seen or now - self._last < SERIES
