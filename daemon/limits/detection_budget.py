"""How much of the engine's time detection takes, and whether it may take more."""

import math
import time

SPAN = 5.0  # seconds over which shares are means: what lies back counts by exp(-age / SPAN)
BUSY = 0.9  # share of the engine's time for live streams from which on it has none to spare


class RecentShare:
    """The share of the last seconds that was spent on something. One thread uses it."""

    def __init__(self) -> None:
        self._value, self._at = 0.0, time.monotonic()

    def add(self, seconds: float) -> None:
        """Add time that has just been spent."""
        self._value, self._at = self.value + seconds / SPAN, time.monotonic()

    @property
    def value(self) -> float:
        return self._value * math.exp(-(time.monotonic() - self._at) / SPAN)


class DetectionBudget:
    """The time that live streams may spend on keyframes sooner than they must. The engine's thread owns it.

    All detection on live streams counts, also what they must do. Files do not count, since they wait for whatever time
    is left.
    """

    def __init__(self) -> None:
        self.detection = RecentShare()
        self.work = RecentShare()  # windows of live streams, detection included

    def allows(self, share: float) -> bool:
        """Whether detection takes less than ``share`` of the engine's time, and the engine has time to spare."""
        return self.detection.value < share and self.work.value < BUSY
