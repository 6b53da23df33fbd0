"""Clicks on moving shapes of a live stream, as late as a person's: the share that hit the shape that was clicked.

python -m tests.benchmarks.clicks [--clicks 20] [--fps 10] [--late 1.0] [--json]

Starts ``maskcast run`` on the CPU with a live ``testsrc://shapes`` and a prompt for what it has not, a new world for
every few clicks. Each click is on the centre of a shape on a frame that was captured ``--late`` seconds before, once
with the frame's number and once without. It hits when the first mask of its track that has pixels lies more on the
clicked shape than on any other. Shapes that another one covers, that are at the edge or that hardly move are not
clicked: ``left out``.
"""

import argparse
import json
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count

import numpy as np
import zmq

from stages.output import rle
from stages.output.wire import unpack
from stages.testsrc.world import ShapesWorld
from tests.support.program import Program, get, wait_until

PER_WORLD = 4  # clicks
WHOLE = 0.95  # least visible share of a shape that is clicked, on all frames from the one seen to the click and after
MOVED = 5.0  # pixels that its centre moves meanwhile
AFTER = 0.6  # seconds after the click in which it must be whole
WAIT = 10.0  # seconds for the first mask of a track


class Clicker:
    """A live world, its masks messages by frame, and the API of the daemon that watches it."""

    def __init__(self, world: ShapesWorld, address: str, socket: zmq.Socket) -> None:
        self.world, self._address, self._socket = world, address, socket
        self.headers: list[dict] = []
        self.answered: list[float] = []  # seconds that each click took

    def ask(self, path: str, method: str = "GET", body: dict | None = None) -> dict | None:
        data = None if body is None else json.dumps(body).encode()
        url, kind = self._address + "/api/streams/shapes" + path, {"Content-Type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(url, data, kind, method=method), timeout=30) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def listen(self, until: float) -> None:
        """Take what is published until then, in Unix seconds."""
        while (left := until - time.time()) > 0:
            if self._socket.poll(1000 * left):
                self.headers.append(unpack(self._socket.recv_multipart()).header)

    def seen(self, late: float) -> dict:
        """The newest frame that is at least ``late`` seconds old."""
        return [header for header in self.headers if header["captured_at"] <= time.time() - late][-1]

    def clickable(self, pts: int, last: int) -> list[int]:
        """The shapes that are whole on all frames from ``pts`` to ``last`` and move."""
        truths = [self.world.truth(t) for t in range(pts, last + 1)]
        whole = np.min([truth.visible for truth in truths], axis=0) >= WHOLE
        centres = [(truth.boxes[:, :2] + truth.boxes[:, 2:]) / 2 for truth in (truths[0], truths[-1])]
        return np.flatnonzero(whole & (np.linalg.norm(centres[1] - centres[0], axis=1) >= MOVED)).tolist()

    def click(self, header: dict, shape: int, numbered: bool) -> bool:
        """Whether the track that a click begins is on the shape."""
        rows, columns = np.nonzero(self.world.truth(header["pts"]).masks[shape])
        nearest = np.hypot(rows - rows.mean(), columns - columns.mean()).argmin()
        body: dict = {"points": [{"x": float(columns[nearest]) + 0.5, "y": float(rows[nearest]) + 0.5}]}
        if numbered:
            body |= {"frame": header["frame"], "session": header["session"]}
        began = time.perf_counter()
        track = (self.ask("/objects", "POST", body) or {})["id"]
        self.answered.append(time.perf_counter() - began)
        found, known = None, len(self.headers)
        deadline = time.time() + WAIT
        while found is None and time.time() < deadline:
            self.listen(time.time() + 0.05)
            of_track = (
                (one, entry) for one in self.headers[known:] for entry in one["objects"] if entry["id"] == track
            )
            found = next(((one, entry) for one, entry in of_track if entry["area"]), None)
        with suppress(urllib.error.HTTPError):  # it has been lost already
            self.ask(f"/objects/{track}", "DELETE")
        if found is None:
            return False
        mask = rle.decode(found[1]["mask"])
        shares = (self.world.truth(found[0]["pts"]).masks & mask).sum((1, 2))
        return int(shares.argmax()) == shape and shares[shape] > mask.sum() / 4


@contextmanager
def clicking(seed: int, fps: float) -> Iterator[Clicker]:
    """A daemon that watches the world of ``seed``, once it publishes."""
    world = ShapesWorld(seed, fps=fps)
    absent = next(label for other in count() for label in ShapesWorld(other).labels if label not in world.labels)
    source = f"testsrc://shapes?seed={seed}&live=1&fps={fps:g}&frames=1000000"
    program = Program(source, "--prompt", absent)
    try:
        masks, page = program.address("masks"), program.address("metrics").removesuffix("/metrics")
        wait_until(lambda: get(f"{page}/readyz")[0] == 200)
        with zmq.Context() as context, context.socket(zmq.SUB) as socket:
            socket.subscribe("v1/shapes/masks")
            socket.connect(masks)
            yield Clicker(world, page, socket)
    finally:
        program.process.kill()
        program.process.communicate()


def measure(clicks: int, fps: float, late: float) -> dict[str, dict[str, int]]:
    """Hits and clicks, with the frame's number and without, and the shapes left out."""
    told: dict[str, Counter[str]] = {"with frame": Counter(), "without": Counter()}
    for seed in count(1):
        if told["with frame"]["of"] >= clicks:
            return {
                name: {key: counts[key] for key in ("hit", "of", "left out", "ms")} for name, counts in told.items()
            }
        with clicking(seed, fps) as clicker:
            clicker.listen(time.time() + late + 2)
            for number in range(PER_WORLD):
                for name, counts in told.items():
                    header = clicker.seen(late)
                    shapes = clicker.clickable(header["pts"], header["pts"] + round((late + AFTER) * fps))
                    counts["left out"] += len(clicker.world.labels) - len(shapes)
                    if shapes and counts["of"] < clicks:
                        counts["of"] += 1
                        counts["hit"] += clicker.click(header, shapes[number % len(shapes)], name == "with frame")
                        counts["ms"] += round(1000 * clicker.answered[-1])
                    clicker.listen(time.time() + 0.3)
    raise AssertionError


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.clicks", description=__doc__.splitlines()[0])
    parser.add_argument("--clicks", type=int, default=20)
    parser.add_argument("--fps", type=float, default=10.0)
    parser.add_argument("--late", type=float, default=1.0, metavar="SECONDS", help="between capture and click")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    told = measure(arguments.clicks, arguments.fps, arguments.late)
    if arguments.json:
        print(json.dumps(told))
        return
    print("| click | hit | of | left out | mean ms of an answer |\n|---|---|---|---|---|")
    for name, counts in told.items():
        mean = counts["ms"] / counts["of"]
        print(f"| {name} | {counts['hit']} | {counts['of']} | {counts['left out']} | {mean:.0f} |")


if __name__ == "__main__":
    main()
