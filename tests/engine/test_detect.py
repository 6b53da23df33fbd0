"""Keyframes that wait in several streams are one call of the detector, where that pays and changes nothing."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from daemon.engine.classify import ClassifySchedule
from daemon.engine.detect import KeyframeDetector
from daemon.engine.models import Models
from daemon.engine.run_window import run_window
from daemon.engine.scheduler import Scheduler
from daemon.engine.stream_state import StreamState
from daemon.lane.outcome import Outcome
from daemon.metrics.registry import Metrics
from daemon.settings.schema import Classification, Detection, Tracking
from stages.detection.auto_threshold import FLOOR, AutoThresholds
from stages.detection.grounding_dino import EMBEDDED, GroundingDino
from stages.detection.prompts import Prompt, parse_prompts
from stages.errors import WindowError
from stages.testsrc.world import ShapesWorld
from stages.types import Clock, Detections, Frame, Image, Window
from tests.lane.lanes import new_lane
from tests.support.fakes import FakeDetector, FakeTracker


class BatchDetector(FakeDetector):
    """Its boxes say what it was asked: the picture's first pixel, its height, and the number of prompts."""

    together = 3

    def __init__(self, fault: Callable[[Sequence[Image]], Exception | None] = lambda _: None) -> None:
        super().__init__()
        self.asked: list[tuple[list[int], tuple[float, float]]] = []  # first pixels, thresholds
        self._fault = fault

    def detect(self, images, prompts, box_threshold, text_threshold) -> list[Detections]:
        self.asked.append(([int(image[0, 0, 0]) for image in images], (box_threshold, text_threshold)))
        if error := self._fault(images):
            raise error
        boxes = [(image[0, 0, 0], image.shape[0], len(prompts), 0) for image in images]
        return [Detections(np.array([box], np.float32), np.ones(1, np.float32), np.zeros(1, np.int64)) for box in boxes]


def picture(pixel: int, size: int = 8) -> Image:
    return np.full((size, size, 3), pixel, np.uint8)


def keyframe(image: Image, index: int = 0) -> Window:
    return Window(0, (Frame(index, index, Fraction(1, 30), index / 30, Clock.FILE, image),), keyframe=True)


class Streams:
    """Streams whose windows an engine would run, one after the other, in this thread."""

    def __init__(self, detector) -> None:
        self.metrics = Metrics()
        self.scheduler = Scheduler()
        self.keyframes = KeyframeDetector(detector, self.scheduler.keyframes, self.scheduler.budget.detection.add)
        self.trackers: dict[str, FakeTracker] = {}
        self._models = Models(detector, lambda *_: self._tracker)

    def add(
        self,
        name: str,
        *windows: Window,
        prompts: Sequence[str] = ("car",),
        detection: Detection | None = None,
        auto: AutoThresholds | None = None,
        outcomes: int = 100,
        before: Callable[[Window], None] = lambda _: None,
    ) -> StreamState:
        """``before`` is called when the stream's tracker gets a window."""
        lane = new_lane(name, prompts, self.metrics, tracking=Tracking(window=1), outcomes=outcomes)
        stream = StreamState(
            lane, detection or Detection(), Tracking(), ClassifySchedule(Classification()), auto, FakeTracker(before)
        )
        for window in windows:
            lane.inbox.put(window)
        self.scheduler.add(stream)
        return stream

    def run(self) -> None:
        """Until no window waits."""
        while chosen := self.scheduler.next():
            chosen[0].lane.outbox.put(run_window(self._models, self.keyframes, *chosen))

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"maskcast_{name}", labels)


def boxes(stream: StreamState) -> list[list[float] | None]:
    """What the stream's tracker got with each window."""
    return [found and found.boxes[0].tolist() for _, found in stream.tracker.windows]


def test_keyframes_that_wait_in_several_streams_are_one_call_and_each_stream_gets_its_own():
    """At most three at once; the fourth stream's goes with the second keyframes of the others."""
    detector = BatchDetector()
    streams = Streams(detector)
    made = [streams.add(name, keyframe(picture(10 + number))) for number, name in enumerate("abcd")]
    for number, stream in enumerate(made):
        stream.lane.inbox.put(keyframe(picture(20 + number), 1))
    streams.run()
    assert [pixels for pixels, _ in detector.asked] == [[10, 11, 12], [13, 20, 21], [22, 23]]
    for number, stream in enumerate(made):
        assert boxes(stream) == [[10 + number, 8, 1, 0], [20 + number, 8, 1, 0]]
        assert stream.ahead is None
        assert streams.value("detections_total", stream=stream.lane.name, prompt="car") == 2
        assert streams.value("stage_seconds_count", stream=stream.lane.name, stage="detect") == 2


