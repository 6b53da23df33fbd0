"""A fleet on machines of its own, one of which is cut off."""

import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.fleet.network.boxes import Boxes
from tests.fleet.network.namespaces import machines, needs_ip, needs_root
from tests.fleet.watcher import Watcher
from tests.output.keys import Keys, stranger
from tests.support.program import PATIENCE, wait_until

pytestmark = [pytest.mark.process, needs_ip, needs_root]

TOKEN = "let-me-in"
STREAMS = ("gate", "yard")
MASKS, HTTP, DAEMON = 5556, 9110, 5555  # ports


@dataclass
class Fleet:
    """Boxes with a fleet on them."""

    boxes: Boxes
    keys: Keys

    def ask(self, method: str, path: str, **body: str) -> Any:
        """What the fleet's HTTP answers on the head."""
        url, headers = f"http://{self.boxes.machines.addresses[0]}:{HTTP}{path}", {"Authorization": f"Bearer {TOKEN}"}
        answer = self.boxes.machines.on(
            0, lambda: requests.request(method, url, json=body or None, headers=headers, timeout=PATIENCE)
        )
        assert answer.ok, answer.text
        return answer.json()

    def streams(self) -> dict[str, dict[str, Any]]:
        return {one["stream"]: one for one in self.ask("GET", "/fleet")["streams"]}

    def worker(self, node: str) -> dict[str, Any]:
        [worker] = [one for one in self.ask("GET", "/fleet")["workers"] if one["node"] == node]
        return worker

    def wait(self, condition: Any, what: str) -> None:
        try:
            wait_until(condition, what)
        except AssertionError as error:
            said = [self.boxes.said(box)[-500:] for box in range(3)]
            raise AssertionError(f"{error}: {self.ask('GET', '/fleet')} {said}") from None

    def watcher(self, box: int, port: int, *keys: bytes) -> Watcher:
        """A subscriber on a box, of what is published there."""
        address = self.boxes.machines.addresses[box]
        return Watcher(f"tcp://{address}:{port}", keys, lambda: self.boxes.machines.enter(box))


def config(folder: Path, address: str, keys: Path) -> Path:
    file = folder / "fleet.toml"
    file.write_text(f"""
[models]
detector = "embedded"
segmenter = "embedded"
device = "cpu"
[publish]
endpoint = "tcp://127.0.0.1:{DAEMON}"
curve_dir = "{keys}"
frames = false
[http]
listen = "127.0.0.1:9109"
token = "{TOKEN}"
[fleet]
slot = "slot"
full = 50
endpoint = "tcp://{address}:{MASKS}"
listen = "{address}:{HTTP}"
state = "{folder}/fleet.json"
""")
    with file.open("a") as text:
        for number, name in enumerate(STREAMS):
            source = f"testsrc://shapes?seed={number + 4}&objects=1&live=1&fps=5&size=96x96"
            text.write(f'[[streams]]\nname = "{name}"\nsource = "{source}"\nprompts = ["red circle"]\n')
    return file


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with tempfile.TemporaryDirectory(prefix="fleet-", ignore_cleanup_errors=True) as name, machines(3) as made:
        folder = Path(name)  # pytest's own would make the paths of Ray's sockets too long
        keys = Keys(folder)
        keys.client("forwarder")
        (folder / "forwarder.key_secret").rename(keys.folder / "forwarder.key_secret")
        boxes = Boxes(made, folder)
        try:
            fleet = Fleet(boxes, keys)
            wait_until(lambda: all("Ray runtime started" in boxes.said(box) for box in range(3)), "all boxes")
            code, _, error = boxes.fleet("up", "--config", str(config(folder, made.addresses[0], keys.folder)))
            assert code == 0, error
            fleet.wait(lambda: {one["state"] for one in fleet.streams().values()} == {"up"}, "all streams up")
            yield fleet
        finally:
            boxes.close()


def test_a_box_that_is_cut_off_is_silent_before_another_one_speaks_and_is_used_again_later(fleet: Fleet):
    """One subscriber reads the forwarder, another one the daemon on that box; one without a key hears nothing."""
    pair = fleet.keys.client("wall")
    [name] = [stream for stream, one in fleet.streams().items() if one["node"] == "box1"]
    [other] = {*STREAMS} - {name}
    all_masks, its_masks, nobody = (
        fleet.watcher(box, port, *keys, fleet.keys.server)
        for box, port, keys in ((0, MASKS, pair), (1, DAEMON, pair), (0, MASKS, stranger()))
    )
    try:
        its_masks.wait_for([name], {})
        all_masks.wait_for(STREAMS, {})
        before = {stream: all_masks.fence(stream) for stream in STREAMS}
        fleet.boxes.machines.unplug(1)
        cut = time.time()
        all_masks.wait_for([name], before, messages=5)
        last = its_masks.last(name)
        first = next(seen for seen in all_masks.seen[name] if seen.fence > before[name])
        assert cut < last.at < first.at
        fleet.wait(lambda: "given up its node" in fleet.worker("box1")["problem"], "Ray notices it")

        fleet.boxes.machines.plug(1)
        refused = ThreadPoolExecutor(1).submit(fleet.boxes.fleet, "status", RAY_AUTH_MODE="disabled")
        fleet.wait(lambda: fleet.worker("box1")["state"] == "ready", "the box is there again")
        assert its_masks.last(name) is last
        assert refused.result()[0] == 2
        assert "wants its token" in refused.result()[2].splitlines()[-1]  # before it are lines of Ray's
        apart = {stream: all_masks.fence(stream) for stream in STREAMS}
        fleet.ask("POST", "/fleet/move", stream=name, node="box1")
        its_masks.wait_for([name], apart, messages=5)
        all_masks.wait_for([name], apart, messages=5)
        assert {stream: one["node"] for stream, one in fleet.streams().items()} == {name: "box1", other: "box2"}
        assert apart[other] == before[other]
        for watcher in (all_masks, its_masks):
            assert all(len(sessions) == 1 for sessions in watcher.sessions_of_fences().values())
            assert watcher.fences_rise()
        assert not nobody.seen
    finally:
        for watcher in (all_masks, its_masks, nobody):
            watcher.close()
