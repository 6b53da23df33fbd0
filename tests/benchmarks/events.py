"""The database with a million events: time of a page over HTTP, and what writing costs a frame.

python -m tests.benchmarks.events [--events N] [--requests N] [--frames N] [--folder DIR] [--json]

The database has 8 streams, 5 prompts and pictures of the newest tracks. Pages are asked for over one connection while a
stream adds 50 events a second: of all events, of one or more streams, types and prompts, of a prompt of which there are
ten in all, deep in the past, and of a time. Before the first request the file is put out of the kernel's cache. What
the machine does besides shows in requests for /healthz, which come in between, and not in CPU time, which is of the
search alone.

A frame costs what the stream's writer does for it: masks, codes and headers for publishing, but no picture, which would
cost several times as much; chunks of frames run in turns with and without the database. Time is CPU time of the whole
process, so that the database's own thread counts too.
"""

import argparse
import http.client
import json
import os
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import cv2
import numpy as np
import torch

from daemon.events.database import Database
from daemon.events.questions import Filter, page
from daemon.events.records import EventRecord, TrackRecord
from daemon.events.rows import MOST_EVENTS, Rows
from daemon.events.store import EventStore
from daemon.lane.outcome import Outcome
from daemon.metrics.registry import Metrics
from daemon.sinks.publishing import Publishing
from daemon.sinks.remembering import Remembering
from daemon.sinks.sink import Sink
from daemon.stream.latency import Latency
from daemon.stream.rendering import Renderer
from daemon.stream.writer import Identity, Writer
from stages.output.publisher import Publisher
from stages.testsrc.world import ShapesWorld
from stages.types import Clock, Frame, Result, Track, TrackChange, TrackEvent, TrackState
from tests.api.site import Site
from tests.lane.lanes import new_lane

STREAMS = [f"camera-{number}" for number in range(8)]
PROMPTS = ["car", "person", "forklift", "dog", "bicycle"]
RARE = "giraffe"
DAYS = 30 * 86_400.0  # seconds that the events span
PICTURES = 20_000  # tracks with a picture of 5 KB
CHUNK = 50  # frames
SIZE = 1280, 720


