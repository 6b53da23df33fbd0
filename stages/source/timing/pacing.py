"""How long the packets of a live source may wait: those that come in a burst need not be processed all at once."""

_CATCH_UP = 0.9  # share of the time between two frames; a burst at the start is made up for in ten times its length
_LONGEST_STEP = 10.0  # seconds; a longer step of the time stamps is a jump
_SHORTEST_STEP_BACK = 1.0  # seconds; a shorter one is a frame out of order
_MOST_AHEAD = 30.0  # seconds; longer than a segment of HLS


class Steps:
    """The time between packets by their time stamps, which may jump."""

    def __init__(self, rate: float) -> None:
        """``rate``: nominal frames per second, for jumps."""
        self._frame_seconds = 1 / rate
        self._stamp: float | None = None

    def to(self, stamp: float) -> float:
        """Seconds from the packet before to the one with ``stamp``, in seconds; 0 for one out of order."""
        before, self._stamp = self._stamp, stamp
        if before is None:
            return 0.0
        step = stamp - before
        if -_SHORTEST_STEP_BACK <= step <= 0:
            self._stamp = before
            return 0.0
        return step if 0 < step <= _LONGEST_STEP else self._frame_seconds


class Pacing:
    """The latest time for each packet of a live source.

    A packet is due when it arrives. Packets that arrive faster than their time stamps advance, as an HLS segment does
    and the group of pictures that many servers send first, are due one after another, a little faster than in real
    time. Time stamps that run ahead of arrival for more than any burst are no clock: packets are then due at arrival.
    """

    def __init__(self, rate: float, start: float) -> None:
        """``rate``: nominal frames per second. ``start``: monotonic seconds; nothing is due before."""
        self._steps = Steps(rate)
        self._due = start
        self._trusted = True  # the time stamps

    def due(self, stamp: float | None, arrival: float) -> float:
        """Monotonic seconds until which a packet that came at ``arrival`` may wait; not before ``arrival``.

        ``stamp``: its time stamp in seconds, or its arrival where there is no better clock.
        """
        if stamp is None or not self._trusted:
            return arrival
        self._due = max(arrival, self._due + _CATCH_UP * self._steps.to(stamp))
        self._trusted = self._due - arrival <= _MOST_AHEAD
        return self._due if self._trusted else arrival
