"""HTTP: metrics for Prometheus, and whether the daemon lives and is ready."""

import hmac
import logging
import socket
import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from daemon.settings import Http
from daemon.settings_types import is_loopback
from stages.errors import OutputError

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


log = logging.getLogger(__name__)


class Api:
    """The HTTP server, on threads of its own. ``url`` is where it really listens: port 0 takes a free one.

    ``not_ready`` gives the reason why the daemon cannot work yet, or None. Raises OutputError when the address
    cannot be had.
    """

    def __init__(self, http: Http, registry: CollectorRegistry, not_ready: Callable[[], str | None]) -> None:
        self._metrics: WSGIApplication = make_wsgi_app(registry)
        self._not_ready = not_ready
        host, port = http.address
        self._token = "" if is_loopback(host) else http.token  # there only changes need it
        server_class = _ServerIPv6 if ":" in host else _Server
        try:
            self._server = make_server(host, port, self._answer, server_class, _Handler)
        except OSError as error:
            reason = error.strerror or str(error)
            raise OutputError(f"http.listen {http.listen}: {reason.lower()}; choose another with --http") from None
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="http", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening; answers under way are not waited for."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        if not self._allowed(environ.get("HTTP_AUTHORIZATION", "")):
            return _text(start_response, "401 Unauthorized", "needs the header Authorization: Bearer TOKEN")
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return _text(start_response, "405 Method Not Allowed", "only GET is answered here")
        match environ["PATH_INFO"]:
            case "/metrics":
                return self._metrics(environ, start_response)
            case "/healthz":
                return _text(start_response, "200 OK", "alive")
            case "/readyz":
                reason = self._not_ready()
                return _text(start_response, "503 Service Unavailable" if reason else "200 OK", reason or "ready")
        return _text(start_response, "404 Not Found", "there are /metrics, /healthz and /readyz")

    def _allowed(self, authorization: str) -> bool:
        return not self._token or hmac.compare_digest(authorization.encode(), f"Bearer {self._token}".encode())


def _text(start_response: "StartResponse", status: str, text: str) -> list[bytes]:
    start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
    return [text.encode() + b"\n"]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002 - the base class asks
        """A client that goes away or stays silent is its own business."""
        log.debug("http: %s", client_address, exc_info=True)


class _ServerIPv6(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = 10  # seconds a silent client may hold its thread

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        """A scrape every few seconds is no news."""
