"""A subscriber to all streams of a fleet, and what it saw."""

import itertools
import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import zmq

from stages.testsrc.world import ShapesWorld
from tests.support.program import wait_until

IN_SIGHT = 0.5  # of a body's area
MATCH = 0.5  # least IoU of a body's box with that of its object


@dataclass(frozen=True)
class Seen:
    """A message and the Unix time of its arrival."""

    at: float
    header: dict[str, Any]

    @property
    def fence(self) -> int:
        return self.header["fence"]


class Watcher:
    """Reads ``endpoint`` in a thread of its own, from construction to `close`.

    ``keys``: the public and the secret one of the client, and the server's public one. ``enter`` is called in the
    thread first.
    """

    def __init__(self, endpoint: str, keys: tuple[bytes, ...] = (), enter: Callable[[], None] = lambda: None) -> None:
        self.seen: dict[str, list[Seen]] = defaultdict(list)
        self.events: dict[str, list[Seen]] = defaultdict(list)
        self._endpoint, self._keys, self._enter, self._stop = endpoint, keys, enter, threading.Event()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def _read(self) -> None:
        self._enter()
        with zmq.Context() as context, context.socket(zmq.SUB) as socket:
            socket.set(zmq.LINGER, 0)
            if self._keys:
                socket.curve_publickey, socket.curve_secretkey, socket.curve_serverkey = self._keys
            socket.subscribe("v1/")
            socket.connect(self._endpoint)
            while not self._stop.is_set():
                if socket.poll(100):
                    parts = socket.recv_multipart()
                    _, stream, kind = parts[0].decode().split("/")
                    if kind in ("masks", "event"):
                        seen = self.seen if kind == "masks" else self.events
                        seen[stream].append(Seen(time.time(), json.loads(parts[1])))

    def last(self, stream: str) -> Seen | None:
        return self.seen[stream][-1] if self.seen[stream] else None

    def fence(self, stream: str) -> int:
        last = self.last(stream)
        return last.fence if last is not None else 0

    def wait_for(self, streams: Iterable[str], fences: dict[str, int], messages: int = 1) -> None:
        """Until each stream has sent ``messages`` under a higher fence than ``fences`` has for it."""
        for stream in streams:
            wait_until(
                lambda stream=stream: (
                    sum(seen.fence > fences.get(stream, 0) for seen in self.seen[stream][-messages:]) >= messages
                ),
                f"{stream} under a new fence",
            )

    def longest_gap(self, stream: str, since: float) -> float:
        """Seconds without a message, of those that came after Unix time ``since`` and the one before."""
        times = [seen.at for seen in self.seen[stream]]
        return max(b - a for a, b in itertools.pairwise(times) if b > since)

    def sessions_of_fences(self) -> dict[tuple[str, int], set[str]]:
        """Who published each stream under each fence."""
        found: dict[tuple[str, int], set[str]] = defaultdict(set)
        for stream, messages in self.seen.items():
            for seen in messages:
                found[stream, seen.fence].add(seen.header["session"])
        return found

    def fences_rise(self) -> bool:
        """No message of an older publisher came after one of a newer."""
        return all(a.fence <= b.fence for messages in self.seen.values() for a, b in itertools.pairwise(messages))


def kept_identities(messages: list[Seen], fence: int, world: ShapesWorld, around: int = 8) -> dict[int, bool]:
    """The bodies in sight just before, while and just after ``fence`` came, and whether their ids are the same."""
    first = next(place for place, seen in enumerate(messages) if seen.fence >= fence)
    pairs = identities_around(messages, first, world, around)
    return {body: before == after for body, (before, after) in pairs.items() if after is not None}


def identities_around(
    messages: list[Seen], first: int, world: ShapesWorld, around: int = 8
) -> dict[int, tuple[int, int | None]]:
    """Ids that bodies had before and after ``messages[first]``: the last before, and the first from there on.

    ``around``: messages before and after that are looked at. Bodies that were seen before and stayed in sight, by the
    world's truth, from the message before ``first`` to the last one looked at; None for one without an id after.
    """
    earlier, later = messages[max(0, first - around) : first], messages[first : first + around]
    before: dict[int, int] = {}
    after: dict[int, int] = {}
    for seen in earlier:
        before |= bodies(seen.header, world)
    for seen in reversed(later):
        after |= bodies(seen.header, world)
    stayed = set(before)
    for frame in range(earlier[-1].header["pts"], later[-1].header["pts"] + 1):
        truth = world.render(frame)[1]
        stayed -= {int(body) for body, visible in zip(truth.ids, truth.visible, strict=True) if visible <= IN_SIGHT}
    return {body: (before[body], after.get(body)) for body in sorted(stayed)}


def bodies(message: dict[str, Any], world: ShapesWorld) -> dict[int, int]:
    """The world's bodies that the message shows, with the ids that it gives them.

    A body has the object of its own prompt that overlaps it most: two that cross may share a box for a while.
    """
    truth = world.render(message["pts"])[1]
    found = {}
    for body, label, box, visible in zip(truth.ids, truth.labels, truth.boxes, truth.visible, strict=True):
        same = [thing for thing in message["objects"] if thing["prompt"] == label]
        best = max(same, key=lambda thing: _overlap(thing["box"], box), default=None)
        if best is not None and visible > IN_SIGHT and _overlap(best["box"], box) > MATCH:
            found[int(body)] = best["id"]
    return found


def _overlap(first: Sequence[float], second: Sequence[float]) -> float:
    """IoU of two boxes, xyxy."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    both = max(0, width) * max(0, height)
    areas = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in (first, second)]
    return float(both / (sum(areas) - both))
