"""Pictures over HTTP: who watches, who only seems to, and how it ends."""

import json
import threading
import time
import urllib.request
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
import torch

from daemon.api import server
from daemon.api.routes.preview import MAX_VIEWERS
from daemon.sinks.preview import PAUSE, Picture, Preview
from daemon.sinks.sink import FrameOutput, Need
from stages.output import wire
from stages.output.annotate import encode_jpeg
from stages.output.masks import full_masks
from stages.types import Clock, Frame, Result
from tests.api.site import PREVIEW, Site
from tests.support.program import PATIENCE, wait_until


@pytest.fixture
def preview(site):
    preview = site.control.previews["gate"] = Preview()
    return preview


def test_a_video_player_reads_the_preview(site, preview):
    """FFmpeg takes the parts apart and decodes the pictures."""
    stop = threading.Event()

    def play() -> None:
        for number in range(10_000):
            if stop.wait(0.01):
                break
            preview.annotated.show(Picture(encode_jpeg(np.full((48, 64, 3), number % 2 * 255, np.uint8), 90)))

    player = threading.Thread(target=play)
    player.start()
    try:
        with av.open(site.api.url + PREVIEW, format="mpjpeg") as video:
            pictures = [
                frame.to_ndarray(format="rgb24") for frame, _ in zip(video.decode(video=0), range(20), strict=False)
            ]
    finally:
        stop.set()
        player.join()
    assert {picture.shape for picture in pictures} == {(48, 64, 3)}
    assert {round(picture.mean() / 255) for picture in pictures} == {0, 1}


def test_a_preview_ends_with_its_stream(site, preview):
    with site.watch() as client:
        wait_until(lambda: preview.need() is Need.JPEG)
        preview.annotated.show(Picture(b"\xff\xd8 one \xff\xd9", 12, "5d0c"))
        preview.finish()
        client.settimeout(PATIENCE)
        received = b"".join(iter(lambda: client.recv(65536), b""))
    head = b"Content-Type: image/jpeg\r\nContent-Length: 9\r\nX-Frame: 12\r\nX-Session: 5d0c\r\n\r\n"
    assert head + b"\xff\xd8 one \xff\xd9\r\n--frame" in received


def test_pictures_are_asked_for_only_while_somebody_watches(site, preview):
    assert site.ask("HEAD", PREVIEW).status == 200
    assert preview.need() is Need.NOTHING
    client = site.watch()
    wait_until(lambda: preview.need() is Need.JPEG)
    client.close()
    wait_until(lambda: preview.need() is Need.NOTHING)


def output(index: int) -> FrameOutput:
    """A grey frame, whose annotated picture is white."""
    frame = Frame(index, index, Fraction(1, 10), index / 10, Clock.FILE, np.full((48, 64, 3), 100, np.uint8))
    result = Result(frame, 0, False, (), torch.zeros(0, 12, 16), ())
    masks = full_masks(result)
    header = wire.masks_header(result, masks, stream="gate", session="5d0c", seq=9, prompts=(), published_at=0.0)
    white = np.full((48, 64, 3), 255, np.uint8)
    return FrameOutput(result, header, masks, white, encode_jpeg(white))


def test_plain_pictures_come_each_after_the_masks_of_its_frame_and_are_made_only_for_who_asks(site, preview):
    with site.watch():
        wait_until(lambda: preview.need() is Need.JPEG)
        preview.frame(output(6))
    assert preview.plain.next(0, 0) is None
    wait_until(lambda: preview.need() is Need.NOTHING)
    with urllib.request.urlopen(f"{site.api.url}{PREVIEW}?plain=1", timeout=PATIENCE) as reading:
        wait_until(preview.plain.due)
        assert preview.need() is Need.NOTHING  # nothing is drawn
        preview.frame(output(7))
        preview.finish()
        _, masks, picture, end = reading.read().split(b"--frame")
    assert end == b"--\r\n"
    for part, kind in ((masks, b"application/json"), (picture, b"image/jpeg")):
        assert part.startswith(b"\r\nContent-Type: %b\r\n" % kind)
        assert b"\r\nX-Frame: 7\r\nX-Session: 5d0c\r\n\r\n" in part
    assert json.loads(masks.partition(b"\r\n\r\n")[2]) == output(7).header
    pixels = cv2.imdecode(np.frombuffer(picture.partition(b"\r\n\r\n")[2], np.uint8), cv2.IMREAD_COLOR)
    assert abs(pixels.astype(int) - 100).max() < 3


