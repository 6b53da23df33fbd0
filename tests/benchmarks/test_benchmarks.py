"""The benchmarks run as processes, print what they promise and draw their plots; no figure is judged."""

import json
import os
import subprocess
import sys

import pytest

from daemon.metrics.stream_metrics import DROP_REASONS
from tests.benchmarks.live import figures, over_time
from tests.benchmarks.memory import Sample, conclude
from tests.benchmarks.support.live_run import Arrival, Run
from tests.support.program import PATIENCE

pytestmark = pytest.mark.process  # most of these tests


def run(name: str, *arguments: str) -> dict:
    command = [sys.executable, "-m", f"tests.benchmarks.{name}", *arguments, "--json"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_tracker_benchmark_compares_every_cell_with_upstream_and_with_one_object(tmp_path):
    """Each row has its stages, its share of the measured peak and its ratios, all of them positive."""
    picture = tmp_path / "tracker.png"
    small = ["--sizes", "embedded", "--objects", "1", "2", "--frames", "6", "--fill", "6", "--device", "cpu"]
    report = run("tracker", *small, "--plot", str(picture))
    rows = {(cell["tracker"], cell["objects"]): cell for cell in report["cells"]}
    assert set(rows) == {("ours", 1), ("ours", 2), ("upstream", 1), ("upstream", 2)}
    for (tracker, objects), cell in rows.items():
        assert cell["status"] == "ok"
        assert set(cell["stages"]) == {"encode", "attend", "decode", "memorise", "rest"}
        positive = [cell["total"], cell["attend_of_peak"], cell["over_ours"], cell["over_one"], report["peak_flops"]]
        assert all(figure > 0 for figure in positive)
        assert cell["over_ours"] == 1 or tracker != "ours"
        assert cell["over_one"] == 1 or objects != 1
    assert rows["ours", 2]["attend_flop"] > rows["ours", 1]["attend_flop"] > 0
    assert rows["upstream", 2]["attend_flop"] == 2 * rows["upstream", 1]["attend_flop"]
    assert picture.stat().st_size > 0


def test_the_memory_benchmark_sees_upstream_grow_and_the_tracker_not(tmp_path):
    """The tracker holds the same bytes at every sample; upstream's grow by a frame and its outputs each time."""
    picture = tmp_path / "memory.png"
    report = run("memory", "--frames", "30", "--every-report", "10", "--objects", "1", "--plot", str(picture))
    ours, theirs = report["ours"], report["upstream"]
    assert [one["frame"] for one in ours] == [one["frame"] for one in theirs] == [10, 20, 30]
    assert len({one["held"] for one in ours}) == 1
    assert theirs[0]["held"] < theirs[1]["held"] < theirs[2]["held"]
    pixels = 4 * 3 * 256 * 256
    assert theirs[2]["frames_held"] == 30 * pixels
    assert theirs[2]["held"] - theirs[1]["held"] > 10 * pixels
    ratios = [value for name, value in report["figures"].items() if "/" in name]
    assert len(ratios) == 3
    assert all(ratio > 0 for ratio in ratios)
    assert picture.stat().st_size > 0


def test_the_batching_benchmark_compares_streams_apart_with_streams_together():
    small = ["--streams", "2", "--window", "2", "--rounds", "1", "--device", "cpu"]
    rows = run("batching", *small)["rows"]
    assert [(row["step"], row["streams"], row["pictures"]) for row in rows] == [("detect", 2, 1), ("encode", 2, 2)]
    for row in rows:
        assert row["ratio"] == row["together"] / row["apart"] > 0


def test_the_tiles_benchmark_compares_tiles_with_the_whole_picture():
    small = ["--seeds", "300", "--frames", "2", "--every", "1", "--size", "320x180", "--tiles", "off", "2"]
    settings = run("tiles", *small)["settings"]
    assert {name: row["grid"] for name, row in settings.items()} == {"off": [1, 1], "2": [1, 2]}
    assert settings["off"]["time_over_first"] == 1
    assert settings["2"]["time_over_first"] > 0
    assert settings["off"]["objects"] == settings["2"]["objects"]
    assert all(0 <= figure <= 1 for row in settings.values() for figure in (row["f1"], *row["f1_by_size"]))


def test_the_benchmark_of_cues_tells_the_time_of_each_and_of_the_tracker():
    spent = run("cues", "--world", "plain", "--seeds", "300", "--frames", "8")
    assert set(spent) == {"looks", "motion", "need", "tracker"}
    assert all(0 < spent[name] <= spent["tracker"] for name in spent)


@pytest.mark.parametrize(
    ("held_at_the_end", "growth", "bounded"), [(500, 0, True), (500, 1000, True), (501, 0, False), (500, 1100, False)]
)
def test_a_long_run_is_bounded_when_nothing_it_holds_grows(held_at_the_end, growth, bounded):
    """The same bytes at frame 1,000 and at the end, and less than 1,024 bytes of resident memory a frame between."""
    frames = range(500, 10_001, 500)
    ours = [Sample(t, held_at_the_end if t == 10_000 else 500, 7 << 20 if t < 1000 else growth * t) for t in frames]
    report = conclude(ours, [], 1000)
    assert report["bounded"] is bounded
    assert report["figures"]["tracker RSS slope, bytes a frame"] == growth
    assert report["figures"]["tracker held at frame 10000"] == held_at_the_end


def test_the_training_benchmark_compares_the_trainer_with_a_plain_loop():
    """Both rates are positive, and the ratio is theirs."""
    few = ["--batch-size", "4", "--before", "1", "--steps", "1", "--rounds", "1", "--workers", "0", "--device", "cpu"]
    report = run("train", "--from-scratch", *few)
    rates = report["images_per_second"]
    assert set(rates) == {"plain", "trainer"}
    assert min(rates.values()) > 0
    assert report["trainer_over_plain"] == pytest.approx(rates["trainer"] / rates["plain"])
    assert (report["model"], report["batch_size"]) == ("compact_vit", 4)


def test_the_drawing_benchmark_compares_boxes_with_whole_pictures():
    """Three steps of each scene, whose results are the same both ways."""
    rows = run("drawing", "--size", "160x90", "--rounds", "1")["rows"]
    assert len({(row["scene"], row["step"]) for row in rows}) == len(rows) == 9
    assert all(row["ratio"] == row["whole"] / row["inside"] > 0 for row in rows)


def test_the_events_benchmark_times_pages_and_frames():
    """Each figure of a page stands beside that of /healthz, and no record is lost."""
    report = run("events", "--events", "2000", "--requests", "6", "--frames", "50")
    page, frame = report["page, ms"], report["frame, CPU ms"]
    assert 0 < page["median"] <= page["worst"]
    assert page["median / healthz"] == page["median"] / page["healthz median"]
    assert frame["with / without"] == frame["with"] / frame["without"]
    assert (frame["frames"], page["lost"], frame["lost"]) == (100, 0, 0)


def test_the_live_benchmark_runs_the_daemon_and_draws_its_plot(tmp_path):
    """Each run has a share of what was asked, percentiles that rise and drops by reason; overload is cut in six."""
    picture = tmp_path / "live.png"
    short = ["--streams", "1", "--fps", "5", "--overload", "2", "--seconds", "2", "--warm-up", "0", "--window", "2"]
    report = run("live", *short, "--plot", str(picture))
    assert [(row["streams"], row["asked_fps"]) for row in report["runs"]] == [(1, 5), (2, 10)]
    assert report["runs"][0]["p95_over_first_run"] == 1
    for row in report["runs"]:
        assert 0 < row["least_of_a_stream"] <= row["published_of_asked"] < 1.2
        assert 0 < row["p50"] <= row["p95"] <= row["p99"]
        assert set(row["drops"]) == {*DROP_REASONS, "subscriber"}
    assert [row["until"] for row in report["overload"]] == [1, 2, 3, 4, 5, 6]
    assert picture.stat().st_size > 0


def published(*latencies: float, streams: int = 1, dropped: int = 0, **changes) -> Run:
    """One stream that publishes 10 frames a second, each as late as said."""
    arrivals = [Arrival("camera-1", 100 + t / 10, late, dropped) for t, late in enumerate(latencies)]
    given = {"drops": {"engine_busy": dropped}, "governor_step": 0, **changes}
    return Run(streams, 10.0, 100.0, len(latencies) / 10, tuple(arrivals), **given)


def test_a_run_that_publishes_every_frame_and_drops_none_is_held():
    first = published(*[0.1] * 10)
    row = figures(published(*[0.2] * 10), first)
    assert (row["published_of_asked"], row["least_of_a_stream"], row["held"]) == (1, 1, True)
    assert (row["p50"], row["p95_over_first_run"]) == pytest.approx((0.2, 2))


@pytest.mark.parametrize("change", [{"streams": 2}, {"drops": {"engine_busy": 1}}, {"drops": {"subscriber": 1}}])
def test_a_run_is_not_held_when_a_stream_gets_less_or_a_frame_is_dropped(change):
    lacking = published(*[0.1] * 10, **change)
    assert not figures(lacking, lacking)["held"]


def test_overload_is_told_span_by_span():
    """Latency and drops of each sixth stand by themselves, beside the first sixth's latency."""
    spans = over_time(published(*[0.1] * 10, *[0.3] * 50, dropped=2))
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


def test_the_client_benchmark_compares_with_pycocotools():
    report = run("client", "--frames", "2", "--objects", "2", "--size", "200x100")
    rates = report["fps"]
    assert set(rates) == {"crops", "masks", "detections", "pycocotools"}
    assert min(rates.values()) > 0
    assert report["crops_over_pycocotools"] == rates["crops"] / rates["pycocotools"]
    assert report["import_ms"] > 0