def fill(path: Path, count: int) -> None:
    """A database with ``count`` events, whose last one is now."""
    draw, now = random.Random(0), time.time()
    database = Database(path)
    rows, picture = Rows(database.connection), draw.randbytes(5000)
    kinds = [str(change) for change in TrackChange]
    database.connection.execute("BEGIN")
    for number in range(count):
        at = now - DAYS * (1 - number / count)
        stream, prompt = draw.choice(STREAMS), RARE if number % (count // 10) == 5 else draw.choice(PROMPTS)
        track, box = number // 4, (10.0, 20.0, 30.0, 40.0)
        rows.write(EventRecord(stream, stream, kinds[number % 4], at, "detected", at, number, track, prompt, 0.5, box))
        if number % 4 == 0 and count - number <= 4 * PICTURES:
            rows.write(TrackRecord(stream, stream, track, prompt, at, at, 0.5, box, 1.0, picture))
    database.connection.execute("COMMIT")
    database.close()


def questions(draw: random.Random) -> Iterator[str]:
    """Pages of all kinds, for ever."""
    now = int(time.time())
    while True:
        deep = now - draw.randrange(int(DAYS))
        yield ""
        yield f"stream={draw.choice(STREAMS)}"
        yield f"prompt={draw.choice(PROMPTS)}&type=track_started&to={deep}"
        yield f"prompt={RARE}"
        yield f"type=track_ended&type=track_started&from={deep - 3600}&to={deep}"
        yield "&".join(f"stream={stream}" for stream in draw.sample(STREAMS, 3))


@contextmanager
def written_to(store: EventStore) -> Iterator[None]:
    """Within it, 50 events a second are added."""
    done = threading.Event()

    def add() -> None:
        number = 0
        while not done.wait(0.02):
            number += 1
            at = time.time()
            store.add(EventRecord(STREAMS[0], "now", "track_started", at, "detected", at, number, number, PROMPTS[0]))

    adding = threading.Thread(target=add)
    adding.start()
    try:
        yield
    finally:
        done.set()
        adding.join()


def pages(path: Path, requests: int) -> dict[str, float]:
    """Milliseconds of requests for pages of 50 events."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    lost: list[int] = []
    store = EventStore(path, lost.append)
    with Site() as site:
        site.control.store = store
        store.start()
        time.sleep(1.0)  # a browser comes later than that
        asked = questions(random.Random(1))
        connection = http.client.HTTPConnection("127.0.0.1", site.port)
        with written_to(store):
            took = [timed(connection, f"/api/events?limit=50&{next(asked)}")]
            health = []
            for _ in range(requests):
                time.sleep(0.01)
                health.append(timed(connection, "/healthz"))
                took.append(timed(connection, f"/api/events?limit=50&{next(asked)}"))
            day = timed(connection, "/api/events/counts?step=600")
            spent = [computed(store, next(asked)) for _ in range(requests)]
    store.close()
    later = took[1:]
    figures = {"first": took[0], "median": statistics.median(later), "worst": max(later)}
    slow, usual = sum(one > 100 for one in took), statistics.median(health)
    alive = {"healthz median": usual, "healthz worst": max(health), "median / healthz": figures["median"] / usual}
    cpu = {"CPU median": statistics.median(spent), "CPU worst": max(spent)}
    return {**figures, "above 100 ms": slow, "counts of a day": day, **alive, **cpu, "lost": sum(lost)}


def computed(store: EventStore, query: str) -> float:
    """CPU milliseconds to find a page, without HTTP."""
    asked = parse_qs(query)
    names = asked.get("stream", ()), asked.get("type", ()), asked.get("prompt", ())
    since, until = (float(asked.get(name, [limit])[0]) for name, limit in (("from", "-inf"), ("to", "inf")))
    began = time.thread_time()
    store.reader.ask(lambda connection: page(connection, Filter(*names, since, until), 50))
    return 1000 * (time.thread_time() - began)


def timed(connection: http.client.HTTPConnection, path: str) -> float:
    """Milliseconds of a request. Raises RuntimeError for an answer that is none."""
    began = time.perf_counter()
    connection.request("GET", path)
    answer = connection.getresponse()
    found = answer.read()
    took = 1000 * (time.perf_counter() - began)
    if answer.status != 200 or b'"events":[]' in found:
        raise RuntimeError(f"{path}: {answer.status} {found[:200]!r}")
    return took


class Station:
    """The writer of a stream of 1280 x 720 with 8 objects, one of which begins anew every tenth frame."""

    def __init__(self, store: EventStore | None) -> None:
        metrics = Metrics()
        self._publisher = Publisher("tcp://127.0.0.1:0")
        lane = new_lane("gate", ["shape"], metrics)
        publishing = Publishing("gate", self._publisher, lane.metrics, True, threading.Event(), lane.lease)
        sinks: list[Sink] = [publishing] if store is None else [publishing, Remembering("gate", store)]
        renderer = Renderer(85, lane.prompt_set.written)
        self._writer = Writer(Identity("gate", "s", {}), lane, renderer, sinks, Latency())
        self._next = 0

    def write(self, frames: list[Result]) -> None:
        for result in frames:
            number, began = self._next, self._next // 10
            self._next += 1
            tracks = tuple(
                Track(began + place, 0, 0, number, TrackState.TRACKED, 0.8, 0.99) for place in range(len(result.tracks))
            )
            events: tuple[TrackEvent, ...] = ()
            if number % 10 == 0:
                events = (
                    TrackEvent(TrackChange.ENDED, began - 1, 0, number, "lost"),
                    TrackEvent(TrackChange.STARTED, began + len(tracks) - 1, 0, number, "detected"),
                )
            frame = Frame(number, number, Fraction(1, 30), time.time(), Clock.ARRIVAL, result.frame.image)
            self._writer.write(Outcome((Result(frame, 0, False, tracks, result.logits, events),)))

    def close(self) -> None:
        self._publisher.close()


def moving(count: int) -> list[Result]:
    """Frames of 8 shapes, with their logits."""
    world = ShapesWorld(seed=3, width=SIZE[0], height=SIZE[1], objects=8)
    frames = []
    for number in range(count):
        image, truth = world.render(number)
        small = [cv2.resize(mask.astype(np.float32), (256, 256), interpolation=cv2.INTER_AREA) for mask in truth.masks]
        tracks = tuple(Track(place, 0, 0, 0, TrackState.TRACKED, 0.8, 0.99) for place in range(len(small)))
        frame = Frame(number, 0, Fraction(1, 30), 0.0, Clock.ARRIVAL, image)
        frames.append(Result(frame, 0, False, tracks, torch.tensor(np.array(small) * 16 - 8)))
    return frames


def writing(path: Path, count: int) -> dict[str, float]:
    """CPU milliseconds a frame with and without the database, and records lost."""
    lost: list[int] = []
    store = EventStore(path, lost.append)
    store.start()
    time.sleep(1.0)
    with_it, without = Station(store), Station(None)
    shown = moving(CHUNK)
    spent: dict[bool, list[float]] = {True: [], False: []}
    for number in range(2 * (count // CHUNK)):
        kept = number % 2 == 0
        began = time.process_time()
        (with_it if kept else without).write(shown)
        if kept:
            time.sleep(0.5)  # the thread has written by then
        spent[kept].append(1000 * (time.process_time() - began) / CHUNK)
    store.close()
    with_it.close()
    without.close()
    kept_ms, plain_ms = statistics.median(spent[True]), statistics.median(spent[False])
    figures = {"with": kept_ms, "without": plain_ms, "with / without": kept_ms / plain_ms}
    return {**figures, "frames": sum(len(chunks) for chunks in spent.values()) * CHUNK, "lost": sum(lost)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.events", description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=MOST_EVENTS)
    parser.add_argument("--requests", type=int, default=600)
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--folder", type=Path, help="where the database is made; a temporary one")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        path = Path(folder) / "maskcast.db"
        began = time.perf_counter()
        fill(path, arguments.events)
        report: dict[str, Any] = {"events": arguments.events, "MiB": path.stat().st_size / 2**20}
        print(f"made in {time.perf_counter() - began:.0f} s", file=sys.stderr)
        report["page, ms"] = pages(path, arguments.requests)
        report["frame, CPU ms"] = writing(path, arguments.frames)
    if arguments.json:
        print(json.dumps(report))
        return
    print(f"{report['events']} events, {report['MiB']:.0f} MiB")
    for name in ("page, ms", "frame, CPU ms"):
        print(f"{name}: " + ", ".join(f"{what} {figure:.4g}" for what, figure in report[name].items()))


if __name__ == "__main__":
    main()
