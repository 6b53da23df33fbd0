"""The golden messages, and a station that publishes messages."""

import functools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import zmq
from numpy.typing import NDArray

from tests.support.program import PATIENCE

FOLDER = Path(__file__).parents[1] / "golden" / "vectors"
INDEX = json.loads((FOLDER / "index.json").read_text())


def parts_of(name: str) -> list[bytes]:
    """The very bytes of a golden message."""
    return list(_read(name))


@functools.cache
def _read(name: str) -> tuple[bytes, ...]:
    [entry] = [entry for entry in INDEX if entry["name"] == name]
    return tuple((FOLDER / part).read_bytes() for part in entry["parts"])


def header_of(name: str) -> dict[str, Any]:
    header: dict[str, Any] = json.loads(parts_of(name)[1])
    return header


def masks() -> Iterator[tuple[str, dict[str, Any], NDArray[np.bool_]]]:
    """Name, object as in the header, and its pixels from the PNG, bool (H, W), of each golden mask."""
    for entry in INDEX:
        for thing in header_of(entry["name"]).get("objects", ()):
            picture = cv2.imread(str(FOLDER / entry["masks"][str(thing["id"])]), cv2.IMREAD_UNCHANGED)
            assert picture is not None
            yield f"{entry['name']}-{thing['id']}", thing, picture > 0


def masks_message(stream: str = "gate", **changes: Any) -> list[bytes]:
    """A golden masks message, with other values in its header."""
    header = header_of("masks-one-pixel-rle") | {"stream": stream, **changes}
    return [f"v1/{stream}/masks".encode(), json.dumps(header).encode()]


def event_message(stream: str = "gate", kind: str = "source_down", **changes: Any) -> list[bytes]:
    header = header_of("event-source_down") | {"stream": stream, "type": kind, **changes}
    return [f"v1/{stream}/event".encode(), json.dumps(header).encode()]


def frame_message(stream: str = "gate", jpeg: bytes | None = None, **changes: Any) -> list[bytes]:
    _, header, picture = parts_of("frame-foreign")
    header = json.dumps(json.loads(header) | {"stream": stream, **changes}).encode()
    return [f"v1/{stream}/frame".encode(), header, jpeg or picture]


class Station:
    """A publisher that hears who subscribes."""

    def __init__(self, socket: "zmq.Socket[bytes]") -> None:
        self.socket = socket
        self.endpoint = socket.get_string(zmq.LAST_ENDPOINT)

    def heard(self, topic: str, leaves: bool = False) -> None:
        """Wait until somebody subscribes to ``topic``, or ``leaves`` it."""
        while self.socket.recv() != (b"\x00" if leaves else b"\x01") + topic.encode():
            pass

    def send(self, *messages: list[bytes]) -> None:
        for parts in messages:
            self.socket.send_multipart(parts)


@contextmanager
def station(endpoint: str = "tcp://127.0.0.1:0") -> Iterator[Station]:
    with zmq.Context() as context, context.socket(zmq.XPUB) as socket:
        socket.set(zmq.LINGER, 0)
        socket.set(zmq.RCVTIMEO, PATIENCE * 1000)
        socket.set(zmq.XPUB_VERBOSER, 1)  # else a subscription equal to one of a subscriber that is leaving is not told
        socket.bind(endpoint)
        yield Station(socket)
