"""Sources that are opened before their stream is started."""

import threading
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest

from daemon.errors import BusyError
from daemon.service import opened_sources
from daemon.service.opened_sources import MOST, OpenedSources
from stages.errors import ConfigError, SourceError, SourceStalled
from stages.source.source import open_source
from stages.types import Clock, Frame
from tests.support.program import wait_until

PICTURE = np.zeros((4, 4, 3), np.uint8)


class Camera:
    """A live source that shows a frame whenever it is asked to; ``index`` 3 follows on 0."""

    live, rate, frames_expected, decode_errors, decoder, patience = True, 30.0, None, 0, "software", 1.0

    def __init__(self, *indices: int) -> None:
        self.indices, self.closed = indices, threading.Event()
        self.go, self.read = threading.Semaphore(0), 0

    def frames(self) -> Iterator[Frame]:
        before = -1
        for index in self.indices:
            self.go.acquire()
            if self.closed.is_set():
                return
            self.read += 1
            yield Frame(index, index, Fraction(1, 30), index / 30, Clock.ARRIVAL, PICTURE, index - before - 1)
            before = index
        raise SourceError("the camera was unplugged")

    def show(self, frames: int) -> None:
        for _ in range(frames):
            self.go.release()

    def close(self) -> None:
        self.closed.set()
        self.go.release()


@pytest.fixture
def sources() -> Iterator[OpenedSources]:
    opened = OpenedSources()
    yield opened
    opened.close()


def test_a_stream_goes_on_with_the_frames_after_the_last_dropped_one(sources):
    camera = Camera(*range(2, 9))
    camera.show(3)
    taken = sources.take(sources.open(lambda: camera))
    wait_until(lambda: camera.read == 3)
    threading.Timer(0.1, camera.show, [3]).start()
    frames = taken.frames()
    first = next(frames)
    assert (first.index, first.pts, first.dropped_before) == (0, 5, 0)
    assert [(frame.index, frame.pts) for frame in (next(frames), next(frames))] == [(1, 6), (2, 7)]
    camera.show(2)
    with pytest.raises(SourceError, match="unplugged"):
        list(frames)


def test_a_source_is_for_one_stream(sources):
    camera = Camera(0, 1)
    camera.show(1)
    name = sources.open(lambda: camera)
    assert sources.take(name) is not None
    assert sources.take(name) is None


def test_a_source_that_ends_before_its_stream_comes_is_not_given(sources):
    camera = Camera(0, 1)
    camera.show(1)
    name = sources.open(lambda: camera)
    camera.show(1)
    assert camera.closed.wait(60)
    assert sources.take(name) is None


def test_a_source_that_no_stream_takes_is_closed(sources, monkeypatch):
    monkeypatch.setattr(opened_sources, "WAITS", 0.0)
    camera = Camera(0, 1, 2)
    camera.show(1)
    name = sources.open(lambda: camera)
    camera.show(1)
    assert camera.closed.wait(60)
    assert sources.take(name) is None


def test_what_cannot_be_opened_in_time_is_an_error(sources, monkeypatch, tmp_path):
    def unplugged() -> Camera:
        raise SourceError("no such camera")

    with pytest.raises(SourceError, match="no such camera"):
        sources.open(unplugged)
    with pytest.raises(ConfigError, match="only a live source"):
        sources.open(lambda: open_source("testsrc://shapes"))
    monkeypatch.setattr(opened_sources, "FIRST", 0.1)
    silent = Camera(0)
    with pytest.raises(SourceStalled, match="no frame within"):
        sources.open(lambda: silent)
    assert silent.closed.is_set()


def test_a_few_sources_wait_and_not_more(sources):
    cameras = [Camera(*range(9)) for _ in range(MOST + 1)]
    for camera in cameras:
        camera.show(1)
    first, *_ = [sources.open(lambda camera=camera: camera) for camera in cameras[:MOST]]
    with pytest.raises(BusyError, match=f"{MOST} sources wait"):
        sources.open(lambda: cameras[-1])
    assert sources.take(first) is not None
    assert sources.open(lambda: cameras[-1])
