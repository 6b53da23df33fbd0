"""Only segments around events are kept: real files, and decisions on made-up times."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from daemon.metrics.registry import Metrics
from daemon.metrics.stream_metrics import StreamMetrics
from daemon.recording.folder import Folder, Policy
from daemon.recording.segment_recorder import SegmentRecorder
from stages.recording.around_events import AroundEvents
from stages.recording.segment import Segment, lines_of, videos
from tests.support.program import lines_of as headers_of

NOON = 1795867200.0  # 2026-11-28 12:00:00 UTC


def part(start: float) -> Segment:
    return Segment("gate", Path(f"{start}.mp4"), start, start + 9.9, 100, 1000)


@pytest.mark.parametrize(
    ("event", "kept"), [(None, []), (15, [10]), (19.95, [10, 20]), (9.95, [0, 10]), (26, [20]), (50, [])]
)
def test_a_segment_stays_where_an_event_is_near_and_is_not_decided_on_before(event: float | None, kept: list) -> None:
    """2 s before and 4 s after an event; segments of 10 s."""
    around, gone = AroundEvents(0.1, 0.1), []
    for start in (0, 10, 20, 30):
        if event is not None and start - 10 <= event < start:
            around.event(event)
        if start:
            around.complete(part(start - 10))
            gone += around.far(start)
    gone += around.far(float("inf"))
    assert [start for start in (0, 10, 20) if part(start) not in gone] == kept


def test_nothing_is_decided_before_the_last_event_that_could_be_near() -> None:
    around = AroundEvents(5, 0)
    around.complete(part(0))
    assert around.far(14.9) == []
    assert around.far(15.0) == [part(0)]
    assert around.far(100) == []


def test_a_clock_that_is_set_back_leaves_nothing_undecided_for_ever() -> None:
    around = AroundEvents(5, 5)
    around.complete(part(100))
    assert around.far(110) == []
    assert around.far(20) == [part(100)]


def test_while_nothing_is_written_events_are_decided_on_and_forgotten() -> None:
    """As in a pause of the recording: what is far goes, what is near stays, and no list grows."""
    around = AroundEvents(5, 5)
    around.complete(part(0))
    around.complete(part(10))
    around.event(22)
    assert around.far(30, writing=False) == [part(0)]
    for second in range(31, 99):
        around.event(second)
        assert around.far(second, writing=False) == []
    assert len(around._events) <= 6


class Camera:
    """A stream of 10 frames a second, in segments of 2 seconds; 1 s before and 3 s after an event are kept."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.told = folder, list[str]()
        metrics = StreamMetrics(Metrics(), "gate", [])
        more: Any = (Policy(), metrics, self.told.append, AroundEvents(1.0, 3.0))
        self.recorder = SegmentRecorder(Folder(folder), "gate", 10.0, 2.0, False, *more)

    def show(self, *numbers: int, event: int | None = None) -> None:
        for number in numbers:
            if number == event:
                self.recorder.event(NOON + number / 10)
            header = {"frame": number, "captured_at": NOON + number / 10}
            self.recorder.write(header, np.zeros((64, 64, 3), np.uint8))

    @property
    def kept(self) -> list[int]:
        """The first frames of its segments."""
        return [headers_of(lines_of(video))[0]["frame"] for video in videos(self.folder, "gate")]


def test_of_a_stream_only_what_is_around_an_event_stays_and_what_a_killed_run_left(tmp_path: Path) -> None:
    camera = Camera(tmp_path)
    camera.show(*range(115), event=48)
    assert camera.kept == [20, 40, 60, 100]
    killed = camera.kept
    camera.recorder.folder.lock.release()  # as a process that ends does
    again = Camera(tmp_path)
    again.show(*range(200, 245))
    assert again.kept == [*killed, 220, 240]
    again.recorder.close()
    assert again.kept == killed
    assert camera.told == again.told == []
