"""Metrics as Prometheus sees them: over real HTTP."""

from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from stages.types import TrackChange, TrackEvent
from tests.site import Site

DROPS = ("source", "engine_busy", "writer_busy", "error")
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
    "tracks": [{"stream": "gate", "prompt": "car"}],
    "tracks_started_total": [{}],
    "tracks_ended_total": [{"stream": "gate", "reason": "lost"}],
    "tracks_returned_total": [{}],
    "detections_total": [{"stream": "gate", "prompt": "car"}],
    "publish_bytes_total": [{"stream": "gate", "kind": kind} for kind in ("masks", "frame", "event", "status")],
    "publish_dropped_total": [{"stream": "gate"}],
    "record_errors_total": [{"stream": "gate"}],
    "subscribers": [{}],
    "gpu_memory_bytes": [{"kind": "allocated"}],
    "track_memory_bytes": [{"stream": "gate"}],
    "governor_step": [{"stream": "gate"}],
    "model_load_seconds": [{"model": model} for model in ("detector", "segmenter", "classifier")],
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
    site.metrics.stream("gate", ["car"])
    found = site.scrape()
    for labels in SERIES[name]:
        assert found[f"maskcast_{name}", frozenset(labels.items())] == 0


def test_there_is_no_series_beside_the_public_ones(site):
    site.metrics.stream("gate", ["car"])
    public = {f"maskcast_{name}" for name in SERIES}
    public |= {f"maskcast_{name}_bucket" for name in ("stage_seconds", "frame_latency_seconds")}
    public |= {"maskcast_frame_latency_seconds_sum"}
    assert {name for name, _ in site.scrape()} == public


def test_build_info_is_one_and_names_what_runs(site):
    site.metrics.build.labels("1.0", "2.11", "cpu", "software").set(1)
    labels = {"version": "1.0", "torch": "2.11", "device": "cpu", "decoder": "software"}
    assert site.scrape()["maskcast_build_info", frozenset(labels.items())] == 1


def test_series_of_a_stream_go_with_it_and_leave_the_others(site):
    gone, _ = site.metrics.stream("gate", ["car"]), site.metrics.stream("yard", ["car"])
    gone.close()
    streams = {dict(labels).get("stream") for _, labels in site.scrape()}
    assert streams == {None, "yard"}


def test_published_frames_make_a_rate(site):
    stream = site.metrics.stream("gate", ["car"])
    for _ in range(100):
        stream.published(0.1)
    found = site.scrape()
    assert found["maskcast_frames_total", frozenset({("stream", "gate"), ("stage", "published")})] == 100
    assert found["maskcast_fps", frozenset({("stream", "gate")})] >= 10  # all within the last ten seconds


def test_reasons_for_a_track_to_end_stay_bounded(site):
    stream = site.metrics.stream("gate", ["car"])
    for number, reason in enumerate(["lost", "something new", "something newer"]):
        stream.track_event(TrackEvent(TrackChange.ENDED, number, 0, 0, reason))
    found = {dict(k)["reason"]: v for (n, k), v in site.scrape().items() if n == "maskcast_tracks_ended_total"}
    assert (found["lost"], found["other"]) == (1, 2)
    assert "something new" not in found
