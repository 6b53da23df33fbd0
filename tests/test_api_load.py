"""Many clients, slow clients and clients that stay: metrics, health and the others go on."""

import asyncio
import re
import select
import socket
import threading
import time
import urllib.request
from collections import Counter
from contextlib import suppress

import av
import numpy as np
import pytest

from daemon.api import connections, limits
from daemon.api.preview import MOST
from daemon.preview import Preview
from stages.annotate import encode_jpeg
from tests.program import PATIENCE, wait_until
from tests.site import Site

GATE = b"GET /api/streams/gate HTTP/1.1\r\nHost: localhost\r\n\r\n"
PREVIEW = "/api/streams/gate/preview.mjpeg"


def first_answers(port: int, number: int, request: bytes, seen: list[bytes]) -> threading.Thread:
    """``seen`` grows by the head of what each of ``number`` clients gets that ask at once and then stay connected."""

    async def one() -> asyncio.StreamWriter:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(sum(map(int, re.findall(rb"content-length: (\d+)", head))))
        seen.append(head)
        return writer

    async def crowd() -> None:
        for client in await asyncio.gather(*(one() for _ in range(number)), return_exceptions=True):
            if isinstance(client, asyncio.StreamWriter):
                client.close()

    thread = threading.Thread(target=lambda: asyncio.run(crowd()))
    thread.start()
    return thread


def half_a_request(site: Site, sent: bytes = GATE[:30]) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", site.port), 30)
    client.sendall(sent)
    return client


