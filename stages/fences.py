"""Fences: numbers by which a receiver knows which of two publishers of one stream is the older one.

The number of a stream rises each time the stream is given to another daemon (a fencing token: M. Kleppmann, "How to do
distributed locking", 2016).
"""

import time


class Fences:
    """The highest fence of each stream. One thread at a time may use it."""

    def __init__(self) -> None:
        self._highest: dict[str, tuple[int, float]] = {}  # by stream: fence, monotonic seconds of its last message

    def admits(self, stream: str, fence: object) -> bool:
        """Whether a message with this ``fence`` is as new as all before it; one that has no fence always is."""
        if not isinstance(fence, int):
            return True
        highest, _ = self._highest.get(stream, (fence, 0.0))
        if fence < highest:
            return False
        self._highest[stream] = fence, time.monotonic()
        return True

    def forget(self, silent_for: float) -> None:
        """Forget the streams that no message was admitted of for this many seconds."""
        since = time.monotonic() - silent_for
        self._highest = {stream: seen for stream, seen in self._highest.items() if seen[1] > since}
