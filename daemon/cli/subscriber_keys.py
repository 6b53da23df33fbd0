"""CURVE for subscribers: sets the keys of a socket and reports handshakes that the publisher refuses."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import zmq
from zmq.utils.monitor import recv_monitor_message

from stages.errors import ConfigError
from stages.output.curve_keys import key_pair, server_public
from stages.output.subscribers import HANDSHAKE_FAILED


def set_curve_keys(socket: "zmq.Socket[bytes]", key: Path | None, server: Path | None) -> None:
    """Set the subscriber's key pair and the daemon's public key on ``socket``, before it connects; None: no keys.

    Raises ConfigError if only one of the two is given, and for files without valid keys.
    """
    if key is None and server is None:
        return
    if key is None or server is None:
        missing = "--server server.key, the daemon's" if server is None else "--key NAME.key_secret, its own"
        raise ConfigError(f"a subscriber needs two keys: give {missing}, too (maskcast keys new --client NAME)")
    public, secret = key_pair(key, "name the file that maskcast keys new --client NAME made, NAME.key_secret")
    socket.set(zmq.CURVE_SERVERKEY, server_public(server))
    socket.set(zmq.CURVE_PUBLICKEY, public)
    socket.set(zmq.CURVE_SECRETKEY, secret)


class HandshakeMonitor:
    """Reports failed handshakes of a subscriber's socket on stderr, once. ``monitor``: a socket to poll."""

    def __init__(self, monitor: "zmq.Socket[bytes]", endpoint: str, key: Path | None) -> None:
        self.monitor = monitor
        self._endpoint, self._key = endpoint, key
        self._reported = False

    def check(self) -> None:
        """Handle waiting events. Raises ConfigError if the key is not allowed: libzmq does not retry after that."""
        while self.monitor.poll(0):
            event = recv_monitor_message(self.monitor)["event"]
            if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                raise ConfigError(
                    f"{self._endpoint} refuses the key in {self._key}: its public half must stand in the daemon's "
                    "folder, as clients/NAME.key"
                )
            if not self._reported:
                self._reported = True
                print(f"maskcast: {self._endpoint} does not let us in: {self._hint()}", file=sys.stderr, flush=True)

    def _hint(self) -> str:
        if self._key is None:
            return "does it want keys? then give --key and --server (maskcast keys new --client NAME)"
        return "is --server the server.key of this daemon, and has it CURVE turned on?"


@contextmanager
def monitor_handshakes(socket: "zmq.Socket[bytes]", endpoint: str, key: Path | None) -> Iterator[HandshakeMonitor]:
    """Monitor the handshakes of ``socket``, which must not be connected yet."""
    monitor = socket.get_monitor_socket(HANDSHAKE_FAILED)
    try:
        yield HandshakeMonitor(monitor, endpoint, key)
    finally:
        socket.disable_monitor()
        monitor.close(0)
