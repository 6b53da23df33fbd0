"""Reports to systemd as sd_notify(3) does: datagrams of VARIABLE=value lines to $NOTIFY_SOCKET."""

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
    """Sends READY=1 once the models are warm, then WATCHDOG=1 while the engine and every stream make progress.

    A daemon in which something hangs for longer than WATCHDOG_USEC is restarted; a camera that is down does not hang.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._manager = _manager(environment.get("NOTIFY_SOCKET", ""))
        self._watchdog_every = _watchdog(environment) / 4
        self._ready = False
        self._last_watchdog = self._last_status = -math.inf  # monotonic seconds

    def started(self, service: Service) -> None:  # noqa: ARG002 - as of all watchers
        """Send that the models are loading."""
        self._manager.send("STATUS=models loading")

    def tick(self, service: Service) -> None:
        """Send what is due."""
        now = time.monotonic()
        if service.models_loaded and not self._ready:
            self._ready, self._last_watchdog = True, now
            self._manager.send("READY=1")
            self._send_status(service)
        if self._ready and now - self._last_watchdog >= self._watchdog_every and service.progress > self._last_watchdog:
            self._last_watchdog = now
            self._manager.send("WATCHDOG=1")
        if now - self._last_status >= STATUS_EVERY:
            self._send_status(service)

    def close(self) -> None:
        """Send that the service stops."""
        self._manager.send("STOPPING=1", "STATUS=stopping")

    def _send_status(self, service: Service) -> None:
        self._last_status = time.monotonic()
        self._manager.send(f"STATUS={status(service)}")


class _Manager:
    """The service manager's datagram socket, as in $NOTIFY_SOCKET; "@" begins an abstract address."""

    def __init__(self, address: str) -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.settimeout(SEND)
        self._reached = True

    def send(self, *lines: str) -> None:
        """Send one message; a failure is logged once and costs nothing else."""
        try:
            self._socket.sendto("\n".join(lines).encode(), self._address)
            self._reached = True
        except OSError as error:
            if self._reached:
                log.warning("cannot tell systemd %s: %s", lines[0], error.strerror or error, extra={"event": "systemd"})
            self._reached = False


class _NoManager:
    """The manager where there is no systemd."""

    def send(self, *lines: str) -> None:
        """Send nothing."""


def _manager(address: str) -> _Manager | _NoManager:
    return _Manager(address) if address.startswith(("/", "@")) else _NoManager()


def _watchdog(environment: Mapping[str, str]) -> float:
    """Seconds within which systemd expects WATCHDOG=1; infinite where it does not, or not from this process."""
    try:
        seconds = int(environment.get("WATCHDOG_USEC", "")) / 1e6
        process = int(environment.get("WATCHDOG_PID", os.getpid()))
    except ValueError:
        return math.inf
    return seconds if seconds > 0 and process == os.getpid() else math.inf
