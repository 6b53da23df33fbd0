"""A real subscriber that stores every header, so that a test can wait for the ones it expects."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import zmq

from tests.support.program import PATIENCE

Header = dict[str, Any]


class Subscriber:
    """The headers received so far, in order."""

    def __init__(self) -> None:
        self.headers: list[Header] = []

    def masks(self, stream: str) -> list[Header]:
        return self._of(stream, "maskcast/v1/masks")

    def events(self, stream: str, *types: str) -> list[Header]:
        return [header for header in self._of(stream, "maskcast/v1/event") if header["type"] in types]

    def wait(self, condition: Callable[[], Any]) -> Any:
        """Wait until ``condition`` returns a true value, and return it."""
        deadline = time.monotonic() + PATIENCE
        while not (found := condition()):
            last = [header for header in self.headers if "type" in header][-20:]
            assert time.monotonic() < deadline, f"it never happened; the last events: {last}"
            time.sleep(0.05)
        return found

    def _of(self, stream: str, schema: str) -> list[Header]:
        return [header for header in self.headers.copy() if (header["stream"], header["schema"]) == (stream, schema)]


@contextmanager
def subscribed(endpoint: str) -> Iterator[Subscriber]:
    """Receive all headers, except those of frames, until the block ends."""
    subscriber, stop = Subscriber(), threading.Event()

    def receive() -> None:
        with zmq.Context() as context, context.socket(zmq.SUB) as socket:
            socket.set(zmq.RCVTIMEO, 100)
            socket.subscribe("v1/")
            socket.connect(endpoint)
            while not stop.is_set():
                try:
                    parts = socket.recv_multipart()
                except zmq.Again:
                    continue
                if len(parts) == 2:
                    subscriber.headers.append(json.loads(parts[1]))

    thread = threading.Thread(target=receive, daemon=True)
    thread.start()
    try:
        yield subscriber
    finally:
        stop.set()
        thread.join(PATIENCE)


def whole(headers: list[Header]) -> bool:
    """Assert that no message was lost, frames increase, and times do not decrease."""
    seq = [header["seq"] for header in headers]
    frames = [header["frame"] for header in headers]
    times = [header["captured_at"] for header in headers]
    holes = [(before, after) for before, after in pairwise(seq) if after != before + 1]
    assert holes == [], "messages were lost"
    assert frames == sorted(set(frames)), "a frame came twice or out of order"
    assert all(before <= after for before, after in pairwise(times)), "times run backwards"
    return True
