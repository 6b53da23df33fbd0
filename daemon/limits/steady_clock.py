"""A clock by which old things are removed."""

import time

_TRUSTED = 3600.0  # seconds after which a step counts
_STEP = 60.0  # seconds; clocks that are slewed, and looks that are rare, differ by less


class SteadyClock:
    """The wall clock, but a step ahead counts only once it has lasted an hour: else all that is kept would be too old.

    A step is noted when ``now`` is called, so call it more often than once an hour.
    """

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()  # seconds
        self._ahead, self._since = self._offset, 0.0  # the offset of a step ahead, and since when, in monotonic seconds

    def now(self) -> float:
        """Unix seconds."""
        monotonic = time.monotonic()
        offset = time.time() - monotonic
        if abs(offset - self._ahead) > _STEP:
            self._ahead, self._since = offset, monotonic
        if offset <= self._offset + _STEP or monotonic - self._since >= _TRUSTED:
            self._offset = self._ahead = offset
        return monotonic + self._offset
