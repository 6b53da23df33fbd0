"""What leaves a stream when its recording cannot be written, and what is drawn for whom: a real publisher and disk."""

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zmq
from numpy.typing import NDArray

from daemon.lane.lease import LONGEST, Lease, boot_time
from daemon.lane.outcome import Notice, Outcome
from daemon.metrics.registry import Metrics
from daemon.sinks.publishing import Publishing
from daemon.sinks.recording import Recording
from daemon.sinks.sink import Need
from daemon.stream.latency import Latency
from daemon.stream.rendering import Renderer
from daemon.stream.writer import Identity, Observer, Writer
from stages.errors import OutputError
from stages.output.publisher import Publisher
from stages.output.recorder import Recorder
from stages.types import Clock, Frame, Result, StreamEvent, TrackChange, TrackEvent
from tests.lane.lanes import new_lane
from tests.support.program import lines_of, pictures_in, wait_until
from tests.support.small_disk import full_at


class Station:
    """A writer of the stream "gate" with all that it writes to."""

    def __init__(
        self,
        folder: Path,
        record: bool = True,
        publish_frames: bool = True,
        observe: Observer | None = None,
        rate: float = 10.0,
        fence: int | None = None,
    ) -> None:
        self.folder = folder / "out"
        self.publisher = Publisher("tcp://127.0.0.1:0")
        self.metrics = Metrics()
        lane = new_lane("gate", ["car"], self.metrics)
        self.lease = lane.lease = Lease(fence)
        publishing = Publishing("gate", self.publisher, lane.metrics, publish_frames, threading.Event(), self.lease)
        self.recording = Recording("gate", self._open_recorder if record else lambda *_: None, lane.metrics, False)
        sinks, renderer = [publishing, self.recording], Renderer(85, lane.prompt_set.written)
        self.writer = Writer(Identity("gate", "s", {}), lane, renderer, sinks, Latency(), observe)
        self.recording.open(rate, False)
        self._context = zmq.Context()
        self._random = np.random.default_rng(0)

    def _open_recorder(self, rate: float, _: bool) -> Recorder:
        return Recorder(self.folder, "gate", rate)

    def subscribe(self, topic: str) -> zmq.Socket[bytes]:
        subscriber = self._context.socket(zmq.SUB)
        subscriber.subscribe(topic)
        subscriber.connect(self.publisher.endpoint)
        wait_until(lambda: self.publisher.subscribers == 1)
        return subscriber

    def write(self, *indices: int, epoch: int = 0, height: int = 96) -> None:
        """Frames of noise, so that a video of them grows; on each a track is said to have started."""
        for index in indices:
            image = self._random.integers(0, 255, (height, 96, 3), np.uint8)
            frame = Frame(index, index, Fraction(1, 10), index / 10, Clock.FILE, image)
            started = TrackEvent(TrackChange.STARTED, index + 1, 0, index, "detected")
            self.writer.write(Outcome((Result(frame, epoch, False, (), torch.zeros(0, 8, 8), (started,)),)))

    def count(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"maskcast_{name}", {"stream": "gate", **labels})

    def close(self) -> None:
        self.publisher.close()
        self._context.destroy(linger=0)


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    station = Station(tmp_path)
    yield station
    station.close()


def received(subscriber: zmq.Socket[bytes]) -> list[dict[str, Any]]:
    """The headers that arrive until none has for 0.3 seconds."""
    headers = []
    while subscriber.poll(300):
        headers.append(json.loads(subscriber.recv_multipart()[1]))
    return headers


def test_a_new_epoch_tells_whether_the_picture_has_another_size(tmp_path: Path) -> None:
    with closing(Station(tmp_path, record=False)) as station:
        events = station.subscribe("v1/gate/event")
        station.write(0, 1)
        station.write(2, epoch=1)
        station.write(3, epoch=2, height=64)
        told = [header["reason"] for header in received(events) if header["type"] == "epoch"]
    assert told == ["opened again, the picture is 96x96 as before", "the picture is now 96x64"]


