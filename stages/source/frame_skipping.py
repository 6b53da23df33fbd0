"""What a live source leaves out so that it stays live where pictures are read more slowly than they come."""

from enum import IntEnum

_LATE = 1.0  # seconds by which a picture may be late
_LOOK = 1.0  # seconds after which a step must have shown that it helps
_GAIN = 0.5  # seconds of lateness that a step which helps wins back in that time


class Step(IntEnum):
    """What is done with a packet of a live source."""

    ALL = 0  # decode it and convert its pictures
    DECODE = 1  # only decode it, since later pictures refer to it
    NOTHING = 2  # leave it out, until a key picture comes in time


class FrameSkipping:
    """How far to cut down on work.

    While packets are read more than a second late, their pictures are not converted, which mostly wins the time back
    at once. If it does not, nothing is decoded either, up to a key picture that is in time. If that wins nothing, we
    are not the cause: a network or a camera's clock is that late, and it counts as in time from then on.
    """

    def __init__(self) -> None:
        self._step = Step.ALL
        self._normal = 0.0  # lateness that is not ours, in seconds
        self._since = 0.0  # when the step was last judged
        self._late_then = 0.0

    def step(self, late: float, key: bool, now: float) -> Step:
        """What to do with a packet, ``key`` or not, that was read ``late`` seconds late at ``now`` (monotonic)."""
        self._normal = min(self._normal, max(late, 0.0))
        in_time = late - self._normal <= _LATE
        if self._step is Step.ALL:
            if not in_time:
                self._begin(Step.DECODE, late, now)
        elif in_time and (key or self._step is Step.DECODE):
            self._begin(Step.ALL, late, now)
        elif now - self._since >= _LOOK:
            self._judge(late, key, now)
        return self._step

    def _judge(self, late: float, key: bool, now: float) -> None:
        if self._late_then - late >= _GAIN:
            self._begin(self._step, late, now)
        elif self._step is Step.DECODE:
            self._begin(Step.NOTHING, late, now)
        elif key:
            self._normal = late
            self._begin(Step.ALL, late, now)

    def _begin(self, step: Step, late: float, now: float) -> None:
        self._step, self._since, self._late_then = step, now, late