def watch(site: Site) -> socket.socket:
    return half_a_request(site, f"GET {PREVIEW} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())


@pytest.fixture
def preview(site):
    preview = site.control.previews["gate"] = Preview()
    return preview


def test_of_a_thousand_requests_at_once_those_beyond_the_bound_are_told_to_come_back(site):
    """While the engine keeps the first ones waiting, metrics and health still answer."""
    go_on = threading.Event()
    site.control.before = lambda: go_on.wait(PATIENCE)
    answers: list[bytes] = []
    crowd = first_answers(site.port, 1000, GATE, answers)
    wait_until(lambda: len(answers) == 1000 - limits.MOST["reads"])
    for path in ("/metrics", "/healthz", "/readyz", "/"):
        assert site.ask("GET", path).status == 200
    assert site.ask("GET", "/api/streams").status == 503
    go_on.set()
    crowd.join()
    statuses = Counter(answer.split()[1] for answer in answers)
    assert statuses == {b"200": limits.MOST["reads"], b"503": 1000 - limits.MOST["reads"]}
    assert all(b"retry-after: 1" in answer for answer in answers if answer.split()[1] == b"503")
    assert site.ask("GET", "/api/streams/gate").status == 200


def test_while_the_engine_keeps_changes_waiting_reading_goes_on(site):
    go_on = threading.Event()
    site.control.before_change = lambda: go_on.wait(PATIENCE)
    change = b"DELETE /api/streams/gate HTTP/1.1\r\nHost: localhost\r\n\r\n"
    answers: list[bytes] = []
    crowd = first_answers(site.port, 100, change, answers)
    wait_until(lambda: len(answers) == 100 - limits.MOST["changes"])
    for path in ("/api/streams", "/", PREVIEW):
        assert site.ask("GET", path).status == 200
    assert site.ask("DELETE", "/api/streams/gate").status == 503
    go_on.set()
    crowd.join()
    assert site.ask("DELETE", "/api/streams/gate").status == 404


def test_a_thousand_scrapes_at_once_are_all_answered(site):
    answers: list[bytes] = []
    first_answers(site.port, 1000, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", answers).join()
    assert Counter(answer.split()[1] for answer in answers) == {b"200": 1000}


@pytest.mark.parametrize(
    "sent", [b"", GATE[:30], GATE + GATE[:30]], ids=["silent", "half a header", "half a second one"]
)
def test_who_sends_no_whole_request_is_cut_off(site, monkeypatch, sent):
    monkeypatch.setattr(connections, "HEADERS", 0.5)
    with half_a_request(site, sent) as client:
        while client.recv(65536):
            pass


def test_who_sends_a_header_drop_by_drop_is_cut_off_too(site, monkeypatch):
    monkeypatch.setattr(connections, "HEADERS", 0.5)
    with half_a_request(site) as client, suppress(ConnectionError):
        for _ in range(200):
            client.sendall(b"x")
            time.sleep(0.05)
        pytest.fail("it is still listened to")


def test_who_sends_half_a_body_is_told_so_and_cut_off(site, monkeypatch):
    monkeypatch.setattr(limits, "PATIENCE", 0.5)
    request = b"POST /api/streams HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"
    with half_a_request(site, request) as client:
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'{"error":"the body did not come' in answer


def test_half_requests_by_the_hundred_keep_nobody_out(site):
    """They hold at most the connections that there are, and the oldest of them makes room."""
    crowd = [half_a_request(site) for _ in range(connections.MOST + 50)]
    try:
        for path in ("/metrics", "/healthz", "/api/streams"):
            assert site.ask("GET", path).status == 200
    finally:
        for client in crowd:
            client.close()


def test_large_bodies_that_do_not_end_are_held_within_a_bound(site, monkeypatch):
    monkeypatch.setattr(limits, "HELD", 1 << 20)
    request = b"POST /api/streams HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900000\r\n\r\n" + b" " * 800_000
    with half_a_request(site, request) as one, half_a_request(site, request) as another:
        [refused], _, _ = select.select([one, another], [], [], PATIENCE)
        assert refused.recv(12) == b"HTTP/1.1 503"
    wait_until(lambda: site.ask("POST", "/api/streams", b" " * 800_000).status == 400)


def test_a_video_player_reads_the_preview(site, preview):
    """FFmpeg takes the parts apart and decodes the pictures."""
    stop = threading.Event()

    def play() -> None:
        for number in range(10_000):
            if stop.wait(0.01):
                break
            preview.show(encode_jpeg(np.full((48, 64, 3), number % 2 * 255, np.uint8), 90))

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
    with watch(site) as client:
        wait_until(lambda: preview.due)
        preview.show(b"\xff\xd8 one \xff\xd9")
        preview.close()
        client.settimeout(30)
        received = b"".join(iter(lambda: client.recv(65536), b""))
    assert b"Content-Type: image/jpeg\r\nContent-Length: 9\r\n\r\n\xff\xd8 one \xff\xd9\r\n--frame" in received


def test_pictures_are_asked_for_only_while_somebody_watches(site, preview):
    assert site.ask("HEAD", PREVIEW).status == 200
    assert not preview.due
    client = watch(site)
    wait_until(lambda: preview.due)
    client.close()
    wait_until(lambda: not preview.due)


def test_more_watchers_than_there_is_room_for_are_told_to_come_back(site, preview):
    crowd = []
    for _ in range(MOST):
        crowd.append(watch(site))
        assert crowd[-1].recv(12) == b"HTTP/1.1 200"
    answer = site.ask("GET", PREVIEW)
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert site.ask("GET", "/api/streams").status == 200
    crowd.pop().close()
    wait_until(lambda: b"200" in watch(site).recv(12))
    for client in crowd:
        client.close()


def test_a_watcher_that_does_not_read_holds_up_nobody(site, preview):
    with watch(site):
        wait_until(lambda: preview.due)
        with urllib.request.urlopen(site.api.url + PREVIEW, timeout=30) as reading:
            for number in range(40):
                picture = b"\xff\xd8" + bytes([number]) * 200_000 + b"\xff\xd9"
                preview.show(picture)
                received = b""
                while picture not in received:
                    received += reading.read1(1 << 20)
    assert site.ask("GET", "/healthz").status == 200


def test_closing_ends_previews_and_half_requests_and_frees_the_port(preview, site):
    """Within the second that answers under way have, however long those would still take."""
    with watch(site) as watching, half_a_request(site) as half:
        wait_until(lambda: preview.due)
        closing = threading.Thread(target=site.close)
        closing.start()
        closing.join(30)
        assert not closing.is_alive()
        while watching.recv(65536):
            pass
        assert half.recv(10) == b""
    with Site(listen=f"127.0.0.1:{site.port}") as again:
        assert again.ask("GET", "/healthz").status == 200


def test_closing_does_not_wait_for_the_engine(site):
    go_on = threading.Event()
    site.control.before = lambda: go_on.wait(PATIENCE)
    with half_a_request(site, GATE):
        wait_until(lambda: any("AnyIO" in t.name for t in threading.enumerate()))
        closing = threading.Thread(target=site.close)
        closing.start()
        closing.join(30)
        assert not closing.is_alive()
        go_on.set()
