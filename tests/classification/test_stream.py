"""Classes in the stream: which frames have them, what a fault costs, how long they stay on the picture."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from daemon.engine.classify import ClassifySchedule
from daemon.engine.engine import Engine
from daemon.engine.models import Models
from daemon.engine.stream_state import StreamState
from daemon.lane.outcome import Outcome
from daemon.metrics.registry import Metrics
from daemon.settings.schema import Classification, Detection, Tracking
from daemon.sinks.recording import Recording
from daemon.stream.latency import Latency
from daemon.stream.rendering import Renderer
from daemon.stream.writer import Identity, Writer
from stages.errors import WindowError
from stages.output.recorder import Recorder
from stages.types import Image, Label, Result, StreamEvent, Track, TrackState, Window
from tests.lane.lanes import new_lane
from tests.support.fakes import FakeDetector, FakeTracker, frames, window
from tests.support.program import lines_of


class FakeClassifier:
    """Classifies images by their size; calls ``before`` with them first."""

    def __init__(self, before: Callable[[Sequence[Image]], None] = lambda _: None) -> None:
        self.batches: list[int] = []
        self._before = before

    def classify(self, images: Sequence[Image], top: int = 3) -> list[tuple[Label, ...]]:
        self._before(images)
        self.batches.append(len(images))
        names = [f"{image.shape[1]}x{image.shape[0]}" for image in images]
        return [tuple(Label(name, 1 / (1 + place)) for place in range(top)) for name in names]


def results(*indices: int, epoch: int = 0) -> list[Result]:
    return [Result(frame, epoch, False, (), torch.zeros(0, 2, 2)) for frame in frames(*indices)]


def classified(found: Sequence[Result]) -> list[int]:
    return [result.frame.index for result in found if result.classes is not None]


def test_the_first_frame_and_every_nth_after_it_have_classes_a_window_in_one_batch() -> None:
    turns, classifier = ClassifySchedule(Classification(every=3)), FakeClassifier()
    found: list[Result] = []
    for indices in ((0, 1, 2, 3), (4, 5), (6, 7, 8, 9)):
        told, seconds = turns.classify(classifier, results(*indices))
        assert ("classify" in seconds) == (indices != (4, 5))
        found += told
    assert [result.frame.index for result in found] == list(range(10))
    assert classified(found) == [0, 3, 6, 9]
    assert classifier.batches == [2, 2]
    assert found[0].classes == (Label("8x8", 1), Label("8x8", 1 / 2), Label("8x8", 1 / 3))


def test_a_new_epoch_begins_with_a_classified_frame() -> None:
    turns, classifier = ClassifySchedule(Classification(every=4)), FakeClassifier()
    first, _ = turns.classify(classifier, results(0, 1))
    second, _ = turns.classify(classifier, results(2, 3, 4, 5, 6, epoch=1))
    assert classified([*first, *second]) == [0, 2, 6]


def test_each_object_that_shows_gets_the_best_class_of_its_crop_with_its_id() -> None:
    masks = torch.full((3, 8, 8), -1.0)
    masks[0, :2, :2] = masks[2, 4:, 4:] = 1
    states = (TrackState.TRACKED, TrackState.OCCLUDED, TrackState.NEW)
    tracks = tuple(Track(5 + i, 0, 0, 0, state, 0.9, 0.9) for i, state in enumerate(states))
    [result] = results(0)
    turns = ClassifySchedule(Classification(target="objects"))
    [told], _ = turns.classify(FakeClassifier(), [replace(result, tracks=tracks, logits=masks)])
    assert told.classes == (Label("3x3", 1, id=5), Label("5x5", 1, id=7))


def test_a_frame_without_objects_counts_as_classified() -> None:
    [told], _ = ClassifySchedule(Classification(target="objects")).classify(FakeClassifier(), results(0))
    assert told.classes == ()


class Bench:
    """One lane that has ended, through an engine of fakes with this classifier."""

    def __init__(self, classifier: FakeClassifier, *windows: Window, every: int = 2) -> None:
        self.metrics, self.tracker = Metrics(), FakeTracker()
        engine = Engine(lambda: Models(FakeDetector(), lambda *_: self.tracker, classifier=classifier))
        lane = new_lane("gate", ["car"], self.metrics, tracking=Tracking(window=2), wake=engine.wake)
        self.governor = lane.governor
        for each in windows:
            lane.inbox.put(each)
        lane.inbox.close()
        engine.add(StreamState(lane, Detection(), Tracking(), ClassifySchedule(Classification(every=every))))
        engine.start()
        self.outcomes: list[Outcome] = []
        while not lane.outbox.drained:
            outcome = lane.outbox.get(20)
            self.outcomes += [outcome] if outcome else []
        assert engine.close(20)

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"maskcast_{name}", {"stream": "gate", **labels})


def failing(error: Exception, *at: int) -> FakeClassifier:
    """Raises ``error`` in the calls with these numbers."""
    calls = iter(range(1000))

    def fail(_: Sequence[Image]) -> None:
        if next(calls) in at:
            raise error

    return FakeClassifier(fail)


@pytest.mark.parametrize("error", [WindowError("scores are not numbers"), RuntimeError("scores are\nnot numbers")])
def test_a_fault_of_the_classifier_costs_the_classes_of_its_window_and_nothing_else(error: Exception) -> None:
    bench = Bench(failing(error, 1), window(0, 1), window(2, 3), window(4, 5))
    found = [result for outcome in bench.outcomes for result in outcome.results]
    assert [result.frame.index for result in found] == list(range(6))
    assert classified(found) == [0, 4]
    assert len(bench.tracker.windows) == 3
    told = [notice for outcome in bench.outcomes for notice in outcome.notices]
    assert [notice.event for notice in told] == [StreamEvent.ERROR]
    assert told[0].reason.endswith("scores are not numbers")
    assert bench.value("frames_dropped_total", reason="error") == 0
    assert bench.value("frames_total", stage="tracked") == 6
    assert bench.value("stage_seconds_count", stage="classify") == 2


def test_a_classifier_that_finds_no_memory_makes_the_governor_step_down() -> None:
    bench = Bench(failing(torch.OutOfMemoryError("CUDA out of memory"), 0), window(0, 1), window(2, 3))
    assert bench.governor.step == 1
    assert {notice.event for outcome in bench.outcomes for notice in outcome.notices} == {
        StreamEvent.ERROR,
        StreamEvent.GOVERNOR,
    }
    assert classified([result for outcome in bench.outcomes for result in outcome.results]) == [2]


def test_classes_stay_on_the_picture_until_there_are_others_but_only_their_own_frame_says_them(tmp_path: Path) -> None:
    lane = new_lane("gate", (), Metrics())
    recording = Recording("gate", lambda rate, _: Recorder(tmp_path, "gate", rate, frames=True), lane.metrics, True)
    recording.open(10.0, False)
    writer = Writer(Identity("gate", "s", {}), lane, Renderer(100, ()), [recording], Latency())
    grey = np.full((96, 96, 3), 90, np.uint8)
    plain = [replace(result, frame=replace(result.frame, image=grey)) for result in results(0, 1, 2, 3)]
    plain[1] = replace(plain[1], classes=(Label("day", 0.9),))
    plain[3] = replace(plain[3], epoch=1)
    writer.write(Outcome(tuple(plain)))
    writer.close("done")
    assert [bool(line["classes"]) for line in lines_of(tmp_path / "gate.masks.jsonl")] == [False, True, False, False]
    pictures = [cv2.imread(str(tmp_path / "gate-frames" / f"{index:06d}.jpg")) for index in range(4)]
    assert [bool((picture[-4:, :20] < 60).any()) for picture in pictures] == [False, True, True, False]
