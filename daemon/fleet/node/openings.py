"""Sources that a worker's daemon opens while their streams still run elsewhere."""

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from daemon.fleet.node.daemon_client import DaemonClient, DaemonError

OPENINGS = 8  # at a time

log = logging.getLogger(__name__)


class Openings:
    """A camera's first picture may take seconds: it has come before the stream does. Any thread may call."""

    def __init__(self, news: Callable[[], None]) -> None:
        """``news`` is called when a source is open, or cannot be opened."""
        self._news = news
        self._lock = threading.Lock()
        self._client: DaemonClient | None = None
        self._wanted: Mapping[str, Mapping[str, Any]] = {}
        self._begun: set[str] = set()
        self._opened: dict[str, str] = {}  # ids at the daemon; "" where it can be opened only with its stream
        self._pool = ThreadPoolExecutor(OPENINGS, "source")

    @property
    def ready(self) -> frozenset[str]:
        """Streams that may come at once."""
        with self._lock:
            return frozenset(self._opened)

    def want(
        self, client: DaemonClient | None, streams: Mapping[str, Mapping[str, Any]], arriving: Iterable[str]
    ) -> None:
        """Open the sources of ``streams``, with their settings, at this daemon.

        Forget all others, but for those of streams that are ``arriving`` and will be taken.
        """
        with self._lock:
            if client is not self._client:
                self._client = client
                self._begun.clear()
                self._opened.clear()
            self._wanted = streams
            self._begun &= streams.keys()
            kept = {*streams, *arriving}
            self._opened = {name: opened for name, opened in self._opened.items() if name in kept}
            if client is None:
                return
            for name in streams.keys() - self._begun:
                self._begun.add(name)
                self._pool.submit(self._open, client, name, streams[name])

    def take(self, name: str) -> str:
        """The id of a stream's open source, "" for none."""
        with self._lock:
            return self._opened.pop(name, "")

    def close(self) -> None:
        """Wait for none that has not begun."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _open(self, client: DaemonClient, name: str, settings: Mapping[str, Any]) -> None:
        try:
            opened = client.open_source(settings)
        except DaemonError as error:
            log.info("stream %s: its source is opened once it is here: %s", name, error)
            opened = ""
        with self._lock:
            if client is self._client and name in self._wanted:
                self._opened[name] = opened
        self._news()
