"""The one thread that runs the models. Small fakes stand for the models, so that faults can be ordered."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from daemon.engine.classify import ClassifySchedule
from daemon.engine.engine import Engine
from daemon.engine.models import Models
from daemon.engine.scheduler import Scheduler
from daemon.engine.stream_state import StreamState
from daemon.lane.drop_policy import fold_outcome
from daemon.lane.lane import Lane
from daemon.lane.outcome import Notice, Outcome
from daemon.metrics.registry import Metrics
from daemon.settings.schema import Classification, Detection, Tracking
from stages.detection.auto_threshold import FLOOR, WARM_UP, AutoThresholds
from stages.detection.prompts import parse_prompts
from stages.errors import ConfigError, ModelError, WindowError
from stages.types import Detections, StreamEvent, Window
from tests.lane.lanes import new_lane
from tests.support.fakes import FakeDetector, FakeTracker, models, window
from tests.support.program import PATIENCE, wait_until


class Bench:
    """An engine and its lanes; the models load when ``go`` is called."""

    def __init__(self, made: Models | Exception) -> None:
        self._made, self._go = made, threading.Event()
        self.metrics = Metrics()
        self.engine = Engine(self._load)
        self.engine.start()

    def _load(self) -> Models:
        self._go.wait(PATIENCE)
        if isinstance(self._made, Exception):
            raise self._made
        return self._made

    def lane(
        self,
        name: str,
        *windows: Window,
        outcomes: int = 100,
        live: bool = False,
        closed: bool = True,
        auto: AutoThresholds | None = None,
        prompts: tuple[str, ...] = ("red circle",),
        longest: int = 1,
    ) -> Lane:
        """A lane with windows waiting; ``closed``: no more will come. They are joined up to ``longest`` frames."""
        tracking = Tracking(window=longest)
        lane = new_lane(name, list(prompts), self.metrics, tracking=tracking, outcomes=outcomes, wake=self.engine.wake)
        if live:
            lane.outbox.drop_oldest(fold_outcome)
        for each in windows:
            lane.inbox.put(each)
        if closed:
            lane.inbox.close()
        self.engine.add(StreamState(lane, Detection(), Tracking(), ClassifySchedule(Classification()), auto))
        return lane

    def go(self) -> None:
        self._go.set()

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"maskcast_{name}", labels)


@pytest.fixture
def new_bench() -> Iterator[Callable[..., Bench]]:
    benches: list[Bench] = []

    def make(made: Models | Exception | None = None) -> Bench:
        benches.append(Bench(made or models()))
        return benches[-1]

    yield make
    for bench in benches:
        bench.go()
        assert bench.engine.close(PATIENCE)


@pytest.fixture
def bench(new_bench) -> Bench:
    return new_bench()


def outcomes(lane: Lane) -> list[Outcome]:
    """All that comes out until the lane is drained."""
    got = []
    deadline = time.monotonic() + PATIENCE
    while not lane.outbox.drained:
        assert time.monotonic() < deadline, "the lane never ended"
        outcome = lane.outbox.get(0.1)
        if outcome is not None:
            got.append(outcome)
    return got


def indices(found: list[Outcome]) -> list[int]:
    return [result.frame.index for outcome in found for result in outcome.results]


def test_every_frame_comes_out_once_in_order_and_the_end_is_passed_on(bench):
    lane = bench.lane("a", window(0, 1, 2, keyframe=True), window(3, 4), window(5))
    bench.go()
    assert indices(outcomes(lane)) == [0, 1, 2, 3, 4, 5]
    assert bench.value("frames_total", stream="a", stage="tracked") == 6
    assert bench.value("track_memory_bytes", stream="a") == 42


def test_a_window_of_a_burst_waits_for_the_writer_until_it_is_due(bench):
    def due(index: int, at: float) -> Window:
        return replace(window(index), frames=tuple(replace(frame, due=at) for frame in window(index).frames))

    later = due(2, time.monotonic() + PATIENCE)
    lane = bench.lane("a", due(0, 0.0), due(1, 0.0), later, outcomes=1, live=True)
    bench.go()
    wait_until(lambda: lane.inbox.peek() == (later,) and not lane.outbox.fits(1))
    time.sleep(0.1)
    assert lane.inbox.peek() == (later,)
    assert indices(outcomes(lane)) == [1, 2]


def test_the_stream_whose_window_has_waited_longest_runs_first(new_bench):
    order: list[str] = []
    trackers = iter([FakeTracker(lambda w: order.append("a")), FakeTracker(lambda w: order.append("b"))])
    bench = new_bench(Models(FakeDetector(), lambda *_: next(trackers)))
    lanes = {name: bench.lane(name, closed=False) for name in "ab"}
    for number, name in enumerate("abbabbba"):
        lanes[name].inbox.put(window(number))
    for lane in lanes.values():
        lane.inbox.close()
    bench.go()
    for lane in lanes.values():
        outcomes(lane)
    assert "".join(order) == "abbabbba"


def test_streams_whose_queues_are_full_get_equal_turns():
    scheduler = Scheduler()
    lanes = [new_lane(name, ["red circle"], Metrics(), windows=4) for name in "abcdefgh"]
    for lane in lanes:
        lane.drop_when_full()
        scheduler.add(StreamState(lane, Detection(), Tracking(), ClassifySchedule(Classification()), None))
    order = []
    for tick in range(4 + 80):
        for lane in lanes:
            lane.inbox.put(window(tick))
        if tick >= 4 and (chosen := scheduler.next()) is not None:
            order.append(chosen[0].lane.name)
    assert Counter(order) == dict.fromkeys("abcdefgh", 10)


def test_frames_that_wait_are_tracked_together_up_to_the_longest_window_and_the_next_frame_that_may_be_a_keyframe(
    new_bench,
):
    tracker = FakeTracker()
    bench = new_bench(models(tracker))
    singles = (window(i, keyframe=i in (0, 6)) for i in range(10))
    lane = bench.lane("a", *singles, longest=4)
    bench.go()
    assert indices(outcomes(lane)) == list(range(10))
    lengths = [[frame.index for frame in taken.frames] for taken, _ in tracker.windows]
    assert lengths == [[0, 1, 2, 3], [4], [5], [6, 7, 8, 9]]
    assert [found is not None for _, found in tracker.windows] == [True, False, False, True]


def test_the_detector_runs_on_keyframes_only_and_its_boxes_go_to_the_tracker(new_bench):
    tracker, detector = FakeTracker(), FakeDetector()
    bench = new_bench(models(tracker, detector))
    lane = bench.lane("a", window(0, 1, keyframe=True), window(2, 3))
    bench.go()
    outcomes(lane)
    assert [found is not None for _, found in tracker.windows] == [True, False]
    assert detector.calls == 1
    assert bench.value("detections_total", stream="a", prompt="red circle") == 1


class WeakDetector(FakeDetector):
    """One sure box of the first prompt, one weak one, and many of nothing; keeps the thresholds it was asked with."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: set[tuple[float, float]] = set()

    def detect(self, images, prompts, box_threshold, text_threshold) -> list[Detections]:
        self.asked.add((box_threshold, text_threshold))
        scores = np.array([0.9, 0.2, *np.linspace(0.02, 0.003, 20)], np.float32)
        scores = scores[scores >= box_threshold]
        boxes, owners = np.zeros((len(scores), 4), np.float32), np.zeros(len(scores), np.int64)
        return [Detections(boxes, scores, owners) for _ in images]


