"""Losses and restarts, from ``session`` and ``seq``."""

from typing import Any


class Sequence:
    """Follows ``seq``, which counts the messages of one kind by stream and session without holes."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[str, int]] = {}  # by stream: session, seq

    def follow(self, header: dict[str, Any]) -> tuple[int, bool]:
        """Messages that are missing before this one, and whether its session is a new one.

        Nothing is missing before a stream's first message. In a new session those count that were sent before this
        subscriber was connected again; how many the old session still sent is not known.
        """
        stream, session, seq = header["stream"], header["session"], header["seq"]
        before = self._last.get(stream)
        self._last[stream] = session, seq
        if before is None:
            return 0, False
        if before[0] != session:
            return seq, True
        return max(0, seq - before[1] - 1), False
