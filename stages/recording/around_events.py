"""Which segments lie around events, and which do not."""

from stages.recording.segment import Segment


class AroundEvents:
    """Decides on segments once no event can come near them: ``before`` and ``after`` an event, in seconds.

    All times are capture times in Unix seconds, in order; where they step back, what is undecided is decided.
    """

    def __init__(self, before: float, after: float) -> None:
        self._before, self._after = before, after
        self._events: list[float] = []
        self._undecided: list[Segment] = []
        self._now = float("-inf")

    def event(self, at: float) -> None:
        """Something happened."""
        self._events.append(at)

    def complete(self, segment: Segment) -> None:
        """A segment is complete."""
        self._undecided.append(segment)

    def far(self, now: float, writing: bool = True) -> list[Segment]:
        """The segments on which is decided ``now``, the last frame's time, and that are far from all events.

        ``writing``: whether there may be one that is not complete.
        """
        stepped_back, self._now = now < self._now, now
        decided = [part for part in self._undecided if stepped_back or part.end + self._before < now]
        if not decided and writing:
            return []
        self._undecided = [part for part in self._undecided if part not in decided]
        far = [part for part in decided if not self._is_near(part)]
        # the next segment begins after these; what is still being written may have begun at once
        begun = max(part.end for part in decided) if decided and writing else now
        oldest = min((part.start for part in self._undecided), default=begun)
        self._events = [at for at in self._events if stepped_back or at + self._after >= oldest]
        return far

    def _is_near(self, part: Segment) -> bool:
        return any(part.start - self._after <= at <= part.end + self._before for at in self._events)
