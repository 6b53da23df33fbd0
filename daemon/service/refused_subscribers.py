"""Logs subscribers that were refused, and clients' keys that are wrong."""

import logging
import time
from pathlib import Path

from daemon.service.service import Service
from daemon.settings.schema import Publish
from stages.output.curve_keys import allowed_clients
from stages.plural import plural

LINE_EVERY = 10.0  # seconds

log = logging.getLogger(__name__)


class RefusedSubscribers:
    """Counts failed handshakes. A refused subscriber may retry ten times a second, for ever, so a line counts many."""

    def __init__(self, publish: Publish) -> None:
        self._folder = Path(publish.curve_dir) if publish.curve_dir else None
        self._told = 0
        self._last = -LINE_EVERY

    def started(self, service: Service) -> None:  # noqa: ARG002 - as of all watchers
        """Log which clients' keys are wrong; the daemon's own were checked when it started."""
        if self._folder is None:
            return
        clients, problems = allowed_clients(self._folder)
        for problem in problems:
            log.warning("%s", problem, extra={"event": "client_key"})
        if not clients:
            log.warning(
                "nobody may subscribe yet: maskcast keys new --client NAME --dir %s",
                self._folder,
                extra={"event": "client_key"},
            )

    def tick(self, service: Service) -> None:
        """Log one line for all handshakes that failed since the last one."""
        refused = service.publisher.refused  # read also while nothing is published: libzmq queues its events
        if refused > self._told and time.monotonic() - self._last >= LINE_EVERY:
            log.warning(
                "subscribers were refused %d %s: no key, or a wrong one",
                refused - self._told,
                plural(refused - self._told, "time"),
                extra={"event": "subscribers_refused"},
            )
            self._told, self._last = refused, time.monotonic()

    def close(self) -> None:
        """Nothing is open."""
