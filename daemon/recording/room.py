"""How much room a disk has for recordings, and how long that lasts."""

import math
import os
import time
from collections import deque
from pathlib import Path

_SPAN = 300.0  # seconds over which the present rate is measured
_LEAST_SPAN = 5.0  # seconds before there is a rate
_KNOWN = 30.0  # seconds for which the last rate counts
_RESERVE = 4 << 20  # bytes that stay free, or a 20th of a small disk


def disk_of(folder: Path) -> tuple[int, int]:
    """Free bytes of the disk on which the folder is, or would be, and how many are to stay free; 0, 1 without one."""
    try:
        disk = os.statvfs(next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists()))
    except OSError:
        return 0, 1
    return disk.f_bavail * disk.f_frsize, min(_RESERVE, disk.f_blocks * disk.f_frsize // 20)


class Forecast:
    """Seconds until the room is used up at the present rate, whoever uses it."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()  # monotonic seconds, bytes

    def note(self, room: int) -> None:
        """The bytes that can still be written, with what retention would remove for them."""
        now = time.monotonic()
        self._seen.append((now, room))
        while self._seen[0][0] < now - _SPAN:
            self._seen.popleft()

    @property
    def seconds(self) -> float:
        """0 while it is not known, as where nobody looks any more; infinite where the room does not shrink."""
        if not self._seen:
            return 0.0
        (first, before), (last, room) = self._seen[0], self._seen[-1]
        if last - first < _LEAST_SPAN or time.monotonic() - last > _KNOWN:
            return 0.0
        used = (before - room) / (last - first)
        return room / used if used > 0 else math.inf
