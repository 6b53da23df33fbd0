"""Events over HTTP: a real database behind the real server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.site import Site
from tests.events.made import NOON, SESSION, event, opened, track
from tests.support.program import wait_until

STARTED = [event(number, prompt=("car", "person")[number % 2], score=0.5) for number in range(10)]
DOWN = event(10, stream="yard", type="source_down", prompt=None, frame=None, track=None, reason="stopped")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    path: Path = tmp_path_factory.mktemp("events") / "maskcast.db"
    with opened(path) as store, Site() as site:
        for record in (*STARTED, DOWN, track(3, snapshot=b"\xff\xd8 a picture"), track(4, snapshot=None)):
            store.add(record)
        site.control.store = store
        wait_until(lambda: len(site.ask("GET", "/api/events").json["events"]) == 11)
        yield site


def frames(site: Site, query: str) -> list[int | None]:
    return [found["frame"] for found in site.ask("GET", f"/api/events?{query}").json["events"]]


def test_an_event_has_all_that_is_known_of_it(site):
    wanted = {
        "id": 4,
        "stream": "gate",
        "session": SESSION,
        "type": "track_started",
        "time": NOON + 3,
        "frame": 3,
        "track": 3,
        "prompt": "person",
        "reason": "detected",
        "score": 0.5,
        "box": None,
        "snapshot": True,
        "clip": False,
    }
    assert site.ask("GET", "/api/events/4").json == wanted
    assert wanted in site.ask("GET", "/api/events").json["events"]
    nothing = dict.fromkeys(("frame", "track", "prompt", "score", "box"))
    assert site.ask("GET", "/api/events/11").json.items() >= nothing.items()


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("limit=3", [None, 9, 8]),
        ("stream=yard", [None]),
        ("stream=yard&stream=gate&type=track_started&limit=2", [9, 8]),
        ("prompt=car&limit=2", [8, 6]),
        ("prompt=car&prompt=person&type=source_down", []),
        (f"from={NOON + 3}&to={NOON + 5}", [4, 3]),
        ("from=2026-11-23T12:00:08Z&prompt=person", [9]),
        ("from=2026-11-23T14:00:08%2B02:00&prompt=person", [9]),
        ("to=2026-11-23T12:00:01", [0]),
        ("stream=nowhere", []),
    ],
)
def test_events_are_filtered(site, query, found):
    assert frames(site, query) == found


def test_pages_follow_one_another(site):
    first = site.ask("GET", "/api/events?type=track_started&limit=8").json
    second = site.ask("GET", f"/api/events?type=track_started&limit=8&cursor={first['next']}").json
    assert [found["frame"] for found in first["events"] + second["events"]] == list(range(9, -1, -1))
    assert second["next"] is None


def test_a_picture_comes_as_a_jpeg(site):
    answer = site.ask("GET", "/api/events/4/snapshot.jpg")
    assert (answer.status, answer.body) == (200, b"\xff\xd8 a picture")
    assert answer.headers["content-type"] == "image/jpeg"


def test_counts_are_by_prompt_and_step(site):
    answer = site.ask("GET", f"/api/events/counts?from={NOON}&to={NOON + 9}&step=6&type=track_started").json
    found = [(count["time"], count["prompt"], count["count"]) for count in answer["counts"]]
    assert found == [(NOON, "car", 3), (NOON, "person", 3), (NOON + 6, "car", 2), (NOON + 6, "person", 1)]
    assert site.ask("GET", "/api/events/counts").json["step"] == 600


@pytest.mark.parametrize(
    ("path", "status", "line"),
    [
        ("999", 404, "no event has the id 999; it may have had its time"),
        ("999/snapshot.jpg", 404, "no event has the id 999; it may have had its time"),
        ("5/snapshot.jpg", 404, "event 5 has no picture; only tracks that were seen do"),
        ("11/snapshot.jpg", 404, "event 11 has no picture; only tracks that were seen do"),
        ("?from=yesterday", 422, "from is no time; give Unix seconds, or as in 2026-11-28T14:05:00Z"),
        ("?to=nan", 422, "to is no time; give Unix seconds, or as in 2026-11-28T14:05:00Z"),
        ("?cursor=17", 422, "cursor is none of ours; take what the page before has as next, or leave it out"),
        ("?limit=0", 422, "limit should be greater than or equal to 1"),
        ("/counts?from=0&to=1e9", 422, "that is more than 2000 steps; make step larger, or the time shorter"),
        ("x", 422, "id should be a valid integer, unable to parse string as an integer"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(site, path, status, line):
    answer = site.ask("GET", f"/api/events{'' if path[0] in '?/' else '/'}{path}")
    assert (answer.status, answer.error) == (status, line)


def test_without_a_database_it_is_said_what_to_set():
    with Site() as nowhere:
        for path in ("", "/1", "/1/snapshot.jpg", "/counts"):
            answer = nowhere.ask("GET", f"/api/events{path}")
            line = "no events are kept; set record.dir (--record DIR) or state.dir"
            assert (answer.status, answer.error) == (404, line)


def test_a_database_that_is_gone_is_no_mistake_of_ours(tmp_path):
    with opened(tmp_path / "maskcast.db") as store, Site() as site:
        site.control.store = store
        (tmp_path / "maskcast.db").unlink()
        answer = site.ask("GET", "/api/events")
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert answer.error == "the database cannot be read now (No such file or directory); try again"
