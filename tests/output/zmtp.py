"""ZeroMQ's protocol by hand, for peers that break it: https://rfc.zeromq.org/spec/23/ and /37/."""

import socket
import struct

from tests.support.program import PATIENCE

GREETING_BYTES = 64


def greeting(mechanism: bytes = b"NULL", version: bytes = b"\x03\x01") -> bytes:
    return b"\xff" + bytes(8) + b"\x7f" + version + mechanism.ljust(20, b"\0") + bytes(32)


def command(name: bytes, body: bytes = b"") -> bytes:
    payload = bytes([len(name)]) + name + body
    return b"\x04" + bytes([len(payload)]) + payload


def ready(socket_type: bytes = b"SUB") -> bytes:
    return command(b"READY", b"\x0bSocket-Type" + struct.pack(">I", len(socket_type)) + socket_type)


def frame(body: bytes, more: bool = False) -> bytes:
    if len(body) < 256:
        return bytes([more, len(body)]) + body
    return bytes([2 | more]) + struct.pack(">Q", len(body)) + body


def connect(endpoint: str) -> socket.socket:
    host, port = endpoint.removeprefix("tcp://").rsplit(":", 1)
    connection = socket.create_connection((host, int(port)))
    connection.settimeout(PATIENCE)
    return connection


def subscribed(endpoint: str, *topics: bytes) -> socket.socket:
    """A connection that has shaken hands, without keys, and asked for ``topics``."""
    peer = connect(endpoint)
    peer.sendall(greeting() + ready())
    got = b""
    while len(got) < GREETING_BYTES + 2 or len(got) < GREETING_BYTES + 2 + got[GREETING_BYTES + 1]:
        got += peer.recv(4096)
    peer.sendall(b"".join(frame(b"\x01" + topic) for topic in topics))
    return peer


def closed_by_the_other(peer: socket.socket) -> bool:
    """Read until the end; False when it does not come."""
    try:
        while peer.recv(65536):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        pass
    return True
