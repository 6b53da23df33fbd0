"""Capture times: presentation timestamps (PTS) to seconds.

Both clocks take the frames of one connection in order; their times never decrease.
"""

from fractions import Fraction

_RESTART_SECONDS = 1  # the PTS of a file restart where they step back by more
_DRIFT = 0.0005  # seconds per second by which a camera's clock may be slow; crystals stay within a fifth of it
_MAX_DELAY_SECONDS = 10  # more than the delay of a stalled connection that recovers
_CLOCK_STEP_SECONDS = 0.1  # a smaller difference is the time between reading the two clocks


class FileClock:
    """PTS to seconds since the first frame."""

    def __init__(self, rate: float) -> None:
        """``rate``: nominal frames per second, for frames without a PTS."""
        self._frame_seconds = 1 / Fraction(rate)
        self._origin: Fraction | None = None
        self._latest: Fraction | None = None

    def seconds(self, pts: int | None, time_base: Fraction) -> float:
        """Time of the frame; one frame interval after the latest frame where ``pts`` is None or restarts."""
        latest = Fraction(0) if self._latest is None else self._latest
        now = latest if self._latest is None else latest + self._frame_seconds
        if pts is not None:
            presented = pts * time_base
            # a short step back is a frame out of order; a long one is a restart, as in concatenated recordings
            if self._origin is None or latest - (presented - self._origin) > _RESTART_SECONDS:
                self._origin = presented - now
            now = max(presented - self._origin, latest)
        self._latest = now
        return float(now)


class LiveClock:
    """PTS and arrival to Unix seconds: spaced as the PTS are, with the delay of the least delayed packet.

    The time of a frame is its PTS plus an offset: the smallest difference of arrival and PTS so far. Network jitter is
    thus removed. The offset rises slowly, because the camera's clock may be slower than ours. Where PTS step back (wrap
    or restart) or fall far behind arrival, a new offset starts; a step ahead only gives a smaller offset. A frame
    without a PTS gets its arrival time. No time is later than the arrival.

    Arrival is read from the monotonic clock; the wall clock only gives its origin. When the wall clock is set ahead,
    times follow. When it is set back, times continue without a step, because they must not decrease, until the wall
    clock has caught up or the source is opened again.
    """

    def __init__(self) -> None:
        self._wall_offset: float | None = None  # wall clock minus monotonic clock
        self._offset = 0.0  # monotonic clock minus PTS
        self._last_pts: float | None = None  # seconds
        self._last_arrival = 0.0  # of that PTS, monotonic
        self._latest = float("-inf")

    def seconds(self, pts: int | None, time_base: Fraction, monotonic: float, wall: float) -> float:
        """Unix time of a frame whose packet arrived at ``monotonic`` = time.monotonic(), ``wall`` = time.time()."""
        wall_offset = wall - monotonic
        if self._wall_offset is None or wall_offset - self._wall_offset > _CLOCK_STEP_SECONDS:
            self._wall_offset = wall_offset
        captured = monotonic if pts is None else self._captured(float(pts * time_base), monotonic)
        self._latest = max(self._latest, captured + self._wall_offset)
        return self._latest

    def delay(self, pts: int | None, time_base: Fraction, monotonic: float) -> float:
        """Delay in seconds of a packet read at ``monotonic``, relative to the least delayed packet so far.

        Negative for a packet that is less delayed; 0 where it is unknown. Does not change the clock.
        """
        if pts is None or self._last_pts is None or pts * time_base < self._last_pts:
            return 0.0
        return monotonic - float(pts * time_base) - self._drifted_offset(monotonic)

    def _drifted_offset(self, arrival: float) -> float:
        return self._offset + _DRIFT * (arrival - self._last_arrival)

    def _captured(self, pts: float, arrival: float) -> float:
        """Capture time on the monotonic clock; never after ``arrival``."""
        offset = arrival - pts
        if self._last_pts is not None and pts >= self._last_pts:
            drifted = self._drifted_offset(arrival)
            if offset - drifted < _MAX_DELAY_SECONDS:
                offset = min(offset, drifted)
        self._offset, self._last_pts, self._last_arrival = offset, pts, arrival
        return pts + offset
