"""Metrics as Prometheus sees them: over real HTTP."""

import time
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from daemon.metrics.stream_metrics import StreamMetrics
from stages.types import TrackChange, TrackEvent
from tests.api.site import Site

DROPS = ("source", "engine_busy", "writer_busy", "error", "max_fps", "lease")
STAGES = ("decode", "detect", "encode", "propagate", "classify", "annotate", "publish")

# the public interface: name without prefix -> label sets that a stream "gate" with the prompt "car" must have
SERIES: dict[str, list[dict[str, str]]] = {
    "frames_total": [{"stream": "gate", "stage": stage} for stage in ("decoded", "tracked", "published")],
    "fps": [{"stream": "gate"}],
    "frames_dropped_total": [{"stream": "gate", "reason": reason} for reason in DROPS],
    "stage_seconds_count": [{"stream": "gate", "stage": stage} for stage in STAGES],
    "stage_seconds_sum": [{"stream": "gate", "stage": stage} for stage in STAGES],
    "frame_latency_seconds_count": [{"stream": "gate"}],
    "queue_frames": [{"stream": "gate", "queue": queue} for queue in ("windows", "results")],
    "source_up": [{"stream": "gate"}],
    "source_reconnects_total": [{"stream": "gate", "reason": "error"}],
    "decode_errors_total": [{"stream": "gate"}],
    "last_frame_timestamp_seconds": [{"stream": "gate"}],
    "tracks": [{"stream": "gate", "prompt": "car"}, {"stream": "gate", "prompt": ""}],
    "tracks_started_total": [{}],
    "tracks_ended_total": [{"stream": "gate", "reason": "lost"}],
    "tracks_returned_total": [{}],
    "track_changes_total": [
        {"stream": "gate", "prompt": prompt, "change": change}
        for prompt in ("car", "")
        for change in ("started", "ended", "returned")
    ],
    "track_frames_total": [
        {"stream": "gate", "prompt": "car", "state": state} for state in ("new", "tracked", "occluded")
    ],
    "large_masks_total": [{"stream": "gate", "prompt": "car"}],
    "detections_total": [{"stream": "gate", "prompt": "car"}],
    "publish_bytes_total": [{"stream": "gate", "kind": kind} for kind in ("masks", "frame", "event", "status")],
    "publish_dropped_total": [{"stream": "gate"}],
    "record_errors_total": [{"stream": "gate"}],
    "record_broken": [{"stream": "gate"}],
    "record_segments_total": [{"stream": "gate"}],
    "record_free_bytes": [{"stream": "gate"}],
    "record_seconds_until_full": [{"stream": "gate"}],
    "database_dropped_total": [{}],
    "subscribers": [{}],
    "graph_fallbacks_total": [{}],
    "subscribers_refused_total": [{}],
    "gpu_memory_bytes": [{"kind": "allocated"}],
    "memory_budget_bytes": [{}],
    "track_memory_bytes": [{"stream": "gate"}],
    "governor_step": [{"stream": "gate"}],
    "model_load_seconds": [{"model": model} for model in ("detector", "segmenter", "classifier")],
    "start_seconds": [{"part": part} for part in ("imports", "models", "warm_up", "other")],
}


