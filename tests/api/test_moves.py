"""A stream moves from one real daemon to another, over HTTP alone, and its objects keep their identities."""

import json
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import requests
import zmq

from daemon.lane.lease import LONGEST, boot_time
from stages.output import rle
from stages.testsrc.world import ShapesWorld
from tests.support.program import PATIENCE, Program, get, wait_until

pytestmark = pytest.mark.process

SEED, SIDE, FPS = 5, 192, 5
WORLD = ShapesWorld(SEED, SIDE, SIDE, 3, FPS)
PROMPTS = list(dict.fromkeys(WORLD.labels))
SAME = 0.5  # IoU of a mask and the truth


class Daemon:
    """``maskcast run --stay`` without a source."""

    def __init__(self) -> None:
        self.program = Program("--stay", "--every", "5")
        self.endpoint = self.program.address("masks")
        self.url = self.program.address("metrics").removesuffix("/metrics")

    def ready(self) -> bool:
        return get(f"{self.url}/readyz")[0] == 200

    def ask(self, method: str, path: str, **more: Any) -> requests.Response:
        return requests.request(method, f"{self.url}/api{path}", timeout=PATIENCE, **more)

    def load(self) -> dict[str, Any]:
        answer: dict[str, Any] = self.ask("GET", "/load").json()
        return answer

    def start(self, **stream: Any) -> dict[str, Any]:
        answer = self.ask("POST", "/streams", json=stream)
        assert answer.status_code == 201, answer.text
        started: dict[str, Any] = answer.json()
        return started

    def ids(self, stream: str) -> list[int]:
        return [track["id"] for track in self.ask("GET", f"/streams/{stream}").json()["tracks"]]

    def lease(self, fence: int) -> None:
        body = {"streams": {"gate": {"fence": fence, "until": boot_time() + LONGEST - 1}}}
        assert self.ask("PUT", "/leases", json=body).json()["refused"] == {}

    def keep(self, snapshot: bytes) -> requests.Response:
        return self.ask("POST", "/snapshots", data=snapshot, headers={"Content-Type": "application/octet-stream"})


@pytest.fixture
def daemons() -> Iterator[tuple[Daemon, Daemon]]:
    with ExitStack() as stack:
        both = []
        for _ in range(2):
            both.append(Daemon())
            stack.callback(both[-1].program.process.kill)
        for daemon in both:
            wait_until(daemon.ready)
        yield both[0], both[1]


@contextmanager
def masks_of(*daemons: Daemon) -> Iterator[list[dict[str, Any]]]:
    """The masks headers that daemons publish, as they come."""
    headers: list[dict[str, Any]] = []
    done = threading.Event()

    def read() -> None:
        with zmq.Context() as context, context.socket(zmq.SUB) as socket:
            socket.subscribe("v1/gate/masks")
            for daemon in daemons:
                socket.connect(daemon.endpoint)
            while not done.is_set():
                if socket.poll(100):
                    headers.append(json.loads(socket.recv_multipart()[1]))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield headers
    finally:
        done.set()
        reader.join()


def bodies(headers: list[dict[str, Any]]) -> dict[int, tuple[int, str]]:
    """Which body of the world each track is on most of the frames, and the prompt that it is told to be of."""
    seen: dict[int, Counter[tuple[int, str]]] = defaultdict(Counter)
    for header in headers:
        truth = WORLD.render(header["pts"])[1].masks
        for shown in header["objects"]:
            mask = rle.decode(shown["mask"])
            for body, real in enumerate(truth):
                if (mask & real).sum() > SAME * max(1, (mask | real).sum()):
                    seen[shown["id"]][body, shown["prompt"]] += 1
    return {track: count.most_common(1)[0][0] for track, count in seen.items()}


