"""The benchmark of live streams: a short one of the real daemon, and its arithmetic; no figure is judged."""

import json
import os
import subprocess
import sys

import pytest

from tests.benchmarks.live import figures, over_time
from tests.benchmarks.support.live_run import Arrival, Run
from tests.support.program import PATIENCE


@pytest.mark.process
def test_the_live_benchmark_runs_the_daemon_and_draws_its_plot(tmp_path):
    """Each run has a share of what was asked, percentiles that rise and drops by reason; overload is cut in six."""
    picture = tmp_path / "live.png"
    short = ["--streams", "1", "--fps", "5", "--overload", "2", "--seconds", "2", "--warm-up", "0", "--window", "2"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.live", *short, "--plot", str(picture), "--json"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert [(row["streams"], row["asked_fps"]) for row in report["runs"]] == [(1, 5), (2, 10)]
    assert report["runs"][0]["p95_over_first_run"] == 1
    for row in report["runs"]:
        assert 0 < row["least_of_a_stream"] <= row["published_of_asked"] < 1.2
        assert 0 < row["p50"] <= row["p95"] <= row["p99"]
        assert set(row["drops"]) == {"source", "engine_busy", "writer_busy", "error", "subscriber"}
    assert [row["until"] for row in report["overload"]] == [1, 2, 3, 4, 5, 6]
    assert picture.stat().st_size > 0


def run(*latencies: float, streams: int = 1, dropped: int = 0, **changes) -> Run:
    """One stream that publishes 10 frames a second, each as late as said."""
    arrivals = [Arrival("camera-1", 100 + t / 10, late, dropped) for t, late in enumerate(latencies)]
    given = {"drops": {"engine_busy": dropped}, "governor_step": 0, **changes}
    return Run(streams, 10.0, 100.0, len(latencies) / 10, tuple(arrivals), **given)


def test_a_run_that_publishes_every_frame_and_drops_none_is_held():
    first = run(*[0.1] * 10)
    row = figures(run(*[0.2] * 10), first)
    assert (row["published_of_asked"], row["least_of_a_stream"], row["held"]) == (1, 1, True)
    assert (row["p50"], row["p95_over_first_run"]) == pytest.approx((0.2, 2))


@pytest.mark.parametrize("change", [{"streams": 2}, {"drops": {"engine_busy": 1}}, {"drops": {"subscriber": 1}}])
def test_a_run_is_not_held_when_a_stream_gets_less_or_a_frame_is_dropped(change):
    lacking = run(*[0.1] * 10, **change)
    assert not figures(lacking, lacking)["held"]


def test_overload_is_told_span_by_span():
    """Latency and drops of each sixth stand by themselves, beside the first sixth's latency."""
    spans = over_time(run(*[0.1] * 10, *[0.3] * 50, dropped=2))
    assert [span["until"] for span in spans] == [1, 2, 3, 4, 5, 6]
    assert [round(span["p95_over_first"], 3) for span in spans] == [1, 3, 3, 3, 3, 3]
    assert [span["dropped"] for span in spans] == [20] * 6
    assert [span["published_of_asked"] for span in spans] == [1] * 6


def test_a_span_in_which_nothing_came_has_no_latency():
    """An overloaded stream may be silent for long; the table goes on."""
    silent = Run(1, 10.0, 100.0, 6.0, (Arrival("camera-1", 100.5, 0.1, 0),), {}, 0)
    spans = over_time(silent)
    assert spans[0]["p95"] == 0.1
    assert all(span["p95"] != span["p95"] for span in spans[1:])
    assert [span["published_of_asked"] for span in spans[1:]] == [0] * 5
