"""A fleet of three nodes with three live streams, and a subscriber to all of them."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from stages.testsrc.world import ShapesWorld
from tests.fleet.cluster import RayCluster, fleet, ray_cluster
from tests.fleet.watcher import Watcher, bodies
from tests.support.media import free_port
from tests.support.program import PATIENCE, wait_until

STREAMS = {"gate": 4, "hall": 50, "yard": 59}  # seeds of worlds whose two bodies stay in sight
FPS = 5
TOKEN = "let-me-in"


@dataclass
class Site:
    """The cluster with its fleet; ``seeds`` of the streams' worlds, of two bodies each, by stream."""

    cluster: RayCluster
    config: Path
    masks: str
    http: str
    since: int
    watcher: Watcher
    seeds: Mapping[str, int]
    fps: int

    def status(self) -> dict[str, Any]:
        return self._ask("GET", "/fleet")

    def move(self, stream: str, node: str) -> None:
        self._ask("POST", "/fleet/move", {"stream": stream, "node": node})

    def drain(self, node: str) -> None:
        self._ask("POST", "/fleet/drain", {"node": node})

    def _ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """Ask the controller, once it is there: it may just be starting again."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                headers = {"Authorization": f"Bearer {TOKEN}"}
                url = f"http://{self.http}{path}"
                answer = requests.request(method, url, json=body, headers=headers, timeout=PATIENCE)
            except requests.ConnectionError:
                assert time.monotonic() < deadline
                time.sleep(0.1)
                continue
            assert answer.ok, answer.text
            return answer.json()

    def places(self) -> dict[str, str]:
        return {stream["stream"]: stream["node"] for stream in self.status()["streams"]}

    def keepers(self) -> set[str]:
        """Ids of the nodes that have the streams' last snapshots, as a controller would read them after a restart."""
        state = json.loads((self.config.parent / "fleet.json").read_text())
        return {stream["keeper"] for stream in state["streams"].values()}

    def all_up(self) -> bool:
        return all(stream["state"] == "up" for stream in self.status()["streams"])

    def says_all_is_well(self) -> bool:
        """The controller answers: all daemons are ready and all streams up."""
        code, out, _ = fleet(self.cluster, "status", "--json")
        if code:
            return False
        status = json.loads(out)
        states = {worker["state"] for worker in status["workers"]}, {stream["state"] for stream in status["streams"]}
        return states == ({"ready"}, {"up"})

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        try:
            wait_until(condition, what)
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.status()}") from None

    def goes_on(self, at: float) -> None:
        """Wait until each stream has sent a message after Unix time ``at``."""
        self.wait(lambda: all(self.watcher.last(stream).at > at for stream in STREAMS), "more messages")

    def identities(self, stream: str) -> dict[int, int]:
        """The world's bodies on the stream's last message, with their ids."""
        last = self.watcher.last(stream)
        return {} if last is None else bodies(last.header, self.world(stream))

    def world(self, stream: str) -> ShapesWorld:
        return ShapesWorld(self.seeds[stream], objects=2, fps=self.fps)

    def renumber(self, stream: str) -> None:
        """End the first two tracks by hand: the objects come back under ids that a new session would not give."""
        page = next(worker["page"] for worker in self.status()["workers"] if stream in worker["streams"])

        def done() -> bool:
            for track in (1, 2):
                url = f"{page}api/streams/{stream}/objects/{track}"
                requests.delete(url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=PATIENCE)
            return self.rested(stream)

        self.wait(done, f"{stream} under higher ids")

    def rested(self, stream: str) -> bool:
        """Both of the world's bodies are in sight, with ids that a new session would not give."""
        ids = self.identities(stream).values()
        return len(set(ids)) == 2 and min(ids) > 2

    def fences(self) -> dict[str, int]:
        return {stream: self.watcher.fence(stream) for stream in self.seeds}


def write_config(folder: Path, masks: str, http: str, streams: str) -> Path:
    config = folder / "fleet.toml"
    config.write_text(f"""
[models]
detector = "embedded"
segmenter = "embedded"
device = "cpu"
[detection]
every = 10
[publish]
endpoint = "tcp://127.0.0.1:0"
frames = false
[http]
listen = "127.0.0.1:0"
token = "{TOKEN}"
[fleet]
slot = "slot"
full = 50
endpoint = "{masks}"
listen = "{http}"
state = "{folder}/fleet.json"
{streams}
""")
    return config


@contextmanager
def live_site(folder: Path, seeds: Mapping[str, int], fps: int) -> Iterator[Site]:
    """A fleet of three nodes whose streams show both of their bodies, under ids that a new session would not give."""
    masks, http, since = f"tcp://127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}", int(time.time())
    streams = "".join(
        f"""
[[streams]]
name = "{name}"
source = "testsrc://shapes?seed={seed}&objects=2&live=1&fps={fps}&since={since}"
prompts = {json.dumps(sorted(set(ShapesWorld(seed, objects=2).labels)))}
"""
        for name, seed in seeds.items()
    )
    config = write_config(folder, masks, http, streams)
    with ray_cluster(folder) as cluster:
        for number in range(3):
            cluster.node(f"n{number}", "north" if number else "south")
        cluster.ready()
        code, _, error = fleet(cluster, "up", "--config", str(config))
        assert code == 0, error
        watcher = Watcher(masks)
        try:
            site = Site(cluster, config, masks, http, since, watcher, seeds, fps)
            site.wait(site.all_up, "all streams up")
            for stream in seeds:
                site.wait(lambda stream=stream: len(site.identities(stream)) == 2, f"both objects of {stream}")
                site.renumber(stream)
            yield site
        finally:
            watcher.close()
            fleet(cluster, "down")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with live_site(tmp_path_factory.mktemp("fleet"), STREAMS, FPS) as site:
        yield site
