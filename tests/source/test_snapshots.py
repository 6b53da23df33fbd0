"""Snapshots: a camera's address that gives one picture at each request, over real HTTP."""

import base64
import hashlib
import re
import socket
import threading
import time
import traceback
from itertools import islice

import cv2
import pytest

from stages.errors import SourceError, SourceStalled
from stages.source.ffmpeg import MediaSource
from stages.source.patience import Timeouts
from stages.source.source import open_source
from stages.source.stills import snapshots
from stages.types import Clock
from tests.support.media import http_server, numbered, numbers

FAST = 50.0  # requests per second
SHORT = Timeouts(open=0.5, first=0.5, read=0.5)
OPENING = 2  # requests that opening makes: FFmpeg's, and one to see whether an answer is a single picture


def jpeg(image):
    return cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


PICTURES = [jpeg(image) for image in numbered(40)]


def reply(request, body, status=200, kind="image/jpeg", length=None, **headers):
    request.send_response(status)
    request.send_header("Content-Type", kind)
    request.send_header("Content-Length", str(len(body) if length is None else length))
    for name, value in headers.items():
        request.send_header(name.replace("_", "-"), value)
    request.end_headers()
    request.wfile.write(body)


class Camera:
    """Answers the n-th request after opening with the n-th of ``answers``, functions of the request; then in turn."""

    def __init__(self, *answers):
        self.answers, self.asked, self.paths, self.connections = answers, -OPENING, [], set()
        self._lock = threading.Lock()

    def __call__(self, request):
        with self._lock:
            number, self.asked = self.asked, self.asked + 1
            self.paths.append(request.path)
            self.connections.add(request.client_address)
        if number < 0:
            reply(request, PICTURES[39])
        else:
            self.answers[number % len(self.answers)](request)


def picture(number, **how):
    return lambda request: reply(request, PICTURES[number], **how)


def hang_up(request):
    request.connection.shutdown(socket.SHUT_RDWR)
    request.close_connection = True


def read(url, count, rate=FAST, timeouts=None):
    source = open_source(url, timeouts=timeouts, max_fps=rate)
    frames = list(islice(source.frames(), count))
    source.close()
    return source, frames


def test_each_request_is_a_frame_of_a_live_source_with_the_time_of_its_arrival():
    camera, before = Camera(*(picture(number) for number in range(8))), time.time()
    with http_server(camera) as place:
        source, frames = read(f"http://{place}/cgi-bin/snap.jpg?channel=1&size=2", 8)
    assert (source.live, source.rate, source.frames_expected, source.decode_errors) == (True, FAST, None, 0)
    assert numbers(frames) == list(range(8))
    assert [(frame.index, frame.dropped_before) for frame in frames] == [(number, 0) for number in range(8)]
    assert {frame.clock for frame in frames} == {Clock.ARRIVAL}
    times = [frame.captured_at for frame in frames]
    assert before <= times[0]
    assert times == sorted(times)
    assert times[-1] <= time.time()
    assert set(camera.paths) == {"/cgi-bin/snap.jpg?channel=1&size=2"}


def test_one_connection_serves_all_requests():
    camera = Camera(*(picture(number) for number in range(8)))
    with http_server(camera) as place:
        read(f"http://{place}/snap.jpg", 8)
    assert len(camera.connections) == 2  # FFmpeg's, and one for all that follow


def test_no_more_pictures_are_requested_than_the_rate_says():
    asked = []

    def answer(request):
        asked.append(time.monotonic())
        reply(request, PICTURES[len(asked) % 40])

    with http_server(answer) as place:
        read(f"http://{place}/snap.jpg", 5, rate=20)
    assert asked[-1] - asked[OPENING] >= 3.9 / 20


def test_without_a_rate_it_is_one_picture_a_second():
    with http_server(Camera(picture(0))) as place:
        assert open_source(f"http://{place}/snap.jpg").rate == 1


