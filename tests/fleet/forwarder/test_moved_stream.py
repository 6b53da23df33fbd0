"""A stream that is given to another daemon while the first one goes on, as after a partition: what subscribers see."""

import time
from typing import Any

import pytest
import requests

from maskcast_client import subscribe
from tests.fleet.forwarder.place import figure, place
from tests.support.program import PATIENCE, Program, wait_until

pytestmark = pytest.mark.process

SOURCE = "testsrc://shapes?seed=5&size=96x96&fps=20&live=1&objects=1"


def start(daemon: Program, fence: int, **more: Any) -> dict[str, Any]:
    """Start the stream with a lease of 50 s; returns the daemon's view of it."""
    url = daemon.address("metrics").removesuffix("/metrics")
    body = {"name": "gate", "source": SOURCE, "prompts": ["red square"], "fence": fence, **more}
    started = requests.post(f"{url}/api/streams", json=body, timeout=PATIENCE)
    assert started.ok, started.text
    lease = {"fence": fence, "until": time.clock_gettime(time.CLOCK_BOOTTIME) + 50}
    given = requests.put(f"{url}/api/leases", json={"streams": {"gate": lease}}, timeout=PATIENCE)
    assert given.ok, given.text
    view: dict[str, Any] = requests.get(f"{url}/api/streams/gate", timeout=PATIENCE).json()
    return view


def test_a_subscriber_follows_the_newer_daemon_and_hears_the_older_one_no_more() -> None:
    old, new = Program("--stay"), Program("--stay")
    try:
        endpoints = [daemon.address("masks") for daemon in (old, new)]
        with place() as around:
            forwarder = around.forwarder(endpoints=endpoints)
            frames = subscribe(forwarder.endpoint, "gate", timeout=PATIENCE)
            session = start(old, 1)["session"]
            first = next(frames)
            assert (first.fence, first.session, first.predecessor) == (1, session, None)
            start(new, 2, predecessor=session)
            while (frame := next(frames)).fence == 1:
                pass
            assert (frame.fence, frame.predecessor, frame.restarted) == (2, session, True)
            dropped = figure(forwarder, "dropped_total", reason="fence")
            wait_until(lambda: figure(forwarder, "dropped_total", reason="fence") > dropped + 20)
            after = [next(frames) for _ in range(20)]
            assert {frame.fence for frame in after} == {2}
            assert {frame.session for frame in after} == {frame.session}
            assert not any(frame.restarted for frame in after)
            frames.close()
    finally:
        for daemon in (old, new):
            daemon.process.terminate()
            daemon.end()