def test_a_stream_moves_between_two_daemons_and_its_objects_keep_their_ids(daemons):
    """Its prompts have other numbers there than they would have had; the one that it leaves ends once it is drained."""
    old, new = daemons
    source = f"testsrc://shapes?seed={SEED}&size={SIDE}x{SIDE}&objects=3&fps={FPS}&live=1&since={int(time.time())}"
    with masks_of(old, new) as headers:
        first = old.start(name="gate", source=source, prompts=["purple star", *PROMPTS], fence=1)
        assert old.ask("PUT", "/streams/gate/prompts", json={"prompts": PROMPTS}).status_code == 200
        old.lease(1)
        wait_until(lambda: len(bodies(headers[-10:])) == 3 and len(headers) > 20)

        assert old.ask("POST", "/drain").status_code == 202
        assert old.load()["draining"]
        refused = old.ask("POST", "/streams", json={"name": "more", "source": source, "prompts": PROMPTS})
        assert (refused.status_code, refused.json()["error"]) == (
            409,
            'stream "more" cannot be added: the daemon is draining: it takes no new streams',
        )
        assert old.ready(), "the streams there are go on"

        snapshot = old.ask("GET", "/streams/gate/snapshot")
        assert snapshot.headers["Content-Type"] == "application/octet-stream"
        small = old.ask("GET", "/streams/gate/snapshot?full=false")
        assert len(small.content) < len(snapshot.content) / 2
        kept = new.keep(snapshot.content).json()["snapshot"]
        opened = new.ask("POST", "/sources", json={"name": "gate", "source": source}).json()["opened"]
        prompts = PROMPTS[::-1]
        second = new.start(name="gate", source=source, prompts=prompts, fence=2, snapshot=kept, opened=opened)
        new.lease(2)
        assert second["predecessor"] == first["session"] != second["session"]
        assert old.ask("DELETE", "/streams/gate").status_code == 204
        assert old.program.process.wait(PATIENCE) == 0

        wait_until(lambda: len([header for header in headers if header["fence"] == 2]) > 20)
        load = new.load()
    before = [header for header in headers if header["fence"] == 1]
    after = [header for header in headers if header["fence"] == 2]
    assert {header["session"] for header in after} == {second["session"]}
    assert {header["predecessor"] for header in after} == {first["session"]}
    was, now = bodies(before[-20:]), bodies(after[:20])
    common = was.keys() & now.keys()
    assert len(common) >= 2
    assert {track: now[track] for track in common} == {track: was[track] for track in common}
    assert {track for track in now if track not in was} <= {4}, "at most one was lost meanwhile"

    [stream] = load["streams"]
    assert (stream["name"], load["draining"]) == ("gate", False)
    assert 0 < stream["seconds"] <= 30
    assert 0 < stream["share"] == load["share"] <= 1
    assert 0 < stream["memory"] < load["memory"]["used"] < load["memory"]["budget"]
    assert stream["waiting"] >= 0
    new.start(name="b", source=source, prompts=prompts, snapshot=new.keep(small.content).json()["snapshot"])
    wait_until(lambda: new.ids("b"))
    for track in new.ids("b"):
        new.ask("DELETE", f"/streams/b/objects/{track}")
    wait_until(lambda: max(new.ids("b"), default=0) > 1000, "an id that the first daemon has surely not given since")
    again = new.ask("POST", "/streams", json={"name": "c", "source": source, "prompts": prompts, "snapshot": kept})
    assert (again.status_code, "no snapshot '" in again.json()["error"]) == (404, True), "it is for one stream"
    new.program.process.terminate()
    assert new.program.process.wait(PATIENCE) == 0


def test_what_cannot_be_handed_over_is_refused_with_the_reason_and_no_stream_is_made(daemons):
    old, new = daemons
    source = f"testsrc://shapes?seed={SEED}&size={SIDE}x{SIDE}&objects=1&fps={FPS}&live=1"
    old.start(name="gate", source=source, prompts=PROMPTS)
    wait_until(lambda: old.ask("GET", "/streams/gate/snapshot").status_code == 200)
    whole = old.ask("GET", "/streams/gate/snapshot").content
    line, _, tracker = whole.partition(b"\n")
    mark = len(b"maskcast tracker")
    cases = {
        "version 256, but this maskcast reads version": tracker[: mark + 2] + b"\1\0" + tracker[mark + 4 :],
        "are no snapshot of a tracker": b"what is this",
        "cut off": tracker[:-100],
        "damaged": tracker[:-9] + bytes([tracker[-9] ^ 1]) + tracker[-8:],
    }
    for reason, content in cases.items():
        kept = new.keep(line + b"\n" + content).json()["snapshot"]
        for _ in range(2):  # what is refused can be asked for again, until its time is over
            answer = new.ask(
                "POST", "/streams", json={"name": "gate", "source": source, "prompts": PROMPTS, "snapshot": kept}
            )
            assert (answer.status_code, reason in answer.json()["error"]) == (422, True), answer.text
    opened = new.ask("POST", "/sources", json={"name": "gate", "source": "testsrc://shapes"})
    assert (opened.status_code, "only a live source" in opened.json()["error"]) == (422, True)
    for content in (b"", b"{}\n", tracker, line, line.replace(b"snapshot/2", b"snapshot/1") + b"\n" + tracker):
        answer = new.keep(content)
        assert (answer.status_code, "this is no snapshot of a stream" in answer.json()["error"]) == (422, True)
    assert new.load()["streams"] == []
    assert new.load()["memory"]["used"] < new.load()["memory"]["budget"]

    new.start(name="away", source="rtsp://127.0.0.1:1/x", prompts=PROMPTS)
    answer = new.ask("GET", "/streams/away/snapshot")
    assert (answer.status_code, "tracks nothing now" in answer.json()["error"]) == (409, True)
    assert new.ask("GET", "/streams/nowhere/snapshot").status_code == 404
    assert new.ask("DELETE", "/streams/away").status_code == 204
    assert new.ask("POST", "/drain").status_code == 202
    assert new.program.process.wait(PATIENCE) == 0, "nothing was left"
