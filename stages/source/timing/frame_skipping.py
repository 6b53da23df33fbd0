"""Frame skipping of a live source: drops frames when they are read more slowly than they arrive."""

from enum import IntEnum

_MAX_DELAY = 1.0  # seconds
_TRIAL_SECONDS = 1.0  # after which an action must have reduced the delay
_MIN_GAIN = 0.5  # seconds by which an action that helps reduces the delay in that time


class PacketAction(IntEnum):
    """What is done with a packet of a live source."""

    CONVERT = 0  # decode it and convert its frames to RGB
    DECODE = 1  # only decode it, because later frames refer to it
    SKIP = 2  # do not decode, until an I-frame that is in time


class FrameSkipping:
    """Chooses how much work to skip.

    While packets are decoded more than a second after they were due, their frames are decoded but not converted, which
    mostly makes up the delay at once. If it does not, packets are not decoded either, until an I-frame that is in time.
    """

    def __init__(self) -> None:
        self._action = PacketAction.CONVERT
        self._judged_at = 0.0  # monotonic; when the action was last chosen or confirmed
        self._judged_delay = 0.0  # at that time

    def action(self, delay: float, keyframe: bool, now: float) -> PacketAction:
        """What to do with a packet, an I-frame or not, ``delay`` seconds after it was due, at ``now`` (monotonic)."""
        in_time = delay <= _MAX_DELAY
        if self._action is PacketAction.CONVERT:
            if not in_time:
                self._choose(PacketAction.DECODE, delay, now)
        elif in_time and (keyframe or self._action is PacketAction.DECODE):
            self._choose(PacketAction.CONVERT, delay, now)
        elif self._action is PacketAction.DECODE and now - self._judged_at >= _TRIAL_SECONDS:
            helps = self._judged_delay - delay >= _MIN_GAIN
            self._choose(PacketAction.DECODE if helps else PacketAction.SKIP, delay, now)
        return self._action

    def _choose(self, action: PacketAction, delay: float, now: float) -> None:
        self._action, self._judged_at, self._judged_delay = action, now, delay
