"""Whether a machine's clock is right, by the times that its reports carry."""

from collections import deque

WINDOW = 3.0  # seconds of reports that are compared
ENOUGH = 2.0  # seconds that they must cover: reports that were held up come all at once
LEAST = 5.0  # seconds; what a report may be late by is no fault of the clock


class ClockOffset:
    """How far a clock is ahead of ours. One thread at a time calls.

    A report that was held up makes its clock seem to be behind, so the largest offset of the last seconds counts.
    """

    def __init__(self) -> None:
        self._offsets: deque[tuple[float, float]] = deque()  # when it was heard, seconds ahead

    def hear(self, now: float, ahead: float) -> None:
        """A report has come at ``now``, whose time was ``ahead`` seconds ahead of ours."""
        self._offsets.append((now, ahead))
        while now - self._offsets[0][0] > WINDOW:
            self._offsets.popleft()

    @property
    def ahead(self) -> float:
        """Whole seconds; 0 for less than `LEAST`, and until enough was heard."""
        if not self._offsets or self._offsets[-1][0] - self._offsets[0][0] < ENOUGH:
            return 0.0
        ahead = max(ahead for _, ahead in self._offsets)
        return round(ahead) if abs(ahead) > LEAST else 0.0