def test_a_call_for_several_streams_is_charged_to_each_of_them():
    """In equal shares, although it runs within the window of one: what the engine adds for that is the whole call."""
    detector = BatchDetector()
    streams = Streams(detector)
    one, other = (streams.add(name, keyframe(picture(number))) for number, name in enumerate("ab"))
    stream, window = streams.scheduler.next()
    run_window(streams._models, streams.keyframes, stream, window)
    assert stream is one
    share = other.ahead.seconds
    assert share > 0
    assert other.lane.busy.seconds == share
    one.lane.busy.add(2 * share + 1.0)
    assert one.lane.busy.seconds == pytest.approx(share + 1.0)


def test_a_detector_that_gains_nothing_is_asked_for_one_picture_at_a_time():
    detector = BatchDetector()
    detector.together = 1
    streams = Streams(detector)
    for number, name in enumerate("abc"):
        streams.add(name, keyframe(picture(number)))
    streams.run()
    assert [pixels for pixels, _ in detector.asked] == [[0], [1], [2]]


def test_only_pictures_of_one_size_with_the_same_prompts_and_thresholds_are_one_call():
    """And only keyframes of streams that can be run now: a file whose writer is behind has to wait anyway."""
    detector = BatchDetector()
    streams = Streams(detector)
    streams.add("first", keyframe(picture(1)))
    streams.add("larger", keyframe(picture(2, size=9)))
    streams.add("prompts", keyframe(picture(3)), prompts=["car", "bus"])
    streams.add("thresholds", keyframe(picture(4)), detection=Detection(box_threshold=0.5))
    streams.add("tiles", keyframe(picture(8)), detection=Detection(tiles=2))
    streams.add("auto", keyframe(picture(5)), auto=AutoThresholds(1, 0.3))
    streams.add("no keyframe", replace(keyframe(picture(6)), keyframe=False))
    waiting = streams.add("waiting", keyframe(picture(7)), outcomes=1)
    waiting.lane.outbox.put(Outcome())
    streams.add("same", keyframe(picture(9)))
    streams.run()
    assert [pixels for pixels, _ in detector.asked] == [[1, 9], [2], [3], [4], [8], [5]]


def test_automatic_thresholds_of_streams_are_learned_from_one_call():
    """The detector is asked for every box once, each stream applies its own thresholds."""
    detector = BatchDetector()
    streams = Streams(detector)
    made = [
        streams.add(name, keyframe(picture(1)), auto=AutoThresholds(1, start))
        for name, start in (("a", 0.3), ("b", 0.6))
    ]
    streams.run()
    assert detector.asked == [([1, 1], (FLOOR, FLOOR))]
    assert [stream.lane.thresholds["car"] for stream in made] == [0.3, 0.6]
    assert all(boxes(stream) == [[1, 8, 1, 0]] for stream in made)


def test_prompts_that_change_in_between_are_detected_anew():
    """The call with the old prompts was made for nothing; the stream's tracker gets boxes for the new ones."""
    detector = BatchDetector()
    streams = Streams(detector)
    streams.add("a", keyframe(picture(1)), before=lambda _: other.lane.prompt_set.ask(parse_prompts(["car", "bus"])))
    other = streams.add("b", keyframe(picture(2)))
    streams.run()
    assert [pixels for pixels, _ in detector.asked] == [[1, 2], [2]]
    assert boxes(other) == [[2, 8, 2, 0]]


def test_a_keyframe_that_was_dropped_in_between_leaves_the_next_picture_to_detect_on():
    detector = BatchDetector()
    streams = Streams(detector)

    def drop(_: Window) -> None:
        other.lane.inbox.get(0)
        other.lane.inbox.put(keyframe(picture(3), 1))

    streams.add("a", keyframe(picture(1)), before=drop)
    other = streams.add("b", keyframe(picture(2)))
    streams.run()
    assert [pixels for pixels, _ in detector.asked] == [[1, 2], [3]]
    assert boxes(other) == [[3, 8, 1, 0]]


