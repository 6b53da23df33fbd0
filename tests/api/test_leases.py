"""A real daemon, real HTTP, a real subscriber: a stream with a fence is published while it has a lease, not else."""

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import zmq

from daemon.lane.lease import LONGEST, boot_time
from tests.support.program import PATIENCE, Program, get, wait_until

pytestmark = pytest.mark.process

LIVE = "testsrc://shapes?seed=5&size=96x96&fps=20&live=1&objects=1"
PREDECESSOR = "7b1f3c95-e2a4-4d60-9f8e-c05d6b472a19"


class Daemon:
    """``maskcast run --stay``, steered over HTTP, and a subscriber that keeps every header that it has received."""

    def __init__(self) -> None:
        self.program = Program("--stay")
        endpoint = self.program.address("masks")
        self.url = self.program.address("metrics").removesuffix("/metrics")
        self.headers: list[dict[str, Any]] = []
        self._done = threading.Event()
        self._reader = threading.Thread(target=self._read, args=(endpoint,))
        self._reader.start()
        wait_until(lambda: get(f"{self.url}/readyz")[0] == 200)
        wait_until(lambda: self.sample("maskcast_subscribers") == 1)

    def _read(self, endpoint: str) -> None:
        with zmq.Context() as context, context.socket(zmq.SUB) as socket:
            socket.subscribe("v1/")
            socket.connect(endpoint)
            while not self._done.is_set():
                if socket.poll(100):
                    self.headers.append(json.loads(socket.recv_multipart()[1]))

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        answer = requests.request(method, self.url + path, json=body, timeout=PATIENCE)
        assert answer.ok, answer.text
        return answer.json() if answer.content else None

    def start(self, name: str, **more: Any) -> dict[str, Any]:
        started: dict[str, Any] = self.ask(
            "POST", "/api/streams", {"name": name, "source": LIVE, "prompts": ["red square"], **more}
        )
        return started

    def lease(self, seconds: float, **fences: int) -> dict[str, Any]:
        """The answer to a lease of that many seconds for each of the streams."""
        until = boot_time() + seconds
        body = {"streams": {name: {"fence": fence, "until": until} for name, fence in fences.items()}}
        answer: dict[str, Any] = self.ask("PUT", "/api/leases", body)
        return answer

    def of(self, stream: str) -> list[dict[str, Any]]:
        return [header for header in self.headers.copy() if header["stream"] == stream]

    def sample(self, series: str) -> float:
        """A series of /metrics, with its labels in their order."""
        [value] = [
            line.split()[-1] for line in get(f"{self.url}/metrics")[1].splitlines() if line.startswith(series + " ")
        ]
        return float(value)

    def dropped(self, stream: str) -> float:
        return self.sample(f'maskcast_frames_dropped_total{{reason="lease",stream="{stream}"}}')

    def masks(self, stream: str) -> list[dict[str, Any]]:
        return [header for header in self.of(stream) if header["schema"] == "maskcast/v1/masks"]

    def all_arrived(self, stream: str) -> bool:
        """Every frame that has been published has been received."""
        series = f'maskcast_frames_total{{stage="published",stream="{stream}"}}'
        return len(self.masks(stream)) == self.sample(series)

    def go_on(self, stream: str, frames: int = 20) -> None:
        """Wait until the stream has tracked that many more frames."""
        wanted = (self.ask("GET", f"/api/streams/{stream}")["frame"] or 0) + frames
        wait_until(lambda: (self.ask("GET", f"/api/streams/{stream}")["frame"] or 0) >= wanted)

    def close(self) -> None:
        self.program.process.terminate()
        assert self.program.end()[0] == 0
        self._done.set()
        self._reader.join()


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    daemon = Daemon()
    yield daemon
    daemon.close()


def test_a_stream_with_a_fence_is_published_while_it_has_a_lease_and_others_always(daemon):
    """Nothing before the first lease, nothing after its end; what was not published is counted, and is not lost."""
    assert daemon.start("yard")["fence"] is None
    shown = daemon.start("gate", fence=7, predecessor=PREDECESSOR)
    assert (shown["fence"], shown["predecessor"]) == (7, PREDECESSOR)
    assert daemon.dropped("gate") == 0.0
    daemon.go_on("gate")
    assert daemon.of("gate") == []
    assert daemon.dropped("gate") >= 20

    offset = time.time() - boot_time()
    answer = daemon.lease(1.0, gate=7)
    until = answer["streams"]["gate"]["until"]
    assert answer["refused"] == {}
    wait_until(lambda: boot_time() > until)
    daemon.go_on("gate")
    wait_until(lambda: daemon.masks("gate") and daemon.all_arrived("gate"))
    leased = daemon.of("gate")
    assert all(header["published_at"] - offset < until for header in leased)
    assert {(header["fence"], header["predecessor"]) for header in leased} == {(7, PREDECESSOR)}
    before = daemon.dropped("gate")
    daemon.go_on("gate")
    assert daemon.of("gate") == leased, "the lease was over"
    assert daemon.dropped("gate") >= before + 20

    assert daemon.lease(LONGEST / 2, gate=9)["streams"]["gate"]["fence"] == 9
    daemon.go_on("gate")
    wait_until(lambda: daemon.of("gate")[-1]["fence"] == 9)
    daemon.ask("DELETE", "/api/streams/gate")
    masks = [header["seq"] for header in daemon.masks("gate")]
    assert masks == sorted(set(masks))
    assert masks[-1] - masks[0] >= len(masks) - 1 + 40, "what was not published leaves a hole"
    wait_until(lambda: daemon.of("gate")[-1]["schema"] == "maskcast/v1/status")
    assert daemon.of("gate")[-1]["fence"] == 9

    yard = daemon.of("yard")
    assert yard
    assert not [header for header in yard if {"fence", "predecessor"} & header.keys()]
    assert daemon.dropped("yard") == 0.0
    assert len(daemon.masks("yard")) > 20


def test_each_lease_is_refused_by_itself_and_says_why(daemon):
    daemon.start("gate", fence=7)
    daemon.start("door", fence=7)
    daemon.start("yard")
    answer = daemon.lease(LONGEST / 2, gate=6, door=8, yard=7, nowhere=7)
    assert answer["streams"].keys() == {"door"}
    assert {name: refusal["status"] for name, refusal in answer["refused"].items()} == {
        "gate": 409,
        "yard": 409,
        "nowhere": 404,
    }
    errors = {name: refusal["error"] for name, refusal in answer["refused"].items()}
    assert errors["gate"] == "the stream has fence 7, so a lease with fence 6 is out of date"
    assert errors["yard"] == "the stream was started without a fence and needs no lease"
    assert errors["nowhere"] == 'no stream is named "nowhere"; there are: gate, door, yard'
    wait_until(lambda: daemon.of("door"))
    assert daemon.of("gate") == []
    unix = time.time() - boot_time() + 3
    [refusal] = daemon.lease(unix, gate=7)["refused"].values()
    assert refusal["status"] == 422
    assert "is more than 60 s ahead: it is in seconds of this machine's CLOCK_BOOTTIME" in refusal["error"]
    assert daemon.lease(-1.0, door=8)["refused"] == {}, "a lease is given back"
    daemon.go_on("door")
    wait_until(lambda: daemon.all_arrived("door"))
    given_back = daemon.of("door")
    daemon.go_on("door")
    assert daemon.of("door") == given_back
