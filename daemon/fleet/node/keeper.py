"""Keeps the last snapshots of streams that run on other nodes: what lies on a node that dies is lost."""

import threading
import time

import ray

LONGEST = 600.0  # seconds that a snapshot is kept
CONCURRENT = 4  # calls at a time


class Keeper:
    """An actor, one for each node. ``bytes`` that come are copies, which need nothing of the node that sent them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # Ray calls in CONCURRENT threads
        # fence, when it was taken, data, monotonic seconds
        self._kept: dict[str, tuple[int, float, bytes, float]] = {}

    def put(self, stream: str, fence: int, taken: float, data: bytes) -> None:
        """Keep this snapshot instead of the one before, unless that is of a higher fence, or was ``taken`` later.

        Two of one fence come from one machine; ``taken`` is in seconds of its clock.
        """
        now = time.monotonic()
        with self._lock:
            if (fence, taken) >= self._kept.get(stream, (fence, taken))[:2]:
                self._kept[stream] = fence, taken, data, now
            for name in [name for name, (*_, at) in self._kept.items() if now - at > LONGEST]:
                del self._kept[name]

    def get(self, stream: str) -> bytes | None:
        """The snapshot of a stream."""
        kept = self._kept.get(stream)
        return kept[2] if kept else None


KeeperActor = ray.remote(Keeper)
