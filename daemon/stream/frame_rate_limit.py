"""Leaves out frames of a source that are more than `tracking.max_fps` asks for."""

_SLACK = 0.3  # of the interval between two frames: by so much one may come early, as frames do not come evenly


class FrameRateLimit:
    """Chooses which frames of one connection are kept, by their own times: on average at most ``max_fps`` a second."""

    def __init__(self, max_fps: float) -> None:
        """``max_fps`` in Hz; 0 keeps all frames."""
        self._interval = 1 / max_fps if max_fps else 0.0
        self._due: float | None = None  # time of the next frame; None before the first

    def keeps(self, captured_at: float) -> bool:
        """Whether to keep the next frame; its time, in seconds, is not earlier than those before."""
        due = captured_at if self._due is None else self._due
        if captured_at < due - _SLACK * self._interval:
            return False
        # a frame that comes late does not delay those after it, or fewer than ``max_fps`` would be kept
        self._due = max(due, captured_at - (1 - _SLACK) * self._interval) + self._interval
        return True
