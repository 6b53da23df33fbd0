"""When a picture was taken: presentation time stamps (PTS) to seconds.

Both clocks read the pictures of one connection in order and never run backwards.
"""

from fractions import Fraction

_NEW_COUNT_SECONDS = 1  # a longer step back in a file is a new count
_DRIFT = 0.0005  # seconds a second by which a camera's clock may be slower than ours; crystals keep to a fifth of it
_LATE_SECONDS = 10  # more than what a stalled connection that recovers can be behind
_CLOCK_STEP_SECONDS = 0.1  # less is the time between two readings


class FileClock:
    """Presentation time to seconds since the first picture."""

    def __init__(self, rate: float) -> None:
        """``rate``: nominal frames per second, for pictures without a PTS."""
        self._step = 1 / Fraction(rate)
        self._origin: Fraction | None = None
        self._latest: Fraction | None = None

    def seconds(self, pts: int | None, time_base: Fraction) -> float:
        """One frame's time after the latest picture where there is no ``pts``, or where it starts anew."""
        latest = Fraction(0) if self._latest is None else self._latest
        now = latest if self._latest is None else latest + self._step
        if pts is not None:
            at = pts * time_base
            # a short step back is a picture out of order, a long one a new count, as in joined recordings
            if self._origin is None or latest - (at - self._origin) > _NEW_COUNT_SECONDS:
                self._origin = at - now
            now = max(at - self._origin, latest)
        self._latest = now
        return float(now)


class LiveClock:
    """PTS and arrival to Unix seconds: as even as the PTS, as late as the packet that was least delayed.

    A picture's time is its PTS plus an offset, the smallest of arrival minus PTS so far; delays of the network thus
    do not show. The offset rises slowly, since the camera's clock may be the slower one. PTS that step back (a wrap,
    a reset, a new count), or that fall far behind arrival, begin a new offset; a step ahead is just a smaller one.
    Pictures without a PTS count as taken when they arrived. No time lies after its arrival.

    Arrival is told by the monotonic clock; the wall clock only says where that starts. When the wall clock is set
    ahead, times follow. When it is set back they go on as they were, since they may not run backwards, until it has
    caught up or the source is opened again.
    """

    def __init__(self) -> None:
        self._wall_ahead: float | None = None  # wall clock minus monotonic clock
        self._offset = 0.0  # monotonic clock minus PTS
        self._last_pts: float | None = None  # seconds
        self._last_arrival = 0.0  # of it, monotonic
        self._latest = float("-inf")

    def seconds(self, pts: int | None, time_base: Fraction, monotonic: float, wall: float) -> float:
        """Unix time of a picture whose packet came at ``monotonic`` = time.monotonic(), ``wall`` = time.time()."""
        ahead = wall - monotonic
        if self._wall_ahead is None or ahead - self._wall_ahead > _CLOCK_STEP_SECONDS:
            self._wall_ahead = ahead
        taken = monotonic if pts is None else self._taken(float(pts * time_base), monotonic)
        self._latest = max(self._latest, taken + self._wall_ahead)
        return self._latest

    def late(self, pts: int | None, time_base: Fraction, monotonic: float) -> float:
        """By how many seconds a packet that is read at ``monotonic`` is later than the least delayed one.

        Below 0 it is the least delayed one itself; 0 where that cannot be told. It changes nothing.
        """
        if pts is None or self._last_pts is None or pts * time_base < self._last_pts:
            return 0.0
        return monotonic - float(pts * time_base) - self._kept(monotonic)

    def _kept(self, arrival: float) -> float:
        return self._offset + _DRIFT * (arrival - self._last_arrival)

    def _taken(self, pts: float, arrival: float) -> float:
        """On the monotonic clock; never after ``arrival``."""
        offset = arrival - pts
        if self._last_pts is not None and pts >= self._last_pts:
            kept = self._kept(arrival)
            if offset - kept < _LATE_SECONDS:
                offset = min(offset, kept)
        self._offset, self._last_pts, self._last_arrival = offset, pts, arrival
        return pts + offset
