"""The last status of every stream, for subscribers that join late."""

import time

GATHER_S = 0.1  # joins are answered together: many subscribers that come at once would cause a flood of copies


class LateJoiners:
    """Keeps the last status message of each stream and knows which are due. One thread at a time may use it."""

    def __init__(self) -> None:
        self._last: dict[bytes, tuple[list[bytes], float]] = {}  # by topic: parts, monotonic seconds
        self._topics: set[bytes] = set()  # subscribed to since the last answer
        self._answered_at = 0.0  # monotonic seconds

    def keep(self, parts: list[bytes]) -> None:
        """Keep this status in place of the one before."""
        self._last[parts[0]] = parts, time.monotonic()

    def joined(self, topic: bytes) -> None:
        """Somebody has subscribed to the topics that begin with ``topic``."""
        self._topics.add(topic)

    def due(self, now: float) -> list[list[bytes]]:
        """The messages that the subscribers want who have come since the last answer; ``now``: monotonic seconds."""
        if not self._topics or now - self._answered_at < GATHER_S:
            return []
        prefixes = tuple(self._topics)
        self._topics.clear()
        self._answered_at = now
        return [parts for topic, (parts, _) in self._last.items() if topic.startswith(prefixes)]

    def forget(self, silent_for: float) -> None:
        """Forget the streams that sent no status for this many seconds."""
        since = time.monotonic() - silent_for
        self._last = {topic: kept for topic, kept in self._last.items() if kept[1] > since}