def test_what_is_not_yes_or_no_is_refused_in_a_line(site, preview):
    answer = site.ask("GET", f"{PREVIEW}?plain=maybe")
    assert (answer.status, answer.error) == (422, "plain should be a valid boolean, unable to interpret input")


def test_more_watchers_than_there_is_room_for_are_told_to_come_back(site, preview):
    crowd = []
    for _ in range(MAX_VIEWERS):
        crowd.append(site.watch())
        assert crowd[-1].recv(12) == b"HTTP/1.1 200"
    answer = site.ask("GET", PREVIEW)
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert site.ask("GET", "/api/streams").status == 200
    crowd.pop().close()
    wait_until(lambda: b"200" in site.watch().recv(12))
    for client in crowd:
        client.close()


def test_a_watcher_that_does_not_read_holds_up_nobody(site, preview):
    with site.watch():
        wait_until(lambda: preview.need() is Need.JPEG)
        with urllib.request.urlopen(site.api.url + PREVIEW, timeout=PATIENCE) as reading:
            for number in range(40):
                picture = b"\xff\xd8" + bytes([number]) * 200_000 + b"\xff\xd9"
                preview.annotated.show(Picture(picture))
                received = b""
                while picture not in received:
                    received += reading.read1(1 << 20)
    assert site.ask("GET", "/healthz").status == 200


def test_a_watcher_that_never_reads_is_cut_off(monkeypatch):
    monkeypatch.setattr(server, "SEND_TIMEOUT_MS", 1000)
    with Site() as site:
        site.add()
        preview = site.control.previews["gate"] = Preview()
        with site.watch():
            wait_until(lambda: preview.need() is Need.JPEG)

            def gone() -> bool:
                preview.annotated.show(Picture(b"x" * 1_000_000))
                time.sleep(2 * PAUSE)
                return preview.need() is Need.NOTHING

            wait_until(gone)


def test_closing_ends_previews_and_half_requests_and_frees_the_port(preview, site):
    """Within the second that answers under way have, however long those would still take."""
    with site.watch() as watching, site.say(b"GET / HT") as half:
        wait_until(lambda: preview.need() is Need.JPEG)
        closing = threading.Thread(target=site.close)
        closing.start()
        closing.join(PATIENCE)
        assert not closing.is_alive()
        while watching.recv(65536):
            pass
        assert half.recv(10) == b""
    with Site(listen=f"127.0.0.1:{site.port}") as again:
        assert again.ask("GET", "/healthz").status == 200


def test_closing_does_not_wait_for_the_engine(site):
    go_on = threading.Event()
    site.control.before = lambda: go_on.wait(PATIENCE)
    with site.say(b"GET /api/streams HTTP/1.1\r\nHost: localhost\r\n\r\n"):
        wait_until(lambda: any("AnyIO" in t.name for t in threading.enumerate()))
        closing = threading.Thread(target=site.close)
        closing.start()
        closing.join(PATIENCE)
        assert not closing.is_alive()
        go_on.set()


@pytest.mark.parametrize("plain", [False, True])
def test_the_newest_picture_is_one_that_comes_after_it_was_asked_for(site, preview, plain):
    """Not the one that somebody watched an hour ago; it is made for the one who asks."""
    feed = preview.feed(plain)
    feed.show(Picture(b"\xff\xd8 old \xff\xd9", 1, "5d0c"))

    def make() -> None:
        wait_until(feed.due)
        feed.show(Picture(b"\xff\xd8 new \xff\xd9", 2, "5d0c"))

    maker = threading.Thread(target=make)
    maker.start()
    answer = site.ask("GET", f"/api/streams/gate/frame.jpg?plain={int(plain)}")
    maker.join()
    assert (answer.status, answer.body) == (200, b"\xff\xd8 new \xff\xd9")
    found = [answer.headers[name] for name in ("content-type", "x-frame", "x-session")]
    assert found == ["image/jpeg", "2", "5d0c"]
    assert not feed.due()


def test_of_a_stream_that_has_ended_the_last_picture_is_the_newest(site, preview):
    preview.annotated.show(Picture(b"\xff\xd8 last \xff\xd9", 9, "5d0c"))
    preview.finish()
    assert site.ask("GET", "/api/streams/gate/frame.jpg").body == b"\xff\xd8 last \xff\xd9"


def test_where_no_picture_comes_none_is_shown(site, preview, monkeypatch):
    monkeypatch.setattr("daemon.api.routes.preview.PATIENCE", 0.1)
    answer = site.ask("GET", "/api/streams/gate/frame.jpg")
    assert (answer.status, answer.error) == (409, 'no picture of stream "gate" has come; look whether it is up')
