"""A fleet's permission to publish one stream: until when it holds, and under which fencing number."""

import time

from daemon.errors import ConflictError, LeaseError
from stages.errors import ConfigError

LONGEST = 60.0  # seconds; a lease that would hold for longer has its time from another clock


class Lease:
    """The right to publish a stream. A stream without a ``fence`` needs none; one with a fence has none at first.

    A fence is a number that rises each time a stream is given to a daemon anew (Kleppmann, "How to do distributed
    locking", 2016). Times are those of CLOCK_BOOTTIME, which nobody can set and which goes on while the machine sleeps.
    Any thread may call.
    """

    def __init__(self, fence: int | None = None) -> None:
        self._held = fence, 0.0  # the fence and the end of the lease: one value, since several threads read it

    @property
    def fence(self) -> int | None:
        """The fencing number; None for a stream that needs no lease."""
        return self._held[0]

    @property
    def holds(self) -> bool:
        """Whether a message may be sent now."""
        fence, until = self._held
        return fence is None or boot_time() < until

    def check(self) -> None:
        """Raises LeaseError when no message may be sent now."""
        if not self.holds:
            raise LeaseError("the stream has no lease")

    def renew(self, fence: int, until: float) -> None:
        """Let the lease hold until ``until``, CLOCK_BOOTTIME seconds, under ``fence``. A time in the past ends it.

        Raises ConflictError for a lower fence than before and for a stream without one, ConfigError for a time that is
        more than LONGEST ahead.
        """
        known = self.fence
        if known is None:
            raise ConflictError("the stream was started without a fence and needs no lease")
        if fence < known:
            raise ConflictError(f"the stream has fence {known}, so a lease with fence {fence} is out of date")
        if until > boot_time() + LONGEST:
            raise ConfigError(
                f"until {until:.1f} is more than {LONGEST:.0f} s ahead: it is in seconds of this machine's "
                f"CLOCK_BOOTTIME, which is now {boot_time():.1f}"
            )
        self._held = fence, until


def boot_time() -> float:
    """Seconds since this machine has started, those asleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
