"""Nonsense over HTTP gets one clear line, never a 5xx, and nothing of it reaches the daemon."""

import json
import logging
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daemon.api.schemas import MAX_POINTS, MAX_PROMPTS
from stages.output import rle
from tests.api.site import HEIGHT, WIDTH, Site

STREAMS, PROMPTS, OBJECTS = "/api/streams", "/api/streams/gate/prompts", "/api/streams/gate/objects"
NEW = {"name": "yard", "source": "testsrc://shapes", "prompts": ["person"]}
FULL = WIDTH * HEIGHT
NAN, INF = float("nan"), float("inf")


def mask(counts: Any, size: Any = (HEIGHT, WIDTH)) -> dict[str, Any]:
    return {"mask": {"size": size, "counts": counts}}


REFUSED: list[tuple[str, str, Any, int, str]] = [
    ("POST", STREAMS, {**NEW, "name": "a/b"}, 422, "name must be 1 to 64 letters"),
    ("POST", STREAMS, {**NEW, "name": "../../etc"}, 422, "name must be"),
    ("POST", STREAMS, {**NEW, "name": "x" * 65}, 422, "name must be"),
    ("POST", STREAMS, {**NEW, "name": "yard\n"}, 422, "name must be"),
    ("POST", STREAMS, {**NEW, "name": 7}, 422, "name should be a valid string"),
    ("POST", STREAMS, {**NEW, "source": ""}, 422, "source should have at least 1 character"),
    ("POST", STREAMS, {**NEW, "source": "x" * 5000}, 422, "source should have at most 4096 characters"),
    ("POST", STREAMS, {**NEW, "source": "a\0b"}, 422, "source holds a NUL"),
    ("POST", STREAMS, {**NEW, "source": "rtsp://u:p/w@a/b@cam/1"}, 422, "source is wrong: rtsp://*** is not a valid"),
    ("POST", STREAMS, {**NEW, "source": "rtsp://cam:port/1"}, 422, "the port a number up to 65535"),
    ("POST", STREAMS, {**NEW, "source": "rstp://cam/1"}, 422, "unknown scheme in rstp://cam/***"),
    ("POST", STREAMS, {**NEW, "source": "rtsp://cam/1", "transport": "UDP"}, 422, "transport should be 'auto', 'tcp'"),
    ("POST", STREAMS, {**NEW, "transport": "udp"}, 422, "which only rtsp:// sources have"),
    ("POST", STREAMS, {"name": "yard"}, 422, "source is missing"),
    ("POST", STREAMS, {**NEW, "sauce": 1}, 422, "sauce is not known here"),
    ("POST", STREAMS, {**NEW, "detection": {"evry": 1}}, 422, "detection.evry is not known here"),
    ("POST", STREAMS, {**NEW, "detection": {"every": 0}}, 422, "detection.every should be greater than or equal to 1"),
    ("POST", STREAMS, {**NEW, "detection": {"box_threshold": NAN}}, 422, "detection.box_threshold"),
    ("POST", STREAMS, {**NEW, "publish": {"endpoint": "tcp://*:1"}}, 422, "publish cannot set endpoint for one stream"),
    ("POST", STREAMS, {**NEW, "record": {"dir": "/tmp"}}, 422, "record.dir"),
    ("POST", STREAMS, [1], 422, "the body should be"),
    ("PUT", PROMPTS, {"prompts": ["a" * 10_000]}, 422, "prompts.0 should have at most 1000 characters"),
    ("PUT", PROMPTS, {"prompts": ["🙂🙃"]}, 422, "prompts is wrong: prompt '🙂🙃' names nothing"),
    ("PUT", PROMPTS, {"prompts": ["..."]}, 422, "names nothing"),
    ("PUT", PROMPTS, {"prompts": [f"thing {i}" for i in range(1000)]}, 422, "prompts should have at most 100 items"),
    ("PUT", PROMPTS, {"prompts": [",".join(f"t{i}" for i in range(200))]}, 422, "prompts names 200 things"),
    ("PUT", PROMPTS, {"prompts": "person"}, 422, "prompts should be a valid list"),
    ("PUT", PROMPTS, {"prompts": [None]}, 422, "prompts.0 should be a valid string"),
    ("PUT", PROMPTS, b'{"prompts": ["\\ud800"]}', 422, "prompts.0 should be text"),
    ("POST", OBJECTS, {}, 422, "exactly one of box, points and mask"),
    ("POST", OBJECTS, {"box": None}, 422, "exactly one of"),
    ("POST", OBJECTS, {"box": [1, 1, 2, 2], "points": [{"x": 1, "y": 1}]}, 422, "exactly one of"),
    ("POST", OBJECTS, {"box": [1, 1, 2]}, 422, "box should have at least 4 items"),
    ("POST", OBJECTS, {"box": [1, 1, 2, 2, 3]}, 422, "box should have at most 4 items"),
    ("POST", OBJECTS, {"box": [5, 1, 2, 2]}, 422, "x0 < x1"),
    ("POST", OBJECTS, {"box": [1, 1, 2, NAN]}, 422, "box.3 should be"),
    ("POST", OBJECTS, {"box": [1, 1, 2, INF]}, 422, "box.3 should be"),
    ("POST", OBJECTS, {"box": [1, 1, 2, 1e300]}, 422, "box.3 should be less than or equal to 1000000"),
    ("POST", OBJECTS, b'{"box": [1, 1, 2, 1e999]}', 422, "box.3 should be"),
    ("POST", OBJECTS, b'{"box": [1, 1, 2, ' + b"9" * 4000 + b"]}", 422, "box.3 should be"),
    ("POST", OBJECTS, b'{"box": [1, 1, 2, ' + b"9" * 9000 + b"]}", 400, "not JSON that can be read"),
    ("POST", OBJECTS, {"box": ["1", 1, 2, 2]}, 422, "box.0 should be a valid number"),
    ("POST", OBJECTS, {"box": [True, 1, 2, 2]}, 422, "box.0 should be a valid number"),
    ("POST", OBJECTS, {"box": [-5, 1, 2, 2]}, 422, "outside the picture"),
    ("POST", OBJECTS, {"box": [100, 100, 200, 200]}, 422, "outside the picture"),
    ("POST", OBJECTS, {"box": [0.25, 0.1, 0.75, 1]}, 422, "boxes are in pixels of the picture (32x24), not 0..1"),
    ("POST", OBJECTS, {"box": [0, 0, 1, 1]}, 422, "not 0..1: multiply x by 32 and y by 24"),
    ("POST", OBJECTS, {"box": [3, 4, 3.5, 9]}, 422, "smaller than a pixel of the picture (32x24)"),
    ("POST", OBJECTS, {"points": [{"x": 0.4, "y": 1}]}, 422, "points are in pixels of the picture (32x24), not 0..1"),
    ("POST", OBJECTS, {"points": []}, 422, "points should have at least 1 item"),
    ("POST", OBJECTS, {"points": [{"x": 1, "y": 1}] * (MAX_POINTS + 1)}, 422, "points should have at most 64 items"),
    ("POST", OBJECTS, {"points": [{"x": 1}]}, 422, "points.0.y is missing"),
    ("POST", OBJECTS, {"points": [{"x": 1, "y": 1, "inside": 1}]}, 422, "points.0.inside should be a valid boolean"),
    ("POST", OBJECTS, {"points": [{"x": 999, "y": 1}]}, 422, "outside the picture"),
    ("POST", OBJECTS, {"box": [1, 1, 5, 5], "prompt": "dragon"}, 422, "does not look for that"),
    ("POST", OBJECTS, mask([FULL], [24, 33]), 422, "mask.size is [24, 33], the picture [24, 32]"),
    ("POST", OBJECTS, mask([65536 * 65536], [65536, 65536]), 422, "mask.size is"),
    ("POST", OBJECTS, mask([FULL], [24]), 422, "mask.size should have at least 2 items"),
    ("POST", OBJECTS, mask([FULL], [0, 0]), 422, "mask.size.0 should be greater"),
    ("POST", OBJECTS, mask([FULL]), 422, "the mask has no pixel"),
    ("POST", OBJECTS, mask([]), 422, "mask.counts do not fill 32x24 pixels"),
    ("POST", OBJECTS, mask([FULL - 1]), 422, "mask.counts do not fill"),
    ("POST", OBJECTS, mask([0, FULL + 1]), 422, "mask.counts do not fill"),
    ("POST", OBJECTS, mask([10, -10, FULL]), 422, "mask.counts.1 should be greater than or equal to 0"),
    ("POST", OBJECTS, mask([1.5]), 422, "mask.counts.0 should be a valid integer"),
    ("POST", OBJECTS, mask([2**70]), 422, "mask.counts.0 should be less"),
    ("POST", OBJECTS, mask(""), 422, "mask.counts is not one of COCO's"),
    ("POST", OBJECTS, mask("zzz"), 422, "mask.counts is not one of COCO's"),
    ("POST", OBJECTS, mask("o" * 500_000), 422, "mask.counts is not one of COCO's"),
    ("POST", OBJECTS, mask("0" * 500_000), 422, "mask.counts do not fill"),
    ("POST", OBJECTS, mask({}), 422, "mask.counts should be"),
    ("POST", "/api/streams/gate/objects/1/points", {"points": [{"x": 1, "y": 1}]}, 404, "no track 1"),
    ("POST", "/api/streams/gate/objects/1/points", {"points": [{"x": 0.1, "y": 0.9}]}, 422, "points are in pixels"),
    ("POST", "/api/streams/gate/objects/x/points", {"points": [{"x": 1, "y": 1}]}, 422, "id should be a valid integer"),
    ("POST", OBJECTS, {"points": [{"x": 1, "y": 1}], "frame": -1}, 422, "frame should be greater than or equal to 0"),
    ("POST", OBJECTS, {"points": [{"x": 1, "y": 1}], "session": "x"}, 422, "session"),
    ("DELETE", f"/api/streams/gate/objects/{'9' * 100}", None, 422, "id should be less than or equal to"),
    ("DELETE", "/api/streams/gate/objects/-1", None, 422, "id should be greater than or equal to 0"),
    ("DELETE", "/api/streams/nowhere", None, 404, 'no stream is named "nowhere"; there are: gate'),
    ("GET", "/api/streams/a%2Fb", None, 404, "nothing is at /api/streams/a/b"),
    ("GET", "/api/streams/%ff%00%0a", None, 404, "no stream is named"),
    ("GET", "/api/streams/nowhere/preview.mjpeg", None, 404, "no stream is named"),
    ("GET", "/api/streams/", None, 404, "nothing is at /api/streams/"),
    ("GET", "/web/../../settings.py", None, 404, "nothing is at"),
    ("GET", "/web/%2e%2e/settings.py", None, 404, "nothing is at"),
    ("GET", "/doc", None, 404, "nothing is at /doc;"),
    ("DELETE", "/api/streams", None, 405, "takes GET, HEAD, POST, not DELETE"),
    ("PATCH", "/api/streams/gate", None, 405, "takes DELETE, GET, HEAD, not PATCH"),
    ("POST", "/metrics", {}, 405, "takes GET, HEAD, not POST"),
    ("POST", OBJECTS, b"{", 400, "the body is not JSON"),
    ("POST", OBJECTS, b"\xff\xfe", 400, "the body is not JSON"),
    ("POST", OBJECTS, b"[" * 200_000, 400, "the body is not JSON"),
    ("POST", OBJECTS, b"", 422, "the body is missing"),
    ("POST", OBJECTS, b'{"\\ud800\\n": 1}', 422, "the body should be text"),
    ("POST", OBJECTS, b" " * (1 << 20) + b"{}", 413, "larger than 1048576 bytes"),
    ("POST", OBJECTS, b" " * (7 << 20), 413, "larger than 1048576 bytes"),
]