def test_a_call_that_fails_is_made_again_with_one_picture_and_costs_no_other_stream_anything():
    """As with one picture that gives no numbers: its own stream alone has an error."""
    detector = BatchDetector(lambda images: WindowError("no numbers") if any(i[0, 0, 0] == 2 for i in images) else None)
    streams = Streams(detector)
    a, b, c = (streams.add(name, keyframe(picture(pixel))) for name, pixel in (("a", 1), ("b", 2), ("c", 3)))
    streams.run()
    assert [pixels for pixels, _ in detector.asked] == [[1, 2, 3], [1], [2, 3], [2], [3]]
    assert (boxes(a), boxes(b), boxes(c)) == ([[1, 8, 1, 0]], [], [[3, 8, 1, 0]])
    assert streams.value("frames_dropped_total", stream="b", reason="error") == 1


def test_a_call_that_lacks_memory_is_the_last_with_several_pictures(caplog: pytest.LogCaptureFixture):
    """No stream steps down for it, since one picture does fit; one warning says so."""
    detector = BatchDetector(lambda images: torch.OutOfMemoryError("CUDA out of memory") if len(images) > 1 else None)
    streams = Streams(detector)
    made = [streams.add(name, *(keyframe(picture(i), i) for i in range(2))) for name in "abc"]
    streams.run()
    assert [len(pixels) for pixels, _ in detector.asked] == [3] + [1] * 6
    assert [len(boxes(stream)) for stream in made] == [2, 2, 2]
    assert [stream.lane.governor.step for stream in made] == [0, 0, 0]
    assert caplog.messages == ["detecting on one keyframe at a time from now on: OutOfMemoryError: CUDA out of memory"]


def test_streams_with_equal_tiles_share_calls_and_a_call_of_tiles_that_lacks_memory_is_made_tile_by_tile(caplog):
    """The first pixel of a tile is its picture's; the fake detector's boxes are larger than a tile, so none is cut."""

    def fault(images: Sequence[Image]) -> Exception | None:
        small = images[0].shape[1] < 80
        return torch.OutOfMemoryError("CUDA out of memory") if small and len(images) > 1 else None

    detector = BatchDetector(fault)
    detector.scale = lambda height, width: 40 / width
    streams = Streams(detector)
    made = [
        streams.add(name, keyframe(picture(pixel, size=80)), detection=Detection(tiles=2))
        for name, pixel in (("a", 1), ("b", 2))
    ]
    streams.run()
    assert [pixels for pixels, _ in detector.asked] == [[1, 2], [1, 1, 2], [1], [1], [1], [2], [2], [2]]
    assert [len(stream.tracker.windows) for stream in made] == [1, 1]
    assert [stream.lane.governor.step for stream in made] == [0, 0]
    assert caplog.messages == ["detecting on one keyframe at a time from now on: OutOfMemoryError: CUDA out of memory"]


def test_tiles_of_a_single_stream_go_on_one_by_one_after_a_call_that_lacked_memory():
    detector = BatchDetector(lambda images: torch.OutOfMemoryError("CUDA out of memory") if len(images) > 1 else None)
    detector.scale = lambda height, width: 40 / width
    streams = Streams(detector)
    stream = streams.add("a", *(keyframe(picture(i, size=80), i) for i in (1, 2)), detection=Detection(tiles=2))
    streams.run()
    assert [pixels for pixels, _ in detector.asked] == [[1], [1, 1], [1], [1], [1], [2], [2], [2]]
    assert len(stream.tracker.windows) == 2
    assert stream.lane.governor.step == 0


def test_the_detections_of_one_call_are_those_of_single_calls():
    """The embedded model through several streams, within float rounding."""
    model = GroundingDino(EMBEDDED, torch.device("cpu"), torch.float32)
    images = [ShapesWorld(seed, objects=8).render(0)[0] for seed in (500, 501, 502)]
    asked: tuple[Prompt, ...] = parse_prompts(["red circle", "green circle", "blue square", "yellow star"])
    found: dict[int, list[Detections]] = {}
    for together in (1, 3):
        model.together = together
        streams = Streams(model)
        made = [
            streams.add(str(i), keyframe(image), prompts=[prompt.written for prompt in asked])
            for i, image in enumerate(images)
        ]
        streams.run()
        found[together] = [stream.tracker.windows[0][1] for stream in made]
    assert sum(map(len, found[1])) > 2
    for one, other in zip(found[1], found[3], strict=True):
        np.testing.assert_array_equal(one.prompts, other.prompts)
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)
        np.testing.assert_allclose(one.boxes, other.boxes, atol=1e-2)
