"""Decides on which frames the detector runs."""

import time
from collections.abc import Sequence

from daemon.engine.stream_state import StreamState
from daemon.limits.detection_budget import DetectionBudget
from stages.types import Window

LATE = 0.5  # seconds that a live frame has waited when the engine is behind
ACTIVE = 1.0  # seconds since its last window in which a stream competes for the time that detection may take


class KeyframeChoice:
    """Decides, when a stream's next window is taken up, whether it starts with a keyframe.

    It does on the first frame of an epoch and ``every`` frames after the last keyframe. From ``least`` frames on it
    does so sooner where need asks for it: on a file as far as its own count allows; on a live stream while detection
    takes less than ``share`` of the engine's time, no other live stream needs it more, and the engine is not behind
    with any. The engine's thread owns it.
    """

    def __init__(self, budget: DetectionBudget) -> None:
        self._budget = budget

    def is_keyframe(self, stream: StreamState, window: Window, streams: Sequence[StreamState]) -> bool:
        """Whether the stream's next window, ``window`` or its beginning, starts with a keyframe.

        ``streams``: all that are scheduled.
        """
        pace, frame, live = stream.pace, window.frames[0], stream.lane.live
        if window.keyframe or pace.must:
            return True
        if not stream.lane.prompt_set.asked or not pace.may(frame, live):
            return False
        if stream.ahead is not None and stream.ahead.image is frame.image:
            return True  # it is detected on already
        need = pace.need(frame)
        if need < 1:
            return False
        if not live:
            return True
        return self._budget.allows(stream.detection.share) and need >= self._greatest(stream, streams)

    def _greatest(self, stream: StreamState, streams: Sequence[StreamState]) -> float:
        """The greatest need of the other live streams that compete; infinite while the engine is behind."""
        now, greatest = time.monotonic(), 0.0
        for other in streams:
            if not other.lane.live:
                continue
            if other.lane.overload.is_recent(now) or _is_late(other, now):
                return float("inf")
            competes = other is not stream and now - other.served < ACTIVE and other.lane.prompt_set.asked
            if competes and other.pace.may(None, timed=True) and self._budget.allows(other.detection.share):
                greatest = max(greatest, other.pace.need())
        return greatest


def _is_late(stream: StreamState, now: float) -> bool:
    """Whether a frame has waited for long, and not because it came in a burst."""
    since = stream.lane.inbox.waiting_since
    if since is None or now - since < LATE:
        return False
    waiting = stream.lane.inbox.peek()
    return bool(waiting) and waiting[0].frames[-1].due <= now