def test_what_is_not_published_for_want_of_a_lease_is_recorded_all_the_same(tmp_path: Path) -> None:
    """Subscribers see a hole in ``seq``; a frame counts as published or as dropped, never as both."""
    with closing(Station(tmp_path, fence=3)) as station:
        subscriber = station.subscribe("v1/gate")
        station.write(0, 1)
        assert received(subscriber) == []
        station.lease.renew(3, boot_time() + LONGEST / 2)
        station.write(2, 3)
        station.lease.renew(4, boot_time() + LONGEST / 2)
        station.write(4)
        station.lease.renew(4, 0.0)
        station.write(5)
        station.writer.close("stopped")
        headers = received(subscriber)
        counts = {name: station.count("frames_dropped_total", reason=name) for name in ("lease", "error")}
        published = station.count("frames_total", stage="published")
    masks = [header for header in headers if header["schema"] == "maskcast/v1/masks"]
    assert [(header["seq"], header["frame"], header["fence"]) for header in masks] == [(2, 2, 3), (3, 3, 3), (4, 4, 4)]
    pictures = [header for header in headers if header["schema"] == "maskcast/v1/frame"]
    assert [(header["seq"], header["fence"]) for header in pictures] == [(2, 3), (3, 3), (4, 4)]
    events = [header for header in headers if header["schema"] == "maskcast/v1/event"]
    assert [(header["type"], header["track"], header["fence"]) for header in events] == [
        ("track_started", 3, 3),
        ("track_started", 4, 3),
        ("track_started", 5, 4),
    ]
    assert (published, counts) == (3, {"lease": 3, "error": 0})
    lines = lines_of(station.folder / "gate.masks.jsonl")
    assert [line["frame"] for line in lines] == list(range(6))
    assert lines[2:5] == masks
    assert pictures_in(station.folder / "gate.mp4") == 6


def test_a_recording_that_fails_is_an_event_and_a_metric_and_costs_no_frame(station: Station) -> None:
    masks = station.subscribe("v1/gate")
    station.write(0, 1)
    assert station.count("record_errors_total") == 0
    shutil.rmtree(station.folder)
    station.write(2, 3, 4)
    station.writer.close("the source has ended")
    headers = received(masks)
    frames = [header for header in headers if header["schema"].endswith("/masks")]
    assert [(header["frame"], header["seq"], header["dropped_before"]) for header in frames] == [
        (index, index, 0) for index in range(5)
    ]
    [error] = [header for header in headers if header.get("type") == "error"]
    assert error["reason"].startswith(f"cannot record into {station.folder}: ")
    assert error["frame"] == 2
    assert station.count("record_errors_total") == 1
    assert station.count("frames_dropped_total", reason="error") == 0


def test_what_ended_a_recording_is_kept_for_the_streams_end(station: Station) -> None:
    station.write(0)
    assert station.writer.failure is None
    shutil.rmtree(station.folder)
    station.write(1, 2)
    assert isinstance(station.writer.failure, OutputError)
    assert station.recording.need() is Need.NOTHING


def test_a_disk_that_is_full_ends_a_recording_whole_and_the_stream_goes_on(station: Station) -> None:
    masks = station.subscribe("v1/gate/masks")
    with full_at(60_000):
        station.write(*range(40))
        station.writer.close("the source has ended")
    assert [header["frame"] for header in received(masks)] == list(range(40))
    recorded = [header["frame"] for header in lines_of(station.folder / "gate.masks.jsonl")]
    assert recorded == list(range(len(recorded)))
    assert 10 <= len(recorded) < 40
    assert len(recorded) - 10 <= pictures_in(station.folder / "gate.mp4") <= len(recorded) + 1
    assert "File too large" in str(station.writer.failure)


def test_a_recording_that_cannot_be_finished_is_told_before_the_source_is_down(station: Station) -> None:
    events = station.subscribe("v1/gate/event")
    station.write(*range(15))
    with full_at((station.folder / "gate.mp4").stat().st_size + 100):
        station.writer.close("the source has ended")
    assert [header["type"] for header in received(events)] == [*["track_started"] * 15, "error", "source_down"]
    assert station.count("record_errors_total") == 1
    assert "File too large" in str(station.writer.failure)


def test_a_recording_that_ends_well_is_no_failure(station: Station) -> None:
    station.write(*range(3))
    station.writer.close("the source has ended")
    assert station.writer.failure is None
    assert station.count("record_errors_total") == 0
    assert len(lines_of(station.folder / "gate.masks.jsonl")) == pictures_in(station.folder / "gate.mp4") == 3