@pytest.fixture(scope="module")
def full_site():
    with Site() as site:
        site.add()
        yield site


@pytest.mark.parametrize(("method", "path", "body", "status", "line"), REFUSED)
def test_nonsense_is_refused_in_one_line_that_names_it(full_site, method, path, body, status, line):
    before = full_site.control.streams, full_site.control.objects.copy()
    answer = full_site.ask(method, path, body)
    assert (answer.status, answer.error) == (status, answer.error)
    assert line in answer.error
    assert len(answer.error) < 400
    assert (full_site.control.streams, full_site.control.objects) == before
    if status == 405:
        assert answer.headers["allow"] in answer.error


def test_prompts_may_be_many_and_long_within_bounds(site):
    prompts = [f"thing number {i} " + "x" * 900 for i in range(MAX_PROMPTS)]
    assert site.ask("PUT", PROMPTS, {"prompts": prompts}).json["prompts"] == prompts


def test_before_the_first_picture_an_object_is_a_conflict(site):
    site.control._change("gate", frame=None, width=0, height=0)
    for body in ({"box": [1, 1, 5, 5]}, {"points": [{"x": 1, "y": 1}]}, mask([0, 1])):
        answer = site.ask("POST", OBJECTS, body)
        assert (answer.status, site.control.objects) == (409, [])
        assert "no picture yet" in answer.error


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(
    counts=st.one_of(
        st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=60),
        st.from_regex(r"^([P-o]{0,6}[0-O])+$", fullmatch=True),
        st.lists(st.integers(-(2**40), 2**40), max_size=20),
        st.lists(st.integers(0, FULL), max_size=20).map(lambda runs: [*runs, max(0, FULL - sum(runs))]),
    )
)
def test_whatever_a_masks_counts_are_it_is_taken_whole_or_refused(full_site, counts):
    answer = full_site.ask("POST", OBJECTS, mask(counts))
    if answer.status == 201:
        taken = full_site.control.objects[-1][1]
        assert taken.shape == (HEIGHT, WIDTH)
        np.testing.assert_array_equal(taken, rle.decode({"size": [HEIGHT, WIDTH], "counts": counts}))
    else:
        assert answer.status == 422
        assert answer.error.startswith(("mask.counts", "add: the mask has no pixel"))