@pytest.mark.parametrize("automatic", [False, True])
def test_automatic_thresholds_ask_for_every_box_and_hand_on_those_that_reach(new_bench, automatic):
    """At first the fixed ones; once the stream's background is known, the weak box comes through too."""
    tracker, detector = FakeTracker(), WeakDetector()
    bench = new_bench(models(tracker, detector))
    auto = AutoThresholds(1, Detection().least_score) if automatic else None
    lane = bench.lane("a", *(window(i, keyframe=True) for i in range(40)), auto=auto)
    assert lane.thresholds == {"red circle": 0.3}
    bench.go()
    outcomes(lane)
    found = [len(detections) for _, detections in tracker.windows]
    assert found[:WARM_UP] == [1] * WARM_UP
    assert found[-1] == (2 if automatic else 1)
    assert (lane.thresholds["red circle"] < 0.2) is automatic
    assert detector.asked == {(FLOOR, FLOOR) if automatic else (0.25, 0.3)}
    assert bench.value("detections_total", stream="a", prompt="red circle") == sum(found)


def test_what_automatic_thresholds_have_learned_survives_a_fault(new_bench):
    tracker = _failing_at(30, RuntimeError())
    bench = new_bench(models(tracker, WeakDetector()))
    lane = bench.lane("a", *(window(i, keyframe=True) for i in range(32)), auto=AutoThresholds(1, 0.3))
    bench.go()
    assert indices(outcomes(lane)) == [*range(30), 31]
    assert len(tracker.windows[-1][1]) == 2


