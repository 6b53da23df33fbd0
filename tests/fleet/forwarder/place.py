"""A forwarder that runs in a thread, daemons' publishers and subscribers around it."""

import json
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import zmq

from daemon.fleet.forwarder.forwarder import Forwarder
from daemon.fleet.forwarder.upstream import Upstream
from stages.output.publisher import Publisher
from tests.output.keys import Pair, eventually
from tests.support.program import PATIENCE

Socket = zmq.Socket[bytes]


class Place:
    """Closes what it has made when its block ends."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._context = stack.enter_context(zmq.Context())

    def daemon(self, endpoint: str = "tcp://127.0.0.1:0", curve_dir: Path | None = None) -> Publisher:
        publisher = Publisher(endpoint, curve_dir=curve_dir)
        self._stack.callback(publisher.close)
        return publisher

    def forwarder(
        self, *daemons: Publisher, endpoints: Iterable[str] = (), streams: Iterable[str] = (), **options: Any
    ) -> Forwarder:
        """A forwarder that reads from these daemons, and from those at ``endpoints``."""
        forwarder = Forwarder("tcp://127.0.0.1:0", **options)
        stop = threading.Event()
        thread = threading.Thread(target=forwarder.run, args=(stop,))
        for step in (forwarder.close, lambda: thread.join(PATIENCE), stop.set):
            self._stack.callback(step)
        known = (*endpoints, *(daemon.endpoint for daemon in daemons))
        forwarder.set_upstream(Upstream(daemons=frozenset(known), streams=frozenset(streams)))
        thread.start()
        return forwarder

    def subscriber(
        self, endpoint: str, *topics: str, pair: Pair | None = None, server: bytes = b"", hwm: int = 0
    ) -> Socket:
        socket = self._context.socket(zmq.SUB)
        self._stack.callback(socket.close, 0)
        socket.set(zmq.RCVTIMEO, PATIENCE * 1000)
        socket.set(zmq.RCVHWM, hwm)
        if pair is not None:
            socket.curve_publickey, socket.curve_secretkey = pair
            socket.curve_serverkey = server
        for topic in topics:
            socket.subscribe(topic)
        socket.connect(endpoint)
        return socket


@contextmanager
def place() -> Iterator[Place]:
    with ExitStack() as stack:
        yield Place(stack)


def read(forwarder: Forwarder, *daemons: Publisher) -> None:
    """Make the forwarder read from these daemons alone."""
    forwarder.set_upstream(Upstream(daemons=frozenset(daemon.endpoint for daemon in daemons)))


def message(stream: str, number: int, kind: str = "masks", **header: Any) -> list[bytes]:
    """A message whose ``seq`` is ``number``; a frame has a blob."""
    header = {"schema": f"maskcast/v1/{kind}", "stream": stream, "session": "s", "seq": number, **header}
    parts = [f"v1/{stream}/{kind}".encode(), json.dumps(header).encode()]
    return [*parts, b"jpeg"] if kind == "frame" else parts


def number(parts: list[bytes]) -> int:
    seq: int = json.loads(parts[1])["seq"]
    return seq


def knows(daemon: Publisher, topic: str) -> bool:
    """Whether the daemon hears of a subscription to ``topic``."""
    return eventually(lambda: daemon.wants(topic.encode()))


def figure(forwarder: Forwarder, name: str, **labels: str) -> float:
    value = forwarder.figures.registry.get_sample_value(f"maskcast_forwarder_{name}", labels)
    assert value is not None, name
    return value
