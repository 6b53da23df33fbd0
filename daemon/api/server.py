"""The HTTP server on a thread of its own."""

import logging
import socket
import threading

from prometheus_client import CollectorRegistry
from uvicorn import Config

from daemon.api.app import build_app
from daemon.api.connections import BoundedServer, Connection
from daemon.api.control import Control
from daemon.settings.schema import Http
from stages.errors import OutputError

BACKLOG = 1024  # connections that may wait with the kernel
FINISH = 1  # seconds that answers under way have when it closes
GIVE_UP = 1.0  # seconds after which one that waits for the engine is left behind
UNREAD = 20_000  # milliseconds after which a client that does not read is cut off


class Api:
    """Answers from when it is made until ``close``. ``url`` is where it listens: port 0 takes a free one.

    Raises OutputError when the address cannot be had.
    """

    def __init__(self, http: Http, registry: CollectorRegistry, control: Control) -> None:
        host, _ = http.address
        listener = _listen(http)
        port = listener.getsockname()[1]
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        self._closing = threading.Event()
        self._server = BoundedServer(
            Config(
                build_app(http, registry, control, self._closing),
                http=Connection,
                ws="none",
                loop="asyncio",
                lifespan="off",
                log_config=None,
                log_level=logging.CRITICAL,  # of clients' mistakes; our own are logged where they happen
                access_log=False,  # a scrape every few seconds is no news
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=FINISH,
            )
        )
        self._thread = threading.Thread(target=self._server.run, args=([listener],), name="http", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening; answers under way get a second, previews end."""
        self._closing.set()
        self._server.should_exit = True
        self._thread.join(GIVE_UP)


def _listen(http: Http) -> socket.socket:
    host, port = http.address
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD)  # connections inherit it
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        reason = error.strerror or str(error)
        raise OutputError(f"http.listen {http.listen}: {reason.lower()}; choose another with --http") from None
    return listener
