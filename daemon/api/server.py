"""The HTTP server, in its own thread."""

import logging
import socket
import threading

from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp
from uvicorn import Config

from daemon.api.app import build_app
from daemon.api.connections import BoundedServer, Connection
from daemon.api.control import Control
from daemon.settings.schema import Http
from stages.errors import OutputError

BACKLOG = 1024  # connections that wait in the kernel to be accepted
SHUTDOWN_GRACE = 1  # seconds for running requests to finish when the server closes
JOIN_TIMEOUT = 1.0  # seconds; a request that waits for the engine longer is abandoned
SEND_TIMEOUT_MS = 20_000  # a client that does not read for this long is disconnected


class Api:
    """Serves the daemon from its construction until ``close``, as `Server` does."""

    def __init__(self, http: Http, registry: CollectorRegistry, control: Control) -> None:
        closing = threading.Event()
        self._server = Server(http, build_app(http, registry, control, closing), closing)
        self.url = self._server.url

    def close(self) -> None:
        """Stop listening and end previews; running requests get SHUTDOWN_GRACE to finish."""
        self._server.close()


class Server:
    """Serves ``app`` until ``close``, which sets ``closing``. ``url`` holds the actual port: port 0 selects a free one.

    Raises OutputError if it cannot listen on the address.
    """

    def __init__(self, http: Http, app: ASGIApp, closing: threading.Event) -> None:
        host, _ = http.address
        listener = _listen(http)
        port = listener.getsockname()[1]
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        self._closing = closing
        self._server = BoundedServer(
            Config(
                app,
                http=Connection,
                ws="none",
                loop="asyncio",
                lifespan="off",
                log_config=None,
                log_level=logging.CRITICAL,  # uvicorn logs clients' mistakes; our own are logged where they happen
                access_log=False,  # scrapes come every few seconds
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=SHUTDOWN_GRACE,
            )
        )
        self._thread = threading.Thread(target=self._server.run, args=([listener],), name="http", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening; running requests get SHUTDOWN_GRACE to finish."""
        self._closing.set()
        self._server.should_exit = True
        self._thread.join(JOIN_TIMEOUT)


def _listen(http: Http) -> socket.socket:
    host, port = http.address
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # accepted connections inherit both
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SEND_TIMEOUT_MS)
        # headers and body are two packets; else the second waits until the client has acknowledged the first, 40 ms
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        reason = error.strerror or str(error)
        raise OutputError(f"http.listen {http.listen}: {reason.lower()}; choose another with --http") from None
    return listener
