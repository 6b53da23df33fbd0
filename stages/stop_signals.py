"""Signals that ask the program to stop: SIGINT, SIGTERM and SIGHUP, which a closed terminal sends."""

import signal
import threading
import time
from collections.abc import Callable
from typing import Self

SAME_REQUEST = 1.0  # seconds after the first signal in which others belong to the same request


class StopSignals:
    """A context in which signals are requests to stop. In other threads than the main one, it has no effect.

    Process groups, GNU timeout and supervisors send more than one signal for one request, such as TERM and TERM, or INT
    and TERM. So all signals within ``SAME_REQUEST`` of the first are one request. A later one calls ``now``.
    """

    def __init__(self, now: Callable[[int], object], first: Callable[[], object] | None = None) -> None:
        """``now`` gets the number of a signal that came after the request; it ends the program or raises.

        ``first``, which may raise, is called in the handler of the first signal.
        """
        self.number: int | None = None  # of the first signal
        self._now, self._first = now, first
        self._requested_at = 0.0  # monotonic seconds
        self._before: dict[int, object] = {}

    @property
    def requested(self) -> bool:
        """Whether the program shall stop."""
        return self.number is not None

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():  # Python gives signals to that one alone
            return self
        # nohup ignores SIGHUP, and another part of the program may use it
        hang_up = [signal.SIGHUP] if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL else []
        for number in (signal.SIGINT, signal.SIGTERM, *hang_up):
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        """Restore the handlers, but not after a request: its other signals may come until the process has ended."""
        if not self.requested:
            for number, handler in self._before.items():
                signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, _: object) -> None:
        moment = time.monotonic()
        if self.number is None:
            self.number, self._requested_at = number, moment
            if self._first is not None:
                self._first()
        elif moment - self._requested_at > SAME_REQUEST:
            self._now(number)
