"""Frame skipping of a live source: drops frames when they are read more slowly than they arrive."""

from enum import IntEnum

_MAX_DELAY = 1.0  # seconds above the normal delay
_TRIAL_SECONDS = 1.0  # after which an action must have reduced the delay
_MIN_GAIN = 0.5  # seconds by which an action that helps reduces the delay in that time


class PacketAction(IntEnum):
    """What is done with a packet of a live source."""

    CONVERT = 0  # decode it and convert its frames to RGB
    DECODE = 1  # only decode it, because later frames refer to it
    SKIP = 2  # do not decode, until an I-frame that is in time


class FrameSkipping:
    """Chooses how much work to skip.

    While packets are read more than a second late, their frames are decoded but not converted, which mostly makes up
    the delay at once. If it does not, packets are not decoded either, until an I-frame that is in time. If that does
    not help, the reader is not the cause: the network or the camera's clock has that delay, and from then on it counts
    as normal.
    """

    def __init__(self) -> None:
        self._action = PacketAction.CONVERT
        self._normal_delay = 0.0  # of network and camera, in seconds
        self._judged_at = 0.0  # monotonic; when the action was last chosen or confirmed
        self._judged_delay = 0.0  # at that time

    def action(self, delay: float, keyframe: bool, now: float, waited: float = 0.0) -> PacketAction:
        """What to do with a packet, an I-frame or not, that was read ``delay`` seconds late at ``now`` (monotonic).

        ``waited``: seconds for which the reader waited for it; where these are many, the reader is not the cause.
        """
        if waited > _MAX_DELAY and self._action is not PacketAction.SKIP:
            return PacketAction.CONVERT
        self._normal_delay = min(self._normal_delay, max(delay, 0.0))
        in_time = delay - self._normal_delay <= _MAX_DELAY
        if self._action is PacketAction.CONVERT:
            if not in_time:
                self._choose(PacketAction.DECODE, delay, now)
        elif in_time and (keyframe or self._action is PacketAction.DECODE):
            self._choose(PacketAction.CONVERT, delay, now)
        elif now - self._judged_at >= _TRIAL_SECONDS:
            self._judge(delay, keyframe, now)
        return self._action

    def _judge(self, delay: float, keyframe: bool, now: float) -> None:
        if self._judged_delay - delay >= _MIN_GAIN:
            self._choose(self._action, delay, now)
        elif self._action is PacketAction.DECODE:
            self._choose(PacketAction.SKIP, delay, now)
        elif keyframe:
            self._normal_delay = delay
            self._choose(PacketAction.CONVERT, delay, now)

    def _choose(self, action: PacketAction, delay: float, now: float) -> None:
        self._action, self._judged_at, self._judged_delay = action, now, delay
