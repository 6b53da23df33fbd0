"""What the sink makes of a stream's messages and frames."""

from fractions import Fraction
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from daemon.events.records import EventRecord, Record, TrackRecord
from daemon.sinks.remembering import MOST, PAUSE, REFRESH, Remembering
from daemon.sinks.sink import FrameOutput
from stages.output import wire
from stages.output.masks import Masks
from stages.output.wire import Kind
from stages.recording.thumbnail import SIDE, thumbnail
from stages.types import Clock, Detections, Frame, Result, Track, TrackChange, TrackState
from tests.events.made import NOON, SESSION

RED, BLUE = (200, 0, 0), (0, 0, 200)
Objects = dict[int, tuple[int, int, int, int]]  # boxes by track


class Stream:
    """A stream "gate" whose messages and frames go to the sink; ``records`` are what that hands on."""

    def __init__(self, clock: Clock = Clock.ARRIVAL) -> None:
        self.records: list[Record] = []
        self.sink = Remembering("gate", self)  # type: ignore[arg-type]
        self._clock, self._number = clock, 0

    def add(self, record: Record) -> None:
        self.records.append(record)

    def show(
        self,
        objects: Objects,
        later: float = 1.0,
        started: tuple[int, ...] = (),
        detected: tuple[tuple[float, ...], ...] | None = None,
    ) -> None:
        """A frame ``later`` than the last; red objects on blue. On a keyframe these boxes were ``detected``."""
        self._number += 1
        self._time = getattr(self, "_time", NOON) + later
        image = np.full((120, 160, 3), BLUE, np.uint8)
        full = np.zeros((len(objects), 120, 160), np.bool_)
        for mask, (x0, y0, x1, y1) in zip(full, objects.values(), strict=True):
            mask[y0:y1, x0:x1] = True
            image[y0:y1, x0:x1] = RED
        tracks = tuple(Track(id_, 0, 0, 0, TrackState.TRACKED, 0.5, 1.0) for id_ in objects)
        frame = Frame(self._number, 0, Fraction(1, 30), self._time, self._clock, image)
        found = None
        if detected is not None:
            boxes = np.array(detected, np.float32).reshape(-1, 4)
            found = Detections(boxes, np.full(len(boxes), 0.9, np.float32), np.zeros(len(boxes), np.int64))
        result = Result(frame, 0, found is not None, tracks, torch.zeros(len(objects), 8, 8), detections=found)
        masks = Masks.from_full(full)
        same: dict[str, Any] = {"stream": "gate", "session": SESSION, "seq": self._number}
        header = wire.masks_header(result, masks, prompts=["car"], published_at=self._time + 0.5, **same)
        self.sink.message(Kind.MASKS, header)
        for id_ in started:
            self.tell(TrackChange.STARTED, id_)
        self.sink.frame(FrameOutput(result, header, masks, None, None))

    def tell(self, change: TrackChange, track: int, frame: int | None = None) -> None:
        about = {"frame": self._number if frame is None else frame, "track": track, "prompt": "car"}
        same: dict[str, Any] = {"stream": "gate", "session": SESSION, "epoch": 0, "seq": 0}
        header = wire.event_header(change, "as it is", published_at=self._time + 0.5, **about, **same)
        self.sink.message(Kind.EVENT, header)

    def pictures(self) -> list[TrackRecord]:
        return [r for r in self.records if isinstance(r, TrackRecord) and r.snapshot]


def test_an_event_has_the_time_of_its_frame_and_what_was_last_known_of_its_track():
    stream = Stream()
    stream.show({7: (20, 20, 50, 40)}, started=(7,))
    stream.tell(TrackChange.OCCLUDED, 8, frame=0)  # of a frame that was lost
    first, _, second = stream.records
    assert first == EventRecord(
        stream="gate",
        session=SESSION,
        type="track_started",
        time=NOON + 1,
        reason="as it is",
        at=NOON + 1,
        frame=1,
        track=7,
        prompt="car",
        score=0.5,
        box=(20.0, 20.0, 50.0, 40.0),
    )
    assert isinstance(second, EventRecord)
    assert (second.time, second.at, second.score, second.box) == (NOON + 1.5, None, None, None)


