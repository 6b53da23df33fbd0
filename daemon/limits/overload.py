"""Whether windows are lost for so long that it is an overload."""

BURST = 2.0  # seconds for which windows may be lost before it is an overload: a camera that connects sends at once
SERIES = 10.0  # seconds without a loss after which the next one is a new matter


class Overload:
    """The windows of one stream that were lost because the engine was busy."""

    def __init__(self) -> None:
        self.count = 0  # the reader's thread adds, the engine's looks
        self._seen = 0
        self._since = 0.0  # monotonic seconds of the first and the last loss of a series of them
        self._last = float("-inf")

    def add(self) -> None:
        """One more."""
        self.count += 1

    def forgive(self) -> None:
        """What was lost so far says nothing of how fast the engine is."""
        self._seen = self.count

    def are_overload(self, now: float) -> bool:
        """Whether there were more since the last call, and have been again and again."""
        count = self.count
        losing, self._seen = count > self._seen, count
        if losing:
            if now - self._last > SERIES:
                self._since = now
            self._last = now
        return losing and now - self._since >= BURST
