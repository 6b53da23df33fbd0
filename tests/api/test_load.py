"""Many clients, slow clients and clients that stay: metrics, health and the others go on."""

import asyncio
import re
import resource
import select
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress

import pytest

from daemon.api import connections, limits
from daemon.lane.handover import Handover
from daemon.lane.lease import boot_time
from tests.api.site import PREVIEW, SESSION
from tests.support.program import PATIENCE, wait_until

GATE = b"GET /api/streams/gate HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(autouse=True)
def _descriptors() -> Iterator[None]:
    """A thousand clients and what serves them are one process here."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def patient_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """A crowd in this process may need seconds between a connection and its request, and is not cut off for that."""
    monkeypatch.setattr(connections, "EVICTION_GRACE", PATIENCE)
    monkeypatch.setattr(connections, "HEADER_TIMEOUT", PATIENCE)


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


@pytest.mark.usefixtures("patient_server")
def test_of_a_thousand_requests_at_once_those_beyond_the_bound_are_told_to_come_back(site):
    """While the engine keeps the first ones waiting, metrics and health still answer."""
    go_on = threading.Event()
    site.control.before = lambda: go_on.wait(PATIENCE)
    answers: list[bytes] = []
    crowd = first_answers(site.port, 1000, GATE, answers)
    wait_until(lambda: len(answers) == 1000 - limits.MAX_CONCURRENT["reads"])
    for path in ("/metrics", "/healthz", "/readyz", "/"):
        assert site.ask("GET", path).status == 200
    assert site.ask("GET", "/api/streams").status == 503
    go_on.set()
    crowd.join()
    statuses = Counter(answer.split()[1] for answer in answers)
    assert statuses == {b"200": limits.MAX_CONCURRENT["reads"], b"503": 1000 - limits.MAX_CONCURRENT["reads"]}
    assert all(b"retry-after: 1" in answer for answer in answers if answer.split()[1] == b"503")
    assert site.ask("GET", "/api/streams/gate").status == 200


@pytest.mark.usefixtures("patient_server")
def test_while_the_engine_keeps_changes_waiting_reading_goes_on(site):
    go_on = threading.Event()
    site.control.before_change = lambda: go_on.wait(PATIENCE)
    change = b"DELETE /api/streams/gate HTTP/1.1\r\nHost: localhost\r\n\r\n"
    answers: list[bytes] = []
    crowd = first_answers(site.port, 100, change, answers)
    wait_until(lambda: len(answers) == 100 - limits.MAX_CONCURRENT["changes"])
    for path in ("/api/streams", "/", PREVIEW):
        assert site.ask("GET", path).status == 200
    assert site.ask("DELETE", "/api/streams/gate").status == 503
    go_on.set()
    crowd.join()
    assert site.ask("DELETE", "/api/streams/gate").status == 404


@pytest.mark.usefixtures("patient_server")
def test_a_thousand_scrapes_at_once_are_all_answered(site):
    answers: list[bytes] = []
    first_answers(site.port, 1000, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", answers).join()
    assert Counter(answer.split()[1] for answer in answers) == {b"200": 1000}


@pytest.mark.parametrize(
    "sent", [b"", GATE[:30], GATE + GATE[:30]], ids=["silent", "half a header", "half a second one"]
)
def test_who_sends_no_whole_request_is_cut_off(site, monkeypatch, sent):
    monkeypatch.setattr(connections, "HEADER_TIMEOUT", 0.5)
    with site.say(sent) as client:
        while client.recv(65536):
            pass


def test_who_sends_a_header_drop_by_drop_is_cut_off_too(site, monkeypatch):
    monkeypatch.setattr(connections, "HEADER_TIMEOUT", 0.5)
    with site.say(GATE[:30]) as client, suppress(ConnectionError):
        for _ in range(20 * PATIENCE):
            client.sendall(b"x")
            time.sleep(0.05)
        pytest.fail("it is still listened to")


def test_who_sends_half_a_body_is_told_so_and_cut_off(site, monkeypatch):
    monkeypatch.setattr(limits, "BODY_TIMEOUT", 0.5)
    request = b"POST /api/streams HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"
    with site.say(request) as client:
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'{"error":"the body did not come' in answer


def test_half_requests_by_the_hundred_keep_nobody_out(site):
    """They hold at most the connections that there are, and the oldest of them makes room."""
    crowd = [site.say(GATE[:30]) for _ in range(connections.MAX_CONNECTIONS + 50)]
    try:
        for path in ("/metrics", "/healthz", "/api/streams"):
            assert site.ask("GET", path).status == 200
    finally:
        for client in crowd:
            client.close()


def test_large_bodies_that_do_not_end_are_held_within_a_bound(site, monkeypatch):
    monkeypatch.setattr(limits, "MAX_BUFFERED", 1 << 20)
    request = b"POST /api/streams HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900000\r\n\r\n" + b" " * 800_000
    with site.say(request) as one, site.say(request) as another:
        [refused], _, _ = select.select([one, another], [], [], PATIENCE)
        assert refused.recv(12) == b"HTTP/1.1 503"
    wait_until(lambda: site.ask("POST", "/api/streams", b" " * 800_000).status == 400)


def test_only_a_snapshot_may_be_large_and_large_snapshots_are_held_apart(site, monkeypatch):
    """Half a snapshot that does not go on keeps no other request out."""
    large = Handover(SESSION, None, (), bytes(2 * limits.MAX_BODY)).pack()
    assert site.ask("POST", "/api/snapshots", large).status == 201
    answer = site.ask("POST", "/api/streams", large)
    assert (answer.status, answer.error) == (413, f"the body is larger than {limits.MAX_BODY} bytes; send less")
    monkeypatch.setattr(limits, "MAX_BYTES", 3 * limits.MAX_BODY)
    monkeypatch.setattr(limits, "MAX_BUFFERED", limits.MAX_BODY)
    assert site.ask("POST", "/api/snapshots", large + bytes(limits.MAX_BODY)).status == 413
    head = b"POST /api/snapshots HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3000000\r\n\r\n"
    with site.say(head + bytes(2_000_000)):
        site.add("yard")
        assert site.ask("POST", "/api/snapshots", large).status == 201


@pytest.mark.usefixtures("patient_server")
def test_leases_are_taken_while_the_engine_keeps_changes_waiting(site):
    site.add("fenced", fence=3)
    go_on = threading.Event()
    site.control.before_change = lambda: go_on.wait(PATIENCE)
    change = b"DELETE /api/streams/gate HTTP/1.1\r\nHost: localhost\r\n\r\n"
    answers: list[bytes] = []
    crowd = first_answers(site.port, 100, change, answers)
    wait_until(lambda: len(answers) == 100 - limits.MAX_CONCURRENT["changes"])
    lease = {"streams": {"fenced": {"fence": 3, "until": boot_time() + 3}}}
    taken = site.ask("PUT", "/api/leases", lease)
    assert (taken.status, taken.json["refused"]) == (200, {})
    assert site.control.leases["fenced"].holds
    go_on.set()
    crowd.join()
