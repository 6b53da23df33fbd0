"""Snapshots of streams that have been sent to this daemon and wait for their stream to be started."""

import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from daemon.errors import BusyError, UnknownNameError
from daemon.lane.handover import MAX_BYTES, Handover

KEPT_FOR = 60.0  # seconds
MOST = 16  # snapshots at a time
MOST_BYTES = 2 * MAX_BYTES  # of all of them


class Snapshots:
    """Keeps each snapshot for KEPT_FOR seconds and for one stream. Any thread may call."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[float, Handover]] = {}  # by id, with the monotonic seconds at which each goes
        self._timer: threading.Timer | None = None  # while some wait: frees those that nobody takes
        self._lock = threading.Lock()

    def keep(self, data: bytes) -> str:
        """The id under which the snapshot waits. Raises SnapshotError, and BusyError when too much waits already."""
        handover = Handover.unpack(data)
        with self._lock:
            self._forget()
            size = len(handover.tracker) + sum(len(kept.tracker) for _, kept in self._kept.values())
            if len(self._kept) >= MOST or size > MOST_BYTES:
                raise BusyError(f"{len(self._kept)} snapshots wait for their streams; start those, or try again")
            name = str(uuid.uuid4())
            self._kept[name] = time.monotonic() + KEPT_FOR, handover
            if self._timer is None:
                self._start_timer()
        return name

    @contextmanager
    def taken(self, name: str) -> Iterator[Handover]:
        """Within it nobody else has the snapshot; after an error it waits on. Raises UnknownNameError."""
        with self._lock:
            self._forget()
            until, handover = self._kept.pop(name, (0.0, None))
        if handover is None:
            raise UnknownNameError(
                f"no snapshot {name[:40]!r} waits: it is kept for {KEPT_FOR:.0f} s and for one stream; send it again"
            )
        try:
            yield handover
        except BaseException:
            with self._lock:
                self._kept[name] = until, handover
            raise

    def _start_timer(self) -> None:
        self._timer = threading.Timer(KEPT_FOR, self._tidy)
        self._timer.daemon = True
        self._timer.start()

    def _tidy(self) -> None:
        with self._lock:
            self._forget()
            self._timer = None
            if self._kept:
                self._start_timer()

    def _forget(self) -> None:
        now = time.monotonic()
        self._kept = {name: kept for name, kept in self._kept.items() if kept[0] > now}