def test_a_damaged_mask_is_taken_whole_or_refused(full_site):
    """One character of a good code is changed, left out or doubled: what pycocotools may read beyond its end for."""
    chance = random.Random(3)
    code = rle.encode(np.random.default_rng(3).random((HEIGHT, WIDTH)) > 0.5)["counts"]
    statuses = set()
    for _ in range(200):
        at = chance.randrange(len(code))
        damaged = code[:at] + chance.choice(["", code[at] * 2, chr(chance.randrange(33, 127))]) + code[at + 1 :]
        statuses.add(full_site.ask("POST", OBJECTS, mask(damaged)).status)
    assert statuses <= {201, 422}
    assert 422 in statuses


@pytest.mark.parametrize(
    "body",
    [
        {**NEW, "source": "rtsp://user:hunter2@camera/1"},
        {**NEW, "name": "gate", "source": "rtsp://user:hunter2@camera/1"},
        {**NEW, "name": "a/b", "source": "rtsp://user:hunter2@camera/1"},
        {**NEW, "source": ["rtsp://user:hunter2@camera/1"]},
        {**NEW, "source": "rtsp://user:hunter2@camera/1" + "x" * 5000},
        {**NEW, "source": "rtsp://user:hunter2@camera/1\0"},
        "rtsp://user:hunter2@camera/1",
        ["rtsp://user:hunter2@camera/1"],
        {**NEW, "detection": "rtsp://user:hunter2@camera/1"},
        b'{"name": "yard", "source": "rtsp://user:hunter2@camera/1',
    ],
)
def test_a_sources_password_comes_back_in_no_answer_and_no_log(site, body, caplog):
    with caplog.at_level(logging.DEBUG):
        answers = [site.ask("POST", STREAMS, body), site.ask("GET", STREAMS)]
        assert answers[0].status in (201, 400, 409, 422)
    assert not any(b"hunter2" in answer.body for answer in answers)
    assert "hunter2" not in caplog.text
    assert "hunter2" not in repr(site.control.added)


def test_a_mistake_of_ours_is_one_line_and_its_password_stays_out_of_the_log(site, caplog):
    def fail() -> None:
        raise RuntimeError("rtsp://user:hunter2@camera/1")

    site.control.before = fail
    answer = site.ask("GET", STREAMS)
    assert (answer.status, json.loads(answer.body).keys()) == (500, {"error"})
    assert "http: GET /api/streams: RuntimeError" in caplog.text
    assert "hunter2" not in caplog.text + answer.body.decode()
