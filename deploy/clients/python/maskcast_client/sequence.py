"""Losses and restarts, from ``session`` and ``seq``, and older publishers, from ``fence``."""

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


class Fences:
    """The highest ``fence`` of each stream: a fleet raises it each time it gives the stream to another daemon."""

    def __init__(self) -> None:
        self._highest: dict[str, int] = {}  # by stream

    def admits(self, header: dict[str, Any]) -> bool:
        """Whether the message is no older publisher's; one without a fence never is."""
        stream, fence = header["stream"], header.get("fence")
        if not isinstance(fence, int):
            return True
        self._highest[stream] = max(fence, self._highest.get(stream, fence))
        return fence == self._highest[stream]
