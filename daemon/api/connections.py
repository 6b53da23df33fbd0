"""How long and how many clients may hold a connection: nobody keeps the others out by being slow."""

import asyncio
import socket
from contextlib import suppress
from typing import Any

from uvicorn import Server
from uvicorn.protocols.http.h11_impl import H11Protocol

MOST = 512  # half of the descriptors that a process usually may have; the streams need the rest
HEADERS = 10.0  # seconds in which a request's headers must come
NEW = 1.0  # of these, seconds in which a connection does not have to make room for others
LOOK = 0.02  # seconds between two looks for room


class Connection(H11Protocol):
    """uvicorn's connection, which ends when the headers of a request do not come in time."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.opened = self.loop.time()
        self._headers_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in uvicorn
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unwatch()
        super().connection_lost(exc)

    @property
    def dispensable(self) -> bool:
        """It has had its answer, or has not asked for anything although there was time."""
        if self.cycle is not None:
            return self.cycle.response_complete
        return self.loop.time() - self.opened > NEW

    def _watch(self) -> None:
        """Counts from the first byte of the headers that are awaited, not from the latest."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._unwatch()
        elif self._headers_timer is None:
            self._headers_timer = self.loop.call_later(HEADERS, self.transport.abort)

    def _unwatch(self) -> None:
        if self._headers_timer is not None:
            self._headers_timer.cancel()
            self._headers_timer = None


class BoundedServer(Server):
    """uvicorn's server with at most ``MOST`` connections; whoever comes then waits with the kernel.

    ``sockets`` are one that listens.
    """

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=[])
        assert sockets is not None
        self._accepting = asyncio.create_task(self._accept(*sockets))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._accepting.cancel()
        await super().shutdown(sockets)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        listener.setblocking(False)
        while True:
            while len(self.server_state.connections) >= MOST and not self._make_room():
                await asyncio.sleep(LOOK)
            try:
                client, _ = await loop.sock_accept(listener)
            except OSError:  # no descriptor is left, or the client has gone
                await asyncio.sleep(LOOK)
                continue
            with suppress(OSError):
                await loop.connect_accepted_socket(self._connection, client)

    def _make_room(self) -> bool:
        """The dispensable connection that is oldest ends. False when there is none."""
        connections = [c for c in self.server_state.connections if isinstance(c, Connection) and c.dispensable]
        if not connections:
            return False
        oldest = min(connections, key=lambda connection: connection.opened)
        oldest.transport.abort()
        self.server_state.connections.discard(oldest)
        return True

    def _connection(self) -> Connection:
        return Connection(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)
