"""On which frames of the streams the engine detects: where need is greatest, within its time, in reckoned seconds."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from daemon.engine.stream_state import StreamState
from daemon.settings.schema import Detection
from stages.detection.prompts import parse_prompts
from stages.types import Clock, Detections, Motion, Result, TrackChange, Window
from tests.benchmarks.support.engine_run import EngineRun, VirtualTime
from tests.keyframes.results import frame, result
from tests.support.fakes import FakeDetector, FakeTracker

RATE = 30
DETECT, TRACK = 0.02, 0.002  # seconds of a picture, of a frame
PROMPTS = parse_prompts(["car"])
CUT = Motion(True, None)


class TimedDetector(FakeDetector):
    """Takes ``seconds`` for a picture."""

    def __init__(self, time: VirtualTime, seconds: float) -> None:
        super().__init__()
        self._time, self._seconds = time, seconds

    def detect(self, images, prompts, box_threshold, text_threshold) -> list[Detections]:
        self._time.now += self._seconds * len(images)
        return super().detect(images, prompts, box_threshold, text_threshold)


class TimedTracker(FakeTracker):
    """Takes ``seconds`` for a frame. Things change at a steady rate a frame; a keyframe finds what has changed."""

    def __init__(self, time: VirtualTime, rate: float, seconds: float) -> None:
        super().__init__()
        self._time, self._rate, self._seconds = time, rate, seconds
        self._looked_at = 0

    def step(self, window, detections):
        self._time.now += self._seconds * len(window.frames)
        return [
            replace(self._result(each.index, detections is not None and each is window.frames[0]), frame=each)
            for each in window.frames
        ]

    def _result(self, index: int, looked: bool) -> Result:
        if not looked:
            return result(index)
        changes = int(self._rate * index) - int(self._rate * self._looked_at)
        self._looked_at = index
        return replace(result(index, *[TrackChange.STARTED] * changes, looked=True), keyframe=True)


@dataclass
class Cameras:
    """Live streams of 30 frames a second each, in which things change."""

    rates: dict[str, float]  # changes a frame
    share: float = 0.2
    detect: float = DETECT
    track: float = TRACK
    cuts: Callable[[int], bool] = lambda _: False
    keyframes: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    seconds: float = 0.0  # that all took
    calls: int = 0

    def run(self, frames: int) -> "Cameras":
        time = VirtualTime()
        detector = TimedDetector(time, self.detect)
        with time.running():
            trackers = iter(self.rates.values())
            engine = EngineRun(detector, lambda: TimedTracker(time, next(trackers), self.track))
            detection = Detection(share=self.share)
            states = {name: engine.add(name, PROMPTS, detection, True, 8) for name in self.rates}
            began = time.now
            for t in range(frames):
                for number, state in enumerate(states.values()):
                    time.now = max(time.now, began + (t + number / len(states)) / RATE)
                    shown = frame(t, CUT if self.cuts(t) else None, Clock.ARRIVAL)
                    state.lane.inbox.put(Window(0, (shown,), t == 0))
                    self._take(engine)
            self.seconds = time.now - began
        self.calls = detector.calls
        return self

    def _take(self, engine: EngineRun) -> None:
        """Run a window, as an engine that is as fast as its clock would."""
        while (done := engine.step()) is not None:
            self.keyframes[done[0].lane.name] += [r.frame.index for r in done[1] if r.keyframe]

    def every(self, name: str, since: int = 300) -> float:
        """Mean frames from one keyframe to the next."""
        found = [t for t in self.keyframes[name] if t >= since]
        return (found[-1] - found[0]) / (len(found) - 1)


def test_on_an_idle_machine_a_busy_stream_has_a_keyframe_at_least_every_ten_frames_and_a_quiet_one_the_fewest():
    cameras = Cameras({"busy": 0.1, "quiet": 0}).run(900)
    assert cameras.every("busy") <= 10
    assert cameras.every("quiet") == 30


@pytest.mark.parametrize("share", [0.15, 0.2, 0.3])
def test_detection_takes_its_share_of_the_time_and_the_busy_streams_get_it(share):
    cameras = Cameras({"busy": 0.3, "busy too": 0.3, "quiet": 0, "quiet too": 0}, share).run(900)
    assert cameras.calls * DETECT / cameras.seconds == pytest.approx(share, rel=0.15)
    assert cameras.every("quiet") == cameras.every("quiet too") == 30
    assert cameras.every("busy") == pytest.approx(cameras.every("busy too"), rel=0.1)
    assert cameras.every("busy") < 30


def test_of_two_busy_streams_the_busier_one_gets_more_by_the_square_root():
    cameras = Cameras({"busier": 0.4, "busy": 0.1}, share=0.1).run(1500)
    assert cameras.every("busy") / cameras.every("busier") == pytest.approx(2, rel=0.2)


def test_a_share_of_none_leaves_keyframes_evenly_spaced():
    cameras = Cameras({"busy": 0.3}, share=0.0).run(200)
    assert cameras.keyframes["busy"] == list(range(0, 200, 30))


def test_an_engine_without_time_to_spare_falls_back_to_the_fewest():
    cameras = Cameras({"busy": 0.3, "busy too": 0.3}, share=0.5, track=1 / RATE / 2).run(900)
    assert cameras.every("busy") >= 25


def test_keyframes_that_must_come_count_as_detection_too():
    """They take all of the share here, so that there are no others."""
    cameras = Cameras(dict.fromkeys("abcdefgh", 0.3), share=0.1, detect=0.0125).run(600)
    assert {round(cameras.every(name)) for name in "abcdefgh"} == {30}


@pytest.mark.parametrize("rate", [0, 5], ids=["nothing found", "all new each time"])
def test_cuts_on_every_frame_stay_within_the_share(rate):
    cameras = Cameras({"flicker": rate}, share=0.05, cuts=lambda t: t > 0).run(900)
    assert cameras.calls * DETECT / cameras.seconds <= 0.05 * 1.2


def test_a_cut_on_a_quiet_stream_is_looked_at_at_once():
    cameras = Cameras({"quiet": 0}, cuts=lambda t: t == 617).run(700)
    assert 617 in cameras.keyframes["quiet"]


def test_a_stream_that_fell_silent_does_not_hold_up_the_others():
    """It needs a keyframe more than they do, but has no frame to detect on."""
    time = VirtualTime()
    with time.running():
        trackers = iter((TimedTracker(time, 1, TRACK), TimedTracker(time, 0.1, TRACK)))
        engine = EngineRun(TimedDetector(time, DETECT), lambda: next(trackers))
        silent, busy = (engine.add(name, PROMPTS, Detection(), True, 8) for name in ("silent", "busy"))
        keyframes = []
        for t in range(600):
            time.now += 1 / RATE
            for state in (silent, busy) if t < 107 else (busy,):
                state.lane.inbox.put(Window(0, (frame(t, clock=Clock.ARRIVAL),), t == 0))
                while (done := engine.step()) is not None:
                    keyframes += [r.frame.index for r in done[1] if r.keyframe and done[0] is busy]
    late = [t for t in keyframes if t > 200]
    assert len(late) >= 400 / 10


def test_streams_without_prompts_are_not_detected_on():
    time = VirtualTime()
    with time.running():
        detector = TimedDetector(time, DETECT)
        engine = EngineRun(detector, lambda: TimedTracker(time, 0.3, TRACK))
        stream: StreamState = engine.add("a", (), Detection(), True, 8)
        for t in range(100):
            time.now += 1 / RATE
            stream.lane.inbox.put(Window(0, (frame(t, clock=Clock.ARRIVAL),), t == 0))
            while engine.step() is not None:
                pass
    assert detector.calls == 0


def file_keyframes(seconds: float, window: int) -> list[int]:
    """Those of a file, where each picture and each frame takes so long."""
    time = VirtualTime()
    with time.running():
        engine = EngineRun(TimedDetector(time, seconds), lambda: TimedTracker(time, 0.05, seconds))
        file = engine.add("file", PROMPTS, Detection(), False, window)
        results = list(engine.track(file, (frame(t) for t in range(300))))
    assert [r.frame.index for r in results] == list(range(300))
    return [r.frame.index for r in results if r.keyframe]


def test_a_file_has_its_keyframes_by_count_and_need_whatever_the_time_and_the_windows():
    found = file_keyframes(0.0001, window=8)
    assert 10 < len(found) <= 60
    assert file_keyframes(0.1, window=8) == found
    assert file_keyframes(0.1, window=3) == found