def _failing_at(index: int, error: Exception) -> FakeTracker:
    def fail(window: Window) -> None:
        if window.frames[0].index == index:
            raise error

    return FakeTracker(fail)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (WindowError("the picture is too small"), "the picture is too small"),
        (RuntimeError("shapes\ndiffer"), "RuntimeError: shapes differ"),
    ],
)
def test_a_fault_costs_its_window_only_and_is_told_with_its_reason(new_bench, error, reason):
    bench = new_bench(models(_failing_at(2, error)))
    lane = bench.lane("a", window(0, 1, keyframe=True), window(2, 3), window(4, 5))
    bench.go()
    found = outcomes(lane)
    assert indices(found) == [0, 1, 4, 5]
    assert found[1].notices == (Notice(StreamEvent.ERROR, reason),)
    assert bench.value("frames_dropped_total", stream="a", reason="error") == 2


def test_the_window_after_a_failed_keyframe_detects_in_its_place_and_says_what_was_lost(new_bench):
    bench = new_bench(models(_failing_at(0, RuntimeError())))
    lane = bench.lane("a", window(0, 1, keyframe=True), window(2, 3))
    bench.go()
    first, second = outcomes(lane)[1].results
    assert (first.frame.index, first.frame.dropped_before, first.keyframe) == (2, 2, True)
    assert (second.frame.dropped_before, second.keyframe) == (0, False)


def test_tracks_of_a_prompt_that_is_gone_end_at_a_later_keyframe_where_that_failed_at_the_first(new_bench):
    class Forgetting(FakeTracker):
        def __init__(self) -> None:
            super().__init__()
            self.forgotten: list[set[int]] = []

        def forget(self, prompts) -> None:
            self.forgotten.append(set(prompts))
            if len(self.forgotten) == 1:
                raise WindowError("out of memory")

    tracker = Forgetting()
    bench = new_bench(models(tracker))
    lane = bench.lane("gate", window(0, keyframe=True), window(1))
    lane.prompt_set.ask(parse_prompts(["dog"]))
    bench.go()
    assert indices(outcomes(lane)) == [1]
    assert tracker.forgotten == [{0}, {0}]


def test_a_lane_whose_writer_has_gone_is_over_although_a_notice_waits():
    scheduler, lane = Scheduler(), new_lane("gate", ["red circle"], Metrics())
    scheduler.add(StreamState(lane, Detection(), Tracking(), ClassifySchedule(Classification())))
    lane.inbox.close()
    lane.tell(Notice(StreamEvent.SOURCE_UP, "opened"), 0)
    assert scheduler.retire() == []
    lane.outbox.close(discard=True)
    assert [stream.lane for stream in scheduler.retire()] == [lane]


