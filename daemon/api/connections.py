"""Limits on the number of connections and the time to send headers, so that slow clients do not block others."""

import asyncio
import socket
from contextlib import suppress
from typing import Any

from anyio import to_thread
from uvicorn import Server
from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_CONNECTIONS = 512  # half of the usual limit of file descriptors per process; the streams need the rest
HEADER_TIMEOUT = 10.0  # seconds for all headers of a request to arrive
EVICTION_GRACE = 1.0  # seconds in which a new connection without a request is not closed in favour of others
RETRY_INTERVAL = 0.02  # seconds until accepting is tried again


class Connection(H11Protocol):
    """uvicorn's HTTP connection, closed when the headers of a request do not arrive within HEADER_TIMEOUT."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.opened = self.loop.time()
        self._headers_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in uvicorn
        super().connection_made(transport)
        self._update_header_timer()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._update_header_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_header_timer()
        super().connection_lost(exc)

    @property
    def evictable(self) -> bool:
        """Whether the connection is idle: its request is answered, or none came within EVICTION_GRACE."""
        if self.cycle is not None:
            return self.cycle.response_complete
        return self.loop.time() - self.opened > EVICTION_GRACE

    def _update_header_timer(self) -> None:
        """Run the timer while headers are awaited. Further bytes do not restart it, so slow senders time out too."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_header_timer()
        elif self._headers_timer is None:
            self._headers_timer = self.loop.call_later(HEADER_TIMEOUT, self.transport.abort)

    def _stop_header_timer(self) -> None:
        if self._headers_timer is not None:
            self._headers_timer.cancel()
            self._headers_timer = None


class BoundedServer(Server):
    """uvicorn's server with at most MAX_CONNECTIONS connections; further clients wait in the kernel's backlog.

    ``sockets``: a list of one listening socket.
    """

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=[])
        assert sockets is not None
        await to_thread.run_sync(bool)  # loads anyio's backend, for which the first request would wait
        self._accepting = asyncio.create_task(self._accept(*sockets))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._accepting.cancel()
        await super().shutdown(sockets)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        listener.setblocking(False)
        while True:
            while len(self.server_state.connections) >= MAX_CONNECTIONS and not self._evict_one():
                await asyncio.sleep(RETRY_INTERVAL)
            try:
                client, _ = await loop.sock_accept(listener)
            except OSError:  # no file descriptor left, or the client has disconnected
                await asyncio.sleep(RETRY_INTERVAL)
                continue
            with suppress(OSError):
                await loop.connect_accepted_socket(self._new_connection, client)

    def _evict_one(self) -> bool:
        """Close the oldest evictable connection. Return False if there is none."""
        connections = [c for c in self.server_state.connections if isinstance(c, Connection) and c.evictable]
        if not connections:
            return False
        oldest = min(connections, key=lambda connection: connection.opened)
        oldest.transport.abort()
        self.server_state.connections.discard(oldest)
        return True

    def _new_connection(self) -> Connection:
        return Connection(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)
