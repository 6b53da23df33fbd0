"""The simulation of a fleet prints its table and draws its plot, and keeps its streams watched."""

import json
import subprocess
import sys

import pytest

from daemon.fleet.placement.decide import decide
from tests.benchmarks.fleet.demand import Asked
from tests.benchmarks.fleet.round_robin import RoundRobin
from tests.benchmarks.fleet.simulation import Simulation
from tests.support.program import PATIENCE

SMALL = Asked(nodes=20, streams=300, hours=3, failing=0.5)


@pytest.mark.process
def test_the_fleet_benchmark_compares_with_round_robin(tmp_path):
    picture = tmp_path / "fleet.png"
    small = ["--nodes", "10", "--streams", "100", "--hours", "2", "--failing", "0.5", "--plot", str(picture)]
    command = [sys.executable, "-m", "tests.benchmarks.fleet", *small]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["failures"] > 0
    assert set(report["ours"]) == set(report["round_robin"])
    assert 0 < report["ours"]["gap p50"] <= report["ours"]["gap p99"] <= report["ours"]["gap max"]
    assert picture.stat().st_size > 0


def test_streams_of_failed_nodes_run_elsewhere_within_ten_seconds():
    """Simulated ones: there is room, and no two nodes fail within the same seconds."""
    run = Simulation(SMALL, decide).simulate()
    assert len(run.failures) > 10
    assert len(run.gaps) > 100
    assert max(run.gaps) < 10


def test_measured_costs_lose_fewer_frames_and_spread_the_load_better_than_turns():
    ours, other = Simulation(SMALL, decide).simulate(), Simulation(SMALL, RoundRobin()).simulate()
    assert ours.failures == other.failures
    assert sum(one.lost for one in ours.samples) < sum(one.lost for one in other.samples)
    assert sum(one.spread for one in ours.samples) < sum(one.spread for one in other.samples)


def test_a_fleet_without_failures_moves_few_streams():
    """Noise alone moves nothing to and fro: far fewer moves an hour than a tenth of the streams."""
    quiet = Asked(nodes=20, streams=300, hours=6, failing=0)
    run = Simulation(quiet, decide).simulate()
    assert len(run.moves) < 0.1 * 300 * 6
    assert run.gaps == []
