"""A real daemon that is pestered over HTTP: its streams do not notice."""

import concurrent.futures
import http.client
import json
import socket

import pytest

from stages.testsrc.world import ShapesWorld
from tests.support.program import PATIENCE, Program, get, lines_of, wait_until

pytestmark = pytest.mark.process

FRAMES = 60
NONSENSE = [
    ("POST", "/api/streams/shapes/objects", {"box": [-5, 10, 900, 20]}),
    ("POST", "/api/streams/shapes/objects", {"points": [{"x": 1e6, "y": 0}]}),
    ("POST", "/api/streams/shapes/objects", {"mask": {"size": [256, 256], "counts": "0"}}),
    ("POST", "/api/streams/shapes/objects", {"box": [10, 10, 20, 20], "prompt": "dragon"}),
    ("POST", "/api/streams/shapes/objects/99/points", {"points": [{"x": 1, "y": 1}]}),
    ("DELETE", "/api/streams/shapes/objects/99", None),
    ("DELETE", "/api/streams/nowhere", None),
    ("PUT", "/api/streams/shapes/prompts", {"prompts": ["word " * 150]}),
    ("PUT", "/api/streams/shapes/prompts", {"prompts": ["🙂"]}),
    ("PUT", "/api/streams/shapes/prompts", {"prompts": ["紫色の星"]}),
    ("POST", "/api/streams", {"name": "shapes", "source": "rtsp://user:hunter2@127.0.0.1:1/x", "prompts": ["car"]}),
    ("POST", "/api/streams", {"name": "a/b", "source": "rtsp://user:hunter2@127.0.0.1:1/x", "prompts": ["car"]}),
    ("GET", "/api/streams/shapes", None),
    ("GET", "/metrics", None),
]


def test_a_thousand_requests_of_nonsense_cost_the_stream_no_frame(tmp_path):
    """Each is refused, or told to come back; every frame is recorded, with nothing but the prompt's own tracks."""
    label = ShapesWorld(4).labels[0]
    source = f"testsrc://shapes?seed=4&frames={FRAMES}"
    program = Program(source, "--prompt", label, "--record", str(tmp_path))
    url = program.address("metrics").removesuffix("/metrics")
    place = url.removeprefix("http://")
    wait_until(lambda: get(f"{url}/readyz")[0] == 200)
    wait_until(lambda: json.loads(get(f"{url}/api/streams/shapes")[1])["frame"] is not None)

    def ask(number: int) -> tuple[int, bytes]:
        method, path, body = NONSENSE[number % len(NONSENSE)]
        connection = http.client.HTTPConnection(place, timeout=PATIENCE)
        try:
            sent = None if body is None else json.dumps(body)
            connection.request(method, path, sent, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return (answer.status if method != "GET" else 0), answer.read()
        except OSError:  # all frames are done, and with them the daemon
            return 0, b""
        finally:
            connection.close()

    silent = [socket.create_connection(tuple(place.split(":")), PATIENCE) for _ in range(100)]
    with concurrent.futures.ThreadPoolExecutor(50) as crowd:
        answers = list(crowd.map(ask, range(1000)))
    for client in silent:
        client.close()
    code, _, wrong = program.end()
    assert (code, wrong) == (0, [])
    frames = lines_of(tmp_path / "shapes.masks.jsonl")
    assert [frame["frame"] for frame in frames] == list(range(FRAMES))
    assert {thing["prompt"] for frame in frames for thing in frame["objects"]} == {label}
    statuses = {status for status, _ in answers}
    assert statuses <= {0, 404, 409, 422, 503}
    assert {404, 409, 422} <= statuses
    assert not any(b"hunter2" in body for _, body in answers)
