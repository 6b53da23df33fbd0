"""How long and how many clients may hold a connection: nobody keeps the others out by being slow."""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

MOST = 512  # half of the descriptors that a process usually may have; the streams need the rest
HEADERS = 10.0  # seconds in which a request's headers must come
NEW = 1.0  # seconds that a connection has to say something before it counts as idle


class Connection(H11Protocol):
    """uvicorn's connection; it ends when headers do not come in time, and makes room for others while idle."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._opened = self.loop.time()
        self._headers_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in uvicorn
        super().connection_made(transport)
        self._watch()
        if len(self.connections) > MOST:
            self._make_room()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unwatch()
        super().connection_lost(exc)

    @property
    def waiting(self) -> bool:
        """No request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    @property
    def idle_since(self) -> float | None:
        """The loop's time since when it could be closed without hurting anybody; None when it could not."""
        if not self.waiting:
            return None
        return self._opened if self.cycle is not None or self.loop.time() - self._opened > NEW else None

    def _make_room(self) -> None:
        others = [c for c in self.connections if isinstance(c, Connection) and c.idle_since is not None]
        victim = min(others, key=lambda c: c.idle_since or 0.0, default=self)
        victim.transport.abort()
        self.connections.discard(victim)

    def _watch(self) -> None:
        """Counts from the first byte of the headers that are awaited, not from the latest."""
        if not self.waiting:
            self._unwatch()
        elif self._headers_timer is None:
            self._headers_timer = self.loop.call_later(HEADERS, self.transport.abort)

    def _unwatch(self) -> None:
        if self._headers_timer is not None:
            self._headers_timer.cancel()
            self._headers_timer = None