def test_a_fault_in_one_stream_leaves_the_others_alone(new_bench):
    trackers = iter([_failing_at(0, RuntimeError()), FakeTracker()])
    bench = new_bench(Models(FakeDetector(), lambda *_: next(trackers)))
    broken, sound = bench.lane("a", window(0)), bench.lane("b", window(0), window(1))
    bench.go()
    assert indices(outcomes(broken)) == []
    assert indices(outcomes(sound)) == [0, 1]


def test_a_tracker_that_loses_a_frame_is_a_fault(new_bench):
    tracker = FakeTracker()
    tracker.step = lambda window, detections: []
    bench = new_bench(models(tracker))
    lane = bench.lane("a", window(0))
    bench.go()
    assert outcomes(lane)[0].notices[0].event is StreamEvent.ERROR


def test_a_prompt_that_cannot_be_read_ends_its_stream_at_the_first_window(new_bench):
    bench = new_bench(models(_failing_at(0, ConfigError("prompt 'x' is too long"))))
    lane = bench.lane("a", window(0, keyframe=True), window(1), closed=False)
    bench.go()
    assert len(outcomes(lane)) == 1
    assert isinstance(lane.error, ConfigError)
    assert not lane.inbox.put(window(2))


def test_models_that_cannot_be_loaded_stop_the_engine_and_end_every_stream(new_bench):
    bench = new_bench(ModelError("no weights"))
    first, second = bench.lane("a", window(0), closed=False), bench.lane("b", window(1), closed=False)
    bench.go()
    outcomes(first), outcomes(second)
    assert bench.engine.close(PATIENCE)
    assert isinstance(bench.engine.error, ModelError)


def test_a_stream_that_comes_after_the_engine_stopped_ends_at_once(bench):
    bench.go()
    assert bench.engine.close(PATIENCE)
    lane = bench.lane("late", window(0), closed=False)
    assert lane.outbox.drained
    assert not lane.inbox.put(window(1))


def test_a_file_whose_writer_is_slow_waits_in_its_inbox_and_loses_nothing_while_others_go_on(bench):
    slow = bench.lane("slow", *(window(i) for i in range(5)), outcomes=1)
    other = bench.lane("other", *(window(i) for i in range(50)))
    bench.go()
    assert indices(outcomes(other)) == list(range(50))
    assert len(slow.inbox.peek()) == 4
    assert indices(outcomes(slow)) == [0, 1, 2, 3, 4]


def test_the_writer_of_a_live_stream_is_never_waited_for(bench):
    live = bench.lane("live", *(window(i) for i in range(50)), outcomes=1, live=True)
    bench.go()
    wait_until(lambda: not live.inbox.peek())
    [last] = outcomes(live)
    assert indices([last]) == [49]
    assert last.lost_frames == 49


def test_a_stream_whose_prompt_cannot_be_read_ends_before_its_first_frame_and_says_why(bench):
    """The source of such a stream, a camera that is down, may never deliver one."""
    lane = bench.lane("camera", closed=False, prompts=("snowman",))
    bench.go()
    [outcome] = outcomes(lane)
    assert outcome.notices == (Notice(StreamEvent.ERROR, "the detector knows no word of 'snowman'"),)
    assert isinstance(lane.error, ConfigError)
    assert not lane.inbox.put(window(0))


def test_unknown_words_are_warned_about_once_for_each_change_of_prompts(bench, caplog):
    lane = bench.lane("a", *(window(i, keyframe=True) for i in range(3)), closed=False, prompts=("zebra",))
    bench.go()
    wait_until(lambda: len(lane.outbox.peek()) == 3)
    assert caplog.messages == ["stream a: does not know zebra"]
    lane.prompt_set.ask(parse_prompts(["zebra", "car"]))
    lane.wake()
    wait_until(lambda: len(caplog.messages) == 2)
    lane.inbox.close()
    outcomes(lane)
    assert caplog.messages == ["stream a: does not know zebra"] * 2
