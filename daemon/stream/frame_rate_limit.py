"""Leaves out frames of a source that are more than `tracking.max_fps` asks for."""


class FrameRateLimit:
    """Chooses which frames of one connection are kept, by their own times: on average at most ``max_fps`` a second.

    A frame is due every 1 / ``max_fps`` seconds; of the frames around that time the nearest one is kept.
    """

    def __init__(self, max_fps: float) -> None:
        """``max_fps`` in Hz; 0 keeps all frames."""
        self._interval = 1 / max_fps if max_fps else 0.0
        self._due: float | None = None  # time of the next frame; None before the first
        self._latest = 0.0  # time of the last frame, kept or not

    def keeps(self, captured_at: float) -> bool:
        """Whether to keep the next frame; its time, in seconds, is not earlier than those before."""
        if self._due is None:
            self._due = self._latest = captured_at
        spacing, self._latest = captured_at - self._latest, captured_at
        if captured_at < self._due - spacing / 2:  # the next frame will be nearer
            return False
        # after a pause the times begin anew
        self._due = max(self._due, captured_at - self._interval / 2) + self._interval
        return True
