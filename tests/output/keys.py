"""A daemon's folder of keys, and subscribers with and without them."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zmq

from stages.output.curve_keys import key_pair, new_client, new_server, server_public
from tests.support.program import PATIENCE

Pair = tuple[bytes, bytes]


class Keys:
    """Made in ``root``/keys; the clients' secrets lie in ``root``."""

    def __init__(self, root: Path) -> None:
        self.root, self.folder = root, root / "keys"
        new_server(self.folder)

    @property
    def server(self) -> bytes:
        return server_public(self.folder / "server.key")

    def client(self, name: str) -> Pair:
        new_client(self.folder, name, self.root)
        return key_pair(self.root / f"{name}.key_secret", "")

    def remove(self, name: str) -> None:
        (self.folder / "clients" / f"{name}.key").unlink()


def stranger() -> Pair:
    return zmq.curve_keypair()


def subscriber(
    context: zmq.Context[zmq.Socket[bytes]], endpoint: str, pair: Pair | None = None, server: bytes = b""
) -> zmq.Socket[bytes]:
    """A SUB socket that wants everything, with the keys ``pair`` for the daemon whose key is ``server``."""
    socket = context.socket(zmq.SUB)
    socket.set(zmq.LINGER, 0)
    if pair is not None:
        socket.set(zmq.CURVE_PUBLICKEY, pair[0])
        socket.set(zmq.CURVE_SECRETKEY, pair[1])
        socket.set(zmq.CURVE_SERVERKEY, server)
    socket.subscribe(b"")
    socket.connect(endpoint)
    return socket


def eventually(condition: Callable[[], Any]) -> bool:
    """Whether it comes true; False once ``PATIENCE`` is over."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