def test_the_time_of_a_file_is_when_it_was_published_and_its_own_beside():
    stream = Stream(Clock.FILE)
    stream.show({7: (20, 20, 50, 40)}, started=(7,))
    (told, view) = stream.records
    assert isinstance(told, EventRecord)
    assert isinstance(view, TrackRecord)
    assert (told.time, told.at, view.first) == (NOON + 1.5, NOON + 1, NOON + 1.5)


def test_a_picture_is_made_when_a_track_is_seen_better_but_not_at_once_again():
    stream = Stream()
    stream.show({7: (20, 20, 40, 40)})
    stream.show({7: (20, 20, 80, 80)}, later=PAUSE / 2)
    assert len(stream.pictures()) == 1
    stream.show({7: (20, 20, 81, 81)}, later=PAUSE / 2)
    stream.show({7: (20, 20, 83, 83)}, later=PAUSE)  # hardly better
    stream.show({7: (0, 20, 100, 100)}, later=PAUSE)  # at the edge
    stream.tell(TrackChange.ENDED, 7)
    assert [r.box for r in stream.pictures()] == [(20, 20, 40, 40), (20, 20, 81, 81)]
    last = stream.records[-1]
    assert isinstance(last, TrackRecord)
    assert (last.box, last.snapshot, last.last) == ((20, 20, 81, 81), None, NOON + 1 + 3 * PAUSE)


def test_a_view_that_the_detector_confirms_is_better_than_a_larger_one_that_may_have_drifted():
    stream = Stream()
    stream.show({7: (20, 20, 60, 60)})
    stream.show({7: (22, 22, 52, 52)}, detected=((20, 20, 50, 50),))
    stream.show({7: (22, 22, 82, 82)}, detected=((90, 90, 99, 99),))  # it was somewhere else, if at all
    stream.show({7: (22, 22, 92, 92)})
    assert [r.box for r in stream.pictures()] == [(20, 20, 60, 60), (22, 22, 52, 52)]


def test_of_many_objects_on_one_frame_each_gets_its_picture_in_turn():
    stream = Stream()
    objects = {id_: (10 * id_ + 1, 20, 10 * id_ + 9, 30) for id_ in range(5)}
    for count in (MOST, 2 * MOST, 5, 5):
        stream.show(objects, later=0.1)
        assert len(stream.pictures()) == count
    assert {r.track for r in stream.pictures()} == set(objects)


def test_it_is_written_now_and_then_and_at_the_end_that_a_track_is_there():
    stream = Stream()
    stream.show({7: (20, 20, 40, 40)})
    for _ in range(3):
        stream.show({7: (20, 20, 40, 40)}, later=REFRESH / 2)
    stream.sink.finish()
    assert [r.last - NOON - 1 for r in stream.records if isinstance(r, TrackRecord)] == [0, REFRESH, 1.5 * REFRESH]


@pytest.mark.parametrize(
    "box", [(70, 50, 90, 70), (0, 0, 600, 400), (0, 0, 6, 6), (634, 474, 640, 480), (300, 470, 340, 480)]
)
def test_a_small_picture_shows_the_object_with_something_around_it(box):
    """Wherever it is; a large one is made smaller."""
    image = np.full((480, 640, 3), BLUE, np.uint8)
    image[box[1] : box[3], box[0] : box[2]] = RED
    decoded = cv2.cvtColor(cv2.imdecode(np.frombuffer(thumbnail(image, box), np.uint8), cv2.IMREAD_COLOR), 4)
    assert max(decoded.shape) <= SIDE
    assert (decoded[..., 2] > 100).any()  # something blue around it
    assert (decoded[..., 0] > 100).any()