class Scraped(Site):
    """The server, and what Prometheus reads from it."""

    def scrape(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        families = text_string_to_metric_families(self.ask("GET", "/metrics").body.decode())
        return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


@pytest.fixture
def site() -> Iterator[Scraped]:
    site = Scraped()
    yield site
    site.api.close()


@pytest.mark.parametrize("name", SERIES)
def test_every_series_is_there_at_zero_once_a_stream_is_known(site, name):
    StreamMetrics(site.metrics, "gate", ["car"])
    found = site.scrape()
    for labels in SERIES[name]:
        assert found[f"maskcast_{name}", frozenset(labels.items())] == 0


def test_there_is_no_series_beside_the_public_ones(site):
    StreamMetrics(site.metrics, "gate", ["car"])
    public = {f"maskcast_{name}" for name in SERIES}
    public |= {f"maskcast_{name}_bucket" for name in ("stage_seconds", "frame_latency_seconds")}
    public |= {"maskcast_frame_latency_seconds_sum", "maskcast_last_detection_timestamp_seconds"}
    assert {name for name, _ in site.scrape() if not name.startswith("process_")} == public


def test_the_process_tells_its_memory_and_its_open_files(site):
    found = site.scrape()
    assert found["process_resident_memory_bytes", frozenset()] > 1e6
    assert found["process_open_fds", frozenset()] > 0


def test_a_prompt_without_a_detection_is_dated_from_its_start(site):
    stream = StreamMetrics(site.metrics, "gate", ["car"])
    labels = frozenset({("stream", "gate"), ("prompt", "car")})
    began = site.scrape()["maskcast_last_detection_timestamp_seconds", labels]
    assert abs(began - time.time()) < 60
    stream.count_detections("car", 2)
    found = site.scrape()
    assert found["maskcast_last_detection_timestamp_seconds", labels] > began
    assert found["maskcast_detections_total", labels] == 2


def test_series_of_a_prompt_come_and_go_with_it(site):
    stream = StreamMetrics(site.metrics, "gate", ["car"])
    stream.count_tracks([("car", "tracked", 0.1)])
    stream.set_prompts(["person", "car"])
    stream.set_prompts(["car"])
    stream.count_detections("person", 1)  # late, of a frame from before
    found = site.scrape()
    prompts = {dict(labels)["prompt"] for _, labels in found if "prompt" in dict(labels)}
    assert prompts == {"car", ""}
    assert found["maskcast_tracks", frozenset({("stream", "gate"), ("prompt", "car")})] == 1


def test_object_frames_are_counted_by_state_and_large_masks_apart(site):
    stream = StreamMetrics(site.metrics, "gate", ["car"])
    stream.count_tracks([("car", "tracked", 0.6), ("car", "occluded", 0.0), ("", "new", 0.4)])
    stream.count_tracks([("car", "tracked", 0.5)])
    found = site.scrape()

    def value(name: str, **labels: str) -> float:
        return found[f"maskcast_{name}", frozenset({("stream", "gate"), *labels.items()})]

    assert value("track_frames_total", prompt="car", state="tracked") == 2
    assert value("track_frames_total", prompt="car", state="occluded") == 1
    assert value("track_frames_total", prompt="", state="new") == 1
    assert (value("large_masks_total", prompt="car"), value("large_masks_total", prompt="")) == (1, 0)
    assert (value("tracks", prompt="car"), value("tracks", prompt="")) == (1, 0)


def test_build_info_is_one_and_names_what_runs(site):
    site.metrics.build.labels("1.0", "2.11", "cpu", "software").set(1)
    labels = {"version": "1.0", "torch": "2.11", "device": "cpu", "decoder": "software"}
    assert site.scrape()["maskcast_build_info", frozenset(labels.items())] == 1


def test_series_of_a_stream_go_with_it_and_leave_the_others(site):
    gone, _ = StreamMetrics(site.metrics, "gate", ["car"]), StreamMetrics(site.metrics, "yard", ["car"])
    gone.close()
    streams = {dict(labels).get("stream") for _, labels in site.scrape()}
    assert streams == {None, "yard"}


def test_published_frames_make_a_rate(site):
    stream = StreamMetrics(site.metrics, "gate", ["car"])
    for _ in range(100):
        stream.published(0.1)
    found = site.scrape()
    assert found["maskcast_frames_total", frozenset({("stream", "gate"), ("stage", "published")})] == 100
    assert found["maskcast_fps", frozenset({("stream", "gate")})] >= 10  # all within the last ten seconds


def test_reasons_for_a_track_to_end_stay_bounded(site):
    stream = StreamMetrics(site.metrics, "gate", ["car"])
    for number, reason in enumerate(["lost", "something new", "something newer"]):
        stream.track_event(TrackEvent(TrackChange.ENDED, number, 0, 0, reason), "car")
    found = {dict(k)["reason"]: v for (n, k), v in site.scrape().items() if n == "maskcast_tracks_ended_total"}
    assert (found["lost"], found["other"]) == (1, 2)
    assert "something new" not in found


def test_prompts_that_change_while_a_frame_is_counted_cost_nothing(site):
    gate = StreamMetrics(site.metrics, "gate", ["car"])

    def tracks() -> Iterator[tuple[str, str, float]]:
        yield "car", "tracked", 0.1
        gate.set_prompts(["dog"])
        yield "dog", "tracked", 0.1

    gate.count_tracks(tracks())
    assert site.scrape()["maskcast_tracks", frozenset({("stream", "gate"), ("prompt", "dog")})] == 0


def test_series_of_a_stream_that_is_gone_do_not_come_back_with_its_next_prompts(site):
    gate = StreamMetrics(site.metrics, "gate", ["car"])
    gate.close()
    gate.set_prompts(["dog"])
    assert not [labels for _, labels in site.scrape() if ("stream", "gate") in labels]
