"""What HTTP does to the daemon, over real sockets."""

import json
from dataclasses import fields

import numpy as np
import pycocotools.mask
import pytest

from daemon.api.control import SeenFrame, StreamView
from daemon.api.schemas import Stream, Track
from daemon.settings.schema import Detection, Settings
from daemon.stream.snapshot import TrackAges
from stages.errors import OutputError
from stages.output import rle
from tests.api.site import HEIGHT, SESSION, WIDTH, Site
from tests.golden.make import FOLDER as VECTORS
from tests.support.program import wait_until


def test_the_daemon_is_alive_before_it_is_ready():
    with Site() as site:
        site.control.reason = "the models are being loaded"
        assert (site.ask("GET", "/healthz").status, site.ask("GET", "/readyz").status) == (200, 503)
        assert site.ask("GET", "/readyz").body == b"the models are being loaded\n"
        site.control.reason = None
        assert site.ask("GET", "/readyz").body == b"ready\n"


def test_metrics_come_as_the_scraper_asks(site):
    plain, zipped = site.ask("GET", "/metrics"), site.ask("GET", "/metrics", Accept_Encoding="gzip")
    assert plain.headers["content-type"].startswith("text/plain; version=")
    assert zipped.headers["content-encoding"] == "gzip"
    assert len(zipped.body) < len(plain.body)
    modern = site.ask("GET", "/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert modern.headers["content-type"].startswith("application/openmetrics-text")
    assert modern.body.endswith(b"# EOF\n")
    assert b"maskcast_fps" not in site.ask("GET", "/metrics?name[]=maskcast_subscribers").body


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz", "/", "/api/streams", "/api/streams/gate"])
def test_head_answers_the_headers_of_get(site, path):
    def same_headers() -> bool:
        head, get = site.ask("HEAD", path), site.ask("GET", path)
        assert (head.status, head.body) == (get.status, b"")
        return {**head.headers, "date": ""} == {**get.headers, "date": ""}

    wait_until(same_headers)  # the length of the metrics changes, for instance with the seconds of CPU time


def test_every_field_of_a_stream_and_a_track_is_shown():
    assert list(Stream.model_fields) == [field.name for field in fields(StreamView)]
    header = json.loads((VECTORS / "masks-even-rle" / "header.json").read_bytes())
    assert Track.model_fields.keys() == TrackAges().snapshot(header).tracks[0].keys()


def test_a_stream_is_started_as_in_the_configuration_and_its_tables_stay_partial(site):
    asked = {"name": "yard", "source": "rtsp://camera/1", "prompts": ["person"], "detection": {"every": 10}}
    answer = site.ask("POST", "/api/streams", asked)
    assert (answer.status, answer.json["name"], answer.json["prompts"]) == (201, "yard", ["person"])
    [_, new] = site.control.added
    own = new.resolved(Settings(detection=Detection(box_threshold=0.5)))
    assert (new.source, own.detection.every, own.detection.box_threshold) == ("rtsp://camera/1", 10, 0.5)
    assert [stream["name"] for stream in site.ask("GET", "/api/streams").json["streams"]] == ["gate", "yard"]


def test_a_stream_shows_what_it_is_doing(site):
    answer = site.ask("GET", "/api/streams/gate")
    assert answer.json["latency"] == [0.1, 0.2]
    assert (answer.json["width"], answer.json["height"], answer.json["tracks"]) == (WIDTH, HEIGHT, [])


def test_a_name_that_is_taken_is_a_conflict(site):
    answer = site.ask("POST", "/api/streams", {"name": "gate", "source": "x.mp4", "prompts": ["person"]})
    assert (answer.status, len(site.control.added)) == (409, 1)
    assert "already" in answer.error


def test_a_stream_is_ended(site):
    assert site.ask("DELETE", "/api/streams/gate").status == 204
    assert site.ask("GET", "/api/streams/gate").status == 404


def test_prompts_are_replaced_as_written(site):
    answer = site.ask("PUT", "/api/streams/gate/prompts", {"prompts": ["Red Circle", "bus, car"]})
    assert (answer.status, answer.json["prompts"]) == (200, ["Red Circle", "bus", "car"])


def test_changes_are_shown_and_taken_back(site):
    """Of one stream, or all."""
    site.add("yard")
    shown = site.ask("GET", "/api/changes").json
    first = {"stream": "gate", "what": "added", "file": None, "present": {"prompts": []}}
    assert (shown["kept"], shown["problem"], shown["changes"][0]) == (True, "", first)
    assert site.ask("DELETE", "/api/changes/gate").status == 204
    assert [change["stream"] for change in site.ask("GET", "/api/changes").json["changes"]] == ["yard"]
    assert site.ask("DELETE", "/api/changes/roof").status == 404
    assert site.ask("DELETE", "/api/changes").status == 204
    assert site.ask("GET", "/api/changes").json["changes"] == []


def test_the_configuration_is_read_again_and_a_broken_one_is_refused_with_the_reason(site):
    done = {"added": ["yard"], "removed": [], "changed": ["gate"], "restart": ["models.detector"]}
    done["failed"] = {"roof": "no room"}
    assert site.ask("POST", "/api/reload").json == done
    site.control.broken = "maskcast.toml:3: not valid TOML"
    refused = site.ask("POST", "/api/reload")
    assert (refused.status, refused.error) == (422, "maskcast.toml:3: not valid TOML")


def test_an_object_is_added_by_a_box_corrected_by_points_and_removed(site):
    answer = site.ask("POST", "/api/streams/gate/objects", {"box": [1, 2.5, 30, 20], "prompt": "red circle"})
    assert answer.status == 201
    track = answer.json["id"]
    assert site.control.objects[0][1].tolist() == [1, 2.5, 30, 20]
    points = {"points": [{"x": 3, "y": 4}, {"x": 5.5, "y": 6, "inside": False}]}
    assert site.ask("POST", f"/api/streams/gate/objects/{track}/points", points).status == 204
    [(places, labels)] = site.control.points
    assert (places.tolist(), labels.tolist()) == ([[3, 4], [5.5, 6]], [1, 0])
    assert site.ask("DELETE", f"/api/streams/gate/objects/{track}").status == 204
    assert site.ask("DELETE", f"/api/streams/gate/objects/{track}").status == 404


def test_an_object_is_added_by_points(site):
    assert site.ask("POST", "/api/streams/gate/objects", {"points": [{"x": 3, "y": 4, "inside": True}]}).status == 201
    places, labels = site.control.objects[0][1]
    assert (places.tolist(), labels.tolist()) == ([[3, 4]], [1])


def test_a_prompt_may_name_the_frame_that_was_seen_and_points_on_a_track_there_select_it(site):
    point = {"points": [{"x": 3, "y": 4}]}
    added = site.ask("POST", "/api/streams/gate/objects", point | {"frame": 3, "session": SESSION})
    found = site.ask("POST", "/api/streams/gate/objects", point | {"frame": 4})
    assert (added.status, found.status, found.json) == (201, 200, added.json)
    track = f"/api/streams/gate/objects/{added.json['id']}/points"
    assert site.ask("POST", track, point | {"frame": 5}).status == 204
    assert site.ask("POST", track, point).status == 204
    assert site.control.seen == [SeenFrame(3, SESSION), SeenFrame(4), SeenFrame(5), SeenFrame()]


@pytest.mark.parametrize("encode", [rle.encode, lambda mask: rle.encode(mask, "counts")])
def test_an_object_is_added_by_a_mask_in_either_kind_of_run_lengths(site, encode):
    mask = np.random.default_rng(1).random((HEIGHT, WIDTH)) > 0.5
    assert site.ask("POST", "/api/streams/gate/objects", {"mask": encode(mask)}).status == 201
    np.testing.assert_array_equal(site.control.objects[0][1], mask)


def test_a_mask_that_pycocotools_wrote_is_taken_as_it_is(site):
    mask = np.random.default_rng(2).random((HEIGHT, WIDTH)) > 0.5
    code = pycocotools.mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    body = {"mask": {"size": code["size"], "counts": code["counts"].decode()}}
    assert site.ask("POST", "/api/streams/gate/objects", body).status == 201
    np.testing.assert_array_equal(site.control.objects[0][1], mask)


def test_browsers_are_told_to_load_nothing_foreign_and_to_keep_nothing(site):
    for path in ("/", "/api/streams", "/api/streams/gate/preview.mjpeg", "/nothing"):
        headers = site.ask("GET", path).headers
        assert "default-src 'self'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == ("no-cache" if path == "/" else "no-store")


def test_ipv6_is_served_as_well():
    with Site(listen="[::1]:0") as site:
        assert site.api.url.startswith("http://[::1]:")
        assert site.ask("GET", "/api/streams").status == 200


def test_a_taken_port_is_one_line_that_names_the_setting(site):
    with pytest.raises(OutputError, match=r"http\.listen 127\.0\.0\.1:\d+: address already in use; choose another"):
        Site(listen=site.api.url.removeprefix("http://"))
