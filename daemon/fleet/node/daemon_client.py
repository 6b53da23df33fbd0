"""The HTTP interface of one daemon, as its worker uses it."""

from collections.abc import Mapping
from typing import Any

import requests

from stages.errors import MaskcastError

QUICK = 1.0  # seconds for an answer that is needed within a lease
SLOW = 20.0  # seconds for what waits for the engine or for threads that end


class DaemonError(MaskcastError):
    """The daemon refused a request, or did not answer."""

    def __init__(self, message: str, status: int | None = None) -> None:
        """``status``: of HTTP; None when no answer came."""
        super().__init__(message)
        self.status = status


class DaemonClient:
    """Asks the daemon at ``url``, as in ``http://127.0.0.1:9109``. Any thread may call; all methods raise DaemonError.

    ``endpoint`` is where it publishes.
    """

    def __init__(self, url: str, endpoint: str, token: str) -> None:
        self.url, self.endpoint = url, endpoint
        self._headers = {"Authorization": f"Bearer {token}"}

    def ready(self) -> bool:
        """The models are loaded, whatever the sources do."""
        try:
            self._ask("GET", "/readyz")
        except DaemonError as error:
            if error.status is None:
                raise
            return error.status == 503 and "models" not in str(error)
        return True

    def streams(self) -> dict[str, dict[str, Any]]:
        """All streams by name, as `daemon.api.schemas.Stream`."""
        return {stream["name"]: stream for stream in self._ask("GET", "/api/streams").json()["streams"]}

    def load(self) -> dict[str, Any]:
        """The answer of ``GET /api/load``."""
        answer: dict[str, Any] = self._ask("GET", "/api/load").json()
        return answer

    def lease(self, leases: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
        """Let streams publish: ``{"gate": {"fence": 7, "until": 12345.6}}``, in seconds of CLOCK_BOOTTIME.

        Returns why streams were refused, by name.
        """
        answer = self._ask("PUT", "/api/leases", json={"streams": leases}).json()
        return {name: refusal["error"] for name, refusal in answer["refused"].items()}

    def add(self, stream: Mapping[str, Any]) -> None:
        """Start a stream."""
        self._ask("POST", "/api/streams", json=stream, timeout=SLOW)

    def remove(self, name: str) -> None:
        """End a stream; takes seconds. One that is not there is as good as removed."""
        try:
            self._ask("DELETE", f"/api/streams/{name}", timeout=SLOW)
        except DaemonError as error:
            if error.status != 404:
                raise

    def snapshot(self, name: str, full: bool) -> bytes:
        """The state of a stream's tracker."""
        path = f"/api/streams/{name}/snapshot?full={'true' if full else 'false'}"
        return self._ask("GET", path, timeout=SLOW).content

    def keep_snapshot(self, data: bytes) -> str:
        """Hand over a state for a stream that is added next; returns its id."""
        headers = {"Content-Type": "application/octet-stream"}
        answer = self._ask("POST", "/api/snapshots", data=data, headers=headers, timeout=SLOW).json()
        snapshot: str = answer["snapshot"]
        return snapshot

    def open_source(self, stream: Mapping[str, Any]) -> str:
        """Open the source of a stream that is added next, and wait for its first frame; returns its id."""
        opened: str = self._ask("POST", "/api/sources", json=stream, timeout=SLOW).json()["opened"]
        return opened

    def drain(self) -> None:
        """Take no new streams, and end once the last one was removed."""
        self._ask("POST", "/api/drain")

    def _ask(
        self, method: str, path: str, *, timeout: float = QUICK, headers: Mapping[str, str] | None = None, **body: Any
    ) -> requests.Response:
        try:
            with requests.Session() as session:
                session.trust_env = False  # no proxy and no .netrc between a worker and its own daemon
                answer = session.request(
                    method, self.url + path, headers={**self._headers, **(headers or {})}, timeout=timeout, **body
                )
        except requests.RequestException as error:
            raise DaemonError(f"the daemon at {self.url} does not answer: {type(error).__name__}") from None
        if not answer.ok:
            raise DaemonError(_reason(answer), answer.status_code)
        return answer


def _reason(answer: requests.Response) -> str:
    try:
        return str(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        return f"status {answer.status_code}: {answer.text[:200]}"