@pytest.mark.parametrize(
    ("topic", "frames", "drawn"),
    [
        ("v1/gate/frame", True, True),
        ("v1/", True, True),
        ("v1/gate/masks", True, False),
        ("v1/yard/", True, False),
        ("v1/gate/frame", False, False),
    ],
)
def test_pictures_are_drawn_only_where_a_subscriber_wants_them(
    tmp_path: Path, topic: str, frames: bool, drawn: bool
) -> None:
    station = Station(tmp_path, record=False, publish_frames=frames)
    subscriber = station.subscribe(topic)
    station.write(0, 1)
    pictures = [header for header in received(subscriber) if header["schema"].endswith("/frame")]
    assert len(pictures) == (2 if drawn else 0)
    spent = station.count("stage_seconds_sum", stage="annotate")
    assert spent is not None
    assert (spent > 0) is drawn
    station.close()


def test_what_fails_after_the_masks_have_left_is_an_event_and_loses_no_frame(tmp_path: Path) -> None:
    """Whoever looks on stumbles over frame 1: its masks were sent, its track is told once, nothing is counted lost."""

    def stumble(result: Result, _: NDArray[np.bool_]) -> None:
        if result.frame.index == 1:
            raise RuntimeError("stumbled")

    with closing(Station(tmp_path, observe=stumble)) as station:
        subscriber = station.subscribe("v1/gate")
        station.write(0, 1, 2)
        headers = received(subscriber)
        masks = [header for header in headers if header["schema"].endswith("/masks")]
        assert [(header["frame"], header["seq"], header["dropped_before"]) for header in masks] == [
            (index, index, 0) for index in range(3)
        ]
        events = [(header["type"], header["frame"]) for header in headers if header["schema"].endswith("/event")]
        started = "track_started"
        assert events == [(started, 0), (started, 1), ("error", 1), (started, 2)]
        assert station.count("frames_dropped_total", reason="error") == 0
        station.writer.close("the source has ended")
        assert len(lines_of(station.folder / "gate.masks.jsonl")) == 3


def test_a_frame_whose_masks_cannot_be_made_is_counted_and_its_events_are_told_once(station: Station) -> None:
    subscriber = station.subscribe("v1/gate")
    station.write(0)
    frame = Frame(1, 1, Fraction(1, 10), 0.1, Clock.FILE, np.zeros((96, 96, 3), np.uint8))
    ended = TrackEvent(TrackChange.ENDED, 1, 0, 1, "lost")
    station.writer.write(Outcome((Result(frame, 0, False, (), torch.zeros(1, 8), (ended,)),)))  # no masks at all
    station.write(2)
    headers = received(subscriber)
    masks = [header for header in headers if header["schema"].endswith("/masks")]
    assert [(header["frame"], header["dropped_before"]) for header in masks] == [(0, 0), (2, 1)]
    types = [header["type"] for header in headers if header["schema"].endswith("/event")]
    assert types == ["track_started", "error", "track_ended", "track_started"]
    assert station.count("frames_dropped_total", reason="error") == 1


def test_a_recorder_that_fails_unexpectedly_ends_the_recording_only(tmp_path: Path) -> None:
    """No video has 0 pictures a second."""
    station = Station(tmp_path, rate=0.0)
    subscriber = station.subscribe("v1/gate")
    station.write(0, 1)
    headers = received(subscriber)
    masks = [header for header in headers if header["schema"].endswith("/masks")]
    assert [(header["frame"], header["dropped_before"]) for header in masks] == [(0, 0), (1, 0)]
    [error] = [header for header in headers if header.get("type") == "error"]
    assert error["reason"].startswith("cannot record: ZeroDivisionError")
    assert station.count("record_errors_total") == 1
    assert isinstance(station.writer.failure, OutputError)
    station.close()


@pytest.mark.parametrize(
    ("told", "at_the_end"),
    [
        ((), ["stopped"]),
        ((StreamEvent.SOURCE_UP,), ["stopped"]),
        ((StreamEvent.SOURCE_DOWN,), []),
        ((StreamEvent.SOURCE_DOWN, StreamEvent.GOVERNOR), []),
        ((StreamEvent.SOURCE_DOWN, StreamEvent.SOURCE_UP), ["stopped"]),
    ],
)
def test_that_the_source_is_down_is_told_once(
    station: Station, told: tuple[StreamEvent, ...], at_the_end: list[str]
) -> None:
    events = station.subscribe("v1/gate/event")
    station.writer.write(Outcome(notices=tuple(Notice(event, str(event)) for event in told)))
    station.writer.close("stopped")
    assert [header["reason"] for header in received(events)] == [*map(str, told), *at_the_end]
