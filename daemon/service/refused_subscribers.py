"""Tells the log who may subscribe and that somebody was refused."""

import logging
import time
from pathlib import Path

from daemon.service.service import Service
from daemon.settings.schema import Publish
from stages.output.curve_keys import allowed_clients

LINE_EVERY = 10.0  # seconds

log = logging.getLogger(__name__)


class RefusedSubscribers:
    """Watches the publisher for handshakes that fail. A refused subscriber may try ten times a second, for ever."""

    def __init__(self, publish: Publish) -> None:
        self._folder = Path(publish.curve_dir) if publish.curve_dir else None
        self._told = 0
        self._last = -LINE_EVERY

    def started(self, service: Service) -> None:  # noqa: ARG002 - as of all watchers
        """Say what is wrong with the keys of the clients; those of the daemon are fine, else it had not started."""
        if self._folder is None:
            return
        clients, problems = allowed_clients(self._folder)
        for problem in problems:
            log.warning("%s", problem)
        if not clients:
            log.warning("nobody may subscribe yet: maskcast keys new --client NAME --dir %s", self._folder)

    def tick(self, service: Service) -> None:
        """One line for all that were refused since the last one."""
        refused = service.publisher.refused  # also where nobody publishes: libzmq queues what it tells
        if refused > self._told and time.monotonic() - self._last >= LINE_EVERY:
            log.warning("subscribers were refused %d times: no key, or a wrong one", refused - self._told)
            self._told, self._last = refused, time.monotonic()

    def close(self) -> None:
        """Nothing is open."""