@pytest.mark.parametrize(
    "failure",
    [
        lambda request: reply(request, b"<html>please wait</html>", kind="text/html"),
        lambda request: reply(request, b"<ResponseStatus>Device Busy</ResponseStatus>", 503, "application/xml"),
        lambda request: reply(request, b""),
        lambda request: reply(request, PICTURES[7][: len(PICTURES[7]) // 2]),
        lambda request: reply(request, PICTURES[7][:-200], length=len(PICTURES[7])) or hang_up(request),
        lambda request: request.send_error(404),
        lambda request: time.sleep(1.5),
    ],
    ids=["a web page", "busy", "empty", "cut off", "broken off", "not found", "silent"],
)
def test_two_requests_in_a_row_may_fail_and_count_as_decode_errors(failure):
    def fails(request):
        request.close_connection = True
        failure(request)

    with http_server(Camera(picture(0), fails, fails, picture(1), fails, picture(2))) as place:
        source, frames = read(f"http://{place}/snap.jpg", 3, timeouts=SHORT)
    assert numbers(frames) == [0, 1, 2]
    assert [frame.dropped_before for frame in frames] == [0, 2, 1]
    assert [frame.index for frame in frames] == [0, 3, 5]
    assert source.decode_errors == 3


def test_a_connection_that_the_camera_closed_unannounced_is_opened_again_at_once():
    """As it does when it was idle for long. Only a request that fails a second time is a failure."""
    with http_server(Camera(picture(0), hang_up, picture(1), hang_up, hang_up, picture(2))) as place:
        source, frames = read(f"http://{place}/snap.jpg", 3)
    assert numbers(frames) == [0, 1, 2]
    assert [frame.dropped_before for frame in frames] == [0, 0, 1]
    assert source.decode_errors == 1


@pytest.mark.parametrize(
    ("failure", "kind", "message"),
    [
        (
            lambda request: reply(request, b"<html></html>", kind="text/html"),
            SourceError,
            "it sent text/html: not a picture",
        ),
        (lambda request: reply(request, b"busy", 503), SourceError, "it answered with status 503"),
        (lambda request: reply(request, b""), SourceError, "it sent an empty answer"),
        (lambda request: request.send_error(404), SourceError, "the server does not have it; check the path"),
        (lambda request: time.sleep(1.5), SourceStalled, "no answer in time"),
        (hang_up, SourceError, "the connection failed; check host and port"),
        (lambda request: reply(request, b"--x", kind="multipart/x-mixed-replace"), SourceError, "a stream now"),
    ],
)
def test_the_third_failure_in_a_row_ends_the_source_with_the_reason_and_without_secrets(failure, kind, message):
    camera = Camera(picture(0), *[failure] * 6)
    with http_server(camera) as place:
        source = open_source(f"http://user:hush@{place}/hush.jpg?key=hush", timeouts=SHORT, max_fps=FAST)
        frames = source.frames()
        next(frames)
        with pytest.raises(kind, match=message) as caught:
            next(frames)
    assert place in str(caught.value)
    assert "hush" not in "".join(traceback.format_exception(caught.value))


def test_a_length_that_is_announced_too_large_costs_nothing_when_the_picture_is_whole():
    def answer(request):
        request.close_connection = True
        reply(request, PICTURES[3], length=len(PICTURES[3]) + 48)

    with http_server(Camera(picture(2), answer, picture(4))) as place:
        source, frames = read(f"http://{place}/snap.jpg", 3)
    assert numbers(frames) == [2, 3, 4]
    assert source.decode_errors == 0


def test_a_picture_that_did_not_change_is_left_out_but_for_one_in_a_while(monkeypatch):
    monkeypatch.setattr(snapshots, "_REPEAT_SECONDS", 0.5)
    camera = Camera(*[picture(5)] * 200)
    with http_server(camera) as place:
        _, frames = read(f"http://{place}/snap.jpg", 3)
    assert numbers(frames) == [5, 5, 5]
    assert [(frame.index, frame.dropped_before) for frame in frames] == [(0, 0), (1, 0), (2, 0)]
    assert camera.asked > 3
    assert frames[2].captured_at - frames[0].captured_at >= 1


def test_the_picture_may_change_its_size_and_is_turned_as_its_exif_says():
    turned = (
        PICTURES[1][:2] + b"\xff\xe1\x00\x22Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    )
    turned += PICTURES[1][2:]
    larger = jpeg(numbered(3, 128, 96)[2])
    answers = (picture(0), lambda request: reply(request, turned), lambda request: reply(request, larger))
    with http_server(Camera(*answers)) as place:
        _, frames = read(f"http://{place}/snap.jpg", 3)
    assert [frame.image.shape[:2] for frame in frames] == [(48, 64), (64, 48), (96, 128)]
    assert numbers(frames) == [0, 1, 2]


def basic(request):
    given = base64.b64decode(request.headers.get("Authorization", "Basic ").removeprefix("Basic "))
    return given == b"user:p\xc3\xa4ss", 'Basic realm="camera"'


def digest(request):
    def md5(*parts):
        return hashlib.md5(":".join(parts).encode()).hexdigest()

    given = dict(re.findall(r'(\w+)="?([^",]*)', request.headers.get("Authorization", "")))
    wanted = md5(
        md5("user", "camera", "päss"), "n0nce", given.get("nc", ""), given.get("cnonce", ""), "auth",
        md5("GET", request.path),
    )  # fmt: skip
    return given.get("response") == wanted, 'Digest realm="camera", nonce="n0nce", qop="auth", algorithm=MD5'


@pytest.mark.parametrize("allowed", [basic, digest])
def test_user_and_password_are_given_in_the_way_that_the_camera_asks_for(allowed):
    shown = []

    def answer(request):
        allow, challenge = allowed(request)
        if allow:
            shown.append(request.path)
            reply(request, PICTURES[len(shown) % 40])
        else:
            reply(request, b"", 401, WWW_Authenticate=challenge)

    with http_server(answer) as place:
        _, frames = read(f"http://user:p%C3%A4ss@{place}/picture?a=1", 5)
        assert numbers(frames) == [3, 4, 5, 6, 7]
        assert set(shown) == {"/picture?a=1"}


def test_a_password_that_is_refused_later_is_not_tried_again():
    asked = []

    def answer(request):
        asked.append(request)
        reply(request, PICTURES[len(asked)], 200 if len(asked) < 5 else 403)

    with http_server(answer) as place, pytest.raises(SourceError, match="access denied; check user and password"):
        list(open_source(f"http://user:secret@{place}/snap.jpg", max_fps=FAST).frames())
    assert len(asked) == 5


def test_closing_wakes_a_source_that_waits_for_its_next_request():
    with http_server(Camera(picture(0))) as place:
        source = open_source(f"http://{place}/snap.jpg", max_fps=0.001)
        frames = source.frames()
        next(frames)
        threading.Timer(0.1, source.close).start()
        assert list(frames) == []


def test_pictures_that_follow_each_other_in_one_answer_are_a_stream():
    """Some cameras send JPEGs without any separator."""

    def answer(request):
        request.send_response(200)
        request.send_header("Content-Type", "video/x-motion-jpeg")
        request.send_header("Connection", "close")
        request.end_headers()
        for number in range(30):
            request.wfile.write(PICTURES[number])

    with http_server(answer) as place:
        source = open_source(f"http://{place}/video")
        assert isinstance(source, MediaSource)
        assert source.live
        assert numbers(islice(source.frames(), 20)) == list(range(20))
        source.close()
