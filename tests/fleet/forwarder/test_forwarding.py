"""The forwarder's process beside the controller: started, left alone while it runs, and not for ever anew."""

import sys
from pathlib import Path

import pytest

from daemon.fleet import forwarding
from daemon.fleet.forwarding import LONGEST, Forwarding
from daemon.fleet.settings import FleetSettings
from tests.support.program import wait_until

pytestmark = pytest.mark.process


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def started(tmp_path, monkeypatch):
    """started(program) -> a Forwarding whose forwarder is this Python program, and its clock."""
    clock = Clock()
    monkeypatch.setattr(forwarding, "time", clock)

    def started(program: str) -> tuple[Forwarding, Clock]:
        kept = Forwarding(FleetSettings(fleet={"state": str(tmp_path / "fleet.json")}))
        kept._command = [sys.executable, "-S", "-c", program]
        return kept, clock

    return started


def starts(folder: Path) -> int:
    return (folder / "forwarder.log").read_text().count("started")


def test_one_that_ends_at_once_is_started_again_after_ever_longer_pauses(started, tmp_path):
    """As where its port is taken: that may last for days."""
    kept, clock = started("import sys; sys.exit('started')")
    for second in range(600):
        clock.now = 1000.0 + second
        kept.read_from([], [])
        kept._process.wait()
    assert 10 <= starts(tmp_path) <= 600 / LONGEST + 10


def test_one_that_runs_is_left_alone_and_one_that_dies_later_is_back_at_once(started, tmp_path):
    kept, clock = started("import sys, time; print('started', file=sys.stderr, flush=True); time.sleep(1000)")
    try:
        for _ in range(3):
            clock.now += LONGEST + 1
            kept.read_from(["tcp://127.0.0.1:5555"], ["gate"])
        wait_until(lambda: starts(tmp_path) == 1)
        kept._process.kill()
        kept._process.wait()
        kept.read_from(["tcp://127.0.0.1:5555"], ["gate"])
        wait_until(lambda: starts(tmp_path) == 2)
    finally:
        kept.stop()
