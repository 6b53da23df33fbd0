"""Measures how long a stream's frames take from capture to publication."""

import time
from collections import deque

from stages.types import Clock, Frame


class Latency:
    """Times frames. The clock of a file does not say when a frame was read, so that is noted."""

    def __init__(self) -> None:
        self._decoded_at: deque[tuple[int, float]] = deque()  # frame index, monotonic seconds

    def decoded(self, frame: Frame) -> None:
        """Note that a frame was decoded now. Called from the reader's thread, `of` from the writer's."""
        if frame.clock is Clock.FILE:
            self._decoded_at.append((frame.index, time.monotonic()))

    def of(self, frame: Frame) -> float:
        """Seconds since capture; for files, since decoding."""
        if frame.clock is not Clock.FILE:
            return max(0.0, time.time() - frame.captured_at)
        index, decoded_at = -1, time.monotonic()
        while self._decoded_at and index < frame.index:
            index, decoded_at = self._decoded_at.popleft()
        return time.monotonic() - decoded_at
