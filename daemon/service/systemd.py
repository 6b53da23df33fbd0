"""Tells systemd how the daemon is, as sd_notify(3) does: datagrams of VARIABLE=value lines to $NOTIFY_SOCKET."""

import logging
import math
import os
import socket
import time
from collections.abc import Mapping

from daemon.service.service import Service
from daemon.service.status import status

STATUS_EVERY = 5.0  # seconds
SEND = 1.0  # seconds that systemd has to take a message

log = logging.getLogger(__name__)


class Systemd:
    """Watches the service: READY=1 once the models are warm, from then on WATCHDOG=1 while everything makes progress.

    It is progress that feeds the watchdog: the engine and every stream must have moved since it was last fed. So
    whatever hangs for longer than WATCHDOG_USEC has the daemon started again; a camera that is down does not hang.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._manager = _manager(environment.get("NOTIFY_SOCKET", ""))
        self._feed_every = _watchdog(environment) / 4
        self._ready = False
        self._fed = self._told = -math.inf  # monotonic seconds

    def started(self, service: Service) -> None:  # noqa: ARG002 - as of all watchers
        """Say what is being waited for."""
        self._manager.send("STATUS=models loading")

    def tick(self, service: Service) -> None:
        """Say what is due."""
        now = time.monotonic()
        if service.models_loaded and not self._ready:
            self._ready, self._fed = True, now
            self._manager.send("READY=1")
            self._tell(service)
        if self._ready and now - self._fed >= self._feed_every and service.progress > self._fed:
            self._fed = now
            self._manager.send("WATCHDOG=1")
        if now - self._told >= STATUS_EVERY:
            self._tell(service)

    def close(self) -> None:
        """The service ends: what was read still leaves."""
        self._manager.send("STOPPING=1", "STATUS=stopping")

    def _tell(self, service: Service) -> None:
        self._told = time.monotonic()
        self._manager.send(f"STATUS={status(service)}")


class _Manager:
    """Whoever listens on a datagram socket, given as in $NOTIFY_SOCKET; "@" begins an abstract address."""

    def __init__(self, address: str) -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.settimeout(SEND)
        self._hears = True

    def send(self, *lines: str) -> None:
        """Send one message. One that does not arrive costs nothing but itself."""
        try:
            self._socket.sendto("\n".join(lines).encode(), self._address)
            self._hears = True
        except OSError as error:
            if self._hears:
                log.warning("cannot tell systemd %s: %s", lines[0], error.strerror or error)
            self._hears = False


class _Nobody:
    """Stands where there is no systemd."""

    def send(self, *lines: str) -> None:
        """Nobody listens."""


def _manager(address: str) -> _Manager | _Nobody:
    return _Manager(address) if address.startswith(("/", "@")) else _Nobody()


def _watchdog(environment: Mapping[str, str]) -> float:
    """Seconds within which systemd wants to be fed; infinite where it does not, or where another process is meant."""
    try:
        seconds = int(environment.get("WATCHDOG_USEC", "")) / 1e6
        process = int(environment.get("WATCHDOG_PID", os.getpid()))
    except ValueError:
        return math.inf
    return seconds if seconds > 0 and process == os.getpid() else math.inf
