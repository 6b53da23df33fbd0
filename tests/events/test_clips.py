"""Clips over HTTP, in parts as browsers ask for them, cut from real segments."""

import io
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from daemon.errors import BusyError
from daemon.events import clips
from daemon.events.clips import Clips, Place
from daemon.events.questions import StoredEvent
from stages.output.mp4 import Mp4Writer
from stages.recording.segment import lines_of, video_path
from tests.api.site import Answer, Site
from tests.events.made import NOON, SESSION, event, opened
from tests.support.program import wait_until

RATE = 5  # Hz


def record(video: Path, start: float, seconds: int, close: bool = True) -> None:
    """A video of noise, with a line of each frame."""
    video.parent.mkdir(parents=True, exist_ok=True)
    writer = Mp4Writer(video, RATE, (32, 32), start)
    draw = np.random.default_rng(0)
    with lines_of(video).open("w") as lines:
        for number in range(seconds * RATE):
            at = start + number / RATE
            writer.write(draw.integers(0, 255, (32, 32, 3), np.uint8), at)
            lines.write(json.dumps({"session": SESSION, "frame": number, "captured_at": at}) + "\n")
    if close:
        writer.close()
    os.utime(video, (start + seconds, start + seconds))


EVENTS = {  # by id
    1: event(stream="gate", time=NOON + 20, at=NOON + 20),  # in the first segment
    2: event(stream="gate", time=NOON + 60.4, at=NOON + 60.4),  # at the joint
    3: event(stream="gate", time=NOON + 118, at=None),  # in the one that is being written
    4: event(stream="gate", time=NOON + 400, at=NOON + 400),  # after all
    5: event(stream="film", time=NOON, at=8.0),  # of a file
    6: event(stream="film", time=NOON, at=8.0, session="another run"),
    7: event(stream="yard", time=NOON, at=NOON),  # never recorded
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder: Path = tmp_path_factory.mktemp("recorded")
    for start, seconds in ((NOON + 0.25, 60), (NOON + 60.25, 40)):
        record(video_path(folder, "gate", start), start, seconds)
    record(video_path(folder, "gate", NOON + 100.25), NOON + 100.25, 21, close=False)
    record(folder / "film.mp4", 0.0, 20)
    with opened(folder / "maskcast.db") as store, Site() as site:
        for made in EVENTS.values():
            store.add(made)
        site.control.store, site.control.kept_clips = store, Clips(Place(folder, 5.0, 10.0))
        wait_until(lambda: len(site.ask("GET", "/api/events").json["events"]) == len(EVENTS))
        yield site


def clip(site: Site, number: int, **headers: str) -> Answer:
    return site.ask("GET", f"/api/events/{number}/clip.mp4", **headers)


def frames(video: bytes) -> list[float]:
    """Times of the frames, all of which decode."""
    with av.open(io.BytesIO(video)) as container:
        return [float(frame.time) for frame in container.decode(video=0)]


@pytest.mark.parametrize(("number", "seconds"), [(1, 15), (2, 15), (3, 7), (5, 15)])
def test_a_clip_shows_what_is_around_the_event(site, number, seconds):
    """From up to a second before; without a gap, also where segments meet and where one is being written."""
    answer = clip(site, number)
    assert (answer.status, answer.headers["content-type"]) == (200, "video/mp4")
    times = frames(answer.body)
    assert seconds * RATE <= len(times) <= (seconds + 1) * RATE + 1
    assert np.allclose(np.diff(times), 1 / RATE, atol=2e-3)
    assert answer.body.index(b"moov") < answer.body.index(b"mdat")  # it plays before all of it has come


def test_of_an_event_it_is_said_whether_there_is_a_clip(site):
    found = {e["id"]: e["clip"] for e in site.ask("GET", "/api/events").json["events"]}
    assert found == {1: True, 2: True, 3: True, 4: False, 5: True, 6: False, 7: False}
    for number in (4, 6, 7):
        line = f"nothing is recorded of event {number}, or it has had its time"
        assert (clip(site, number).status, clip(site, number).error) == (404, line)
    assert clip(site, 99).status == 404


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [("bytes=0-99", 0, 100), ("bytes=100-", 100, None), ("bytes=-50", -50, None), ("bytes=10-99999999", 10, None)],
)
def test_a_part_of_a_clip_is_that_part(site, asked, start, stop):
    whole = clip(site, 1).body
    answer = clip(site, 1, Range=asked)
    assert (answer.status, answer.body) == (206, whole[start:stop])
    first = start % len(whole)
    assert answer.headers["content-range"] == f"bytes {first}-{first + len(answer.body) - 1}/{len(whole)}"
    assert answer.headers["content-length"] == str(len(answer.body))


@pytest.mark.parametrize("asked", ["bytes=99999999-", "bytes=99999999-999999999", "bytes=-0"])
def test_a_part_beyond_the_end_is_refused(site, asked):
    answer = clip(site, 1, Range=asked)
    size = len(clip(site, 1).body)
    assert (answer.status, answer.error) == (416, f"the clip has {size} bytes; ask for a part of those")
    assert answer.headers["content-range"] == f"bytes */{size}"


@pytest.mark.parametrize(
    "headers",
    [
        *({"Range": asked} for asked in ("bytes=9-1", "lines=1-2", "bytes=0-1,5-6", "bytes=-")),
        {"Range": "bytes=0-9", "If-Range": '"of another clip"'},
    ],
)
def test_a_range_that_is_none_gives_the_whole(site, headers):
    assert clip(site, 1, **headers).status == 200


def test_a_clip_whose_end_is_recorded_later_is_cut_again(tmp_path, monkeypatch):
    """And one that is whole is cut once."""
    monkeypatch.setattr(clips, "FRESH", 0.0)
    now = float(int(time.time())) - 3
    made = Clips(Place(tmp_path, 5.0, 10.0))
    with opened(tmp_path / "maskcast.db") as store, Site() as other:
        other.control.store, other.control.kept_clips = store, made
        store.add(event(time=now, at=now))
        wait_until(lambda: other.ask("GET", "/api/events").json["events"])
        video = video_path(tmp_path, "gate", now - 3)
        record(video, now - 3, 5)
        short = clip(other, 1).body
        video.unlink()
        record(video, now - 3, 20)
        long = clip(other, 1).body
        assert len(frames(long)) > len(frames(short)) > 3 * RATE
        video.unlink()
        assert clip(other, 1).body == long


def test_a_clip_is_of_its_event_alone_and_dropped_when_nobody_asks(tmp_path, monkeypatch):
    """Also where a new database begins again with its ids. Without room for it: try again."""
    monkeypatch.setattr(clips, "KEPT", 0.2)
    made = Clips(Place(tmp_path, 5.0, 10.0))
    record(video_path(tmp_path, "gate", NOON), NOON, 60)
    first, again = stored(NOON + 20), stored(NOON + 40)
    assert made.of(first).read(0, 1 << 20) != made.of(again).read(0, 1 << 20)
    wait_until(lambda: not made._kept)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(BusyError, match=r"a clip cannot be written: .*; free some space in the folder TMPDIR"):
        made.of(first)


def stored(time: float) -> StoredEvent:
    return StoredEvent(1, "gate", SESSION, "track_started", time, "", time, 0, 0, "car", None, None, False)
