"""Streams through the engine's own scheduler and windows, frame after frame, in the caller's thread."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from unittest.mock import patch

from daemon.engine.classify import ClassifySchedule
from daemon.engine.detect import KeyframeDetector
from daemon.engine.models import Models
from daemon.engine.run_window import run_window
from daemon.engine.scheduler import Scheduler
from daemon.engine.stream_state import StreamState
from daemon.lane.lane import WINDOWS, Lane, size_of
from daemon.lane.mailbox import Mailbox
from daemon.lane.outcome import Outcome
from daemon.lane.prompt_set import PromptSet
from daemon.limits.governor import Governor
from daemon.metrics.registry import Metrics
from daemon.metrics.stream_metrics import StreamMetrics
from daemon.settings.schema import Classification, Detection, Tracking
from stages.detection.base import Detector
from stages.detection.prompts import Prompt
from stages.keyframes.motion import MotionWatch
from stages.tracking.tracker import Tracker
from stages.types import Clock, Frame, Image, Motion, Result, Window


class VirtualTime:
    """Seconds that pass when they are told to; ``running`` puts them in place of the process's clocks."""

    def __init__(self) -> None:
        self.now = 1000.0

    def read(self) -> float:
        return self.now

    def running(self) -> "patch":
        return patch.multiple(time, monotonic=self.read, perf_counter=self.read)


class EngineRun:
    """What the engine does with its streams, without its thread."""

    def __init__(self, detector: Detector, new_tracker: Callable[[], Tracker]) -> None:
        self._models = Models(detector, lambda *_: new_tracker())
        self._scheduler = Scheduler()
        budget = self._scheduler.budget
        self._keyframes = KeyframeDetector(detector, self._scheduler.keyframes, budget.detection.add)
        self._metrics = Metrics()

    def add(self, name: str, prompts: Sequence[Prompt], detection: Detection, live: bool, window: int) -> StreamState:
        """A stream, to whose inbox the caller gives windows."""
        tracking, metrics = Tracking(window=window), StreamMetrics(self._metrics, name, [p.written for p in prompts])
        inbox: Mailbox[Window] = Mailbox(WINDOWS * window, size=size_of)
        outbox: Mailbox[Outcome] = Mailbox(WINDOWS * window, size=size_of)
        lane = Lane(name, PromptSet(prompts), metrics, Governor(tracking), inbox, outbox)
        if live:
            lane.drop_when_full()
        stream = StreamState(lane, detection, tracking, ClassifySchedule(Classification()))
        self._scheduler.add(stream)
        return stream

    def step(self) -> tuple[StreamState, tuple[Result, ...]] | None:
        """Run the window that the engine would run next; None where none can be run. Raises what went wrong in it."""
        chosen = self._scheduler.next()
        if chosen is None or chosen[1] is None:
            return None
        stream, window = chosen
        began = time.perf_counter()
        outcome = run_window(self._models, self._keyframes, stream, window)
        if stream.lane.live:
            self._scheduler.budget.work.add(time.perf_counter() - began)
        if stream.lane.error is not None:
            raise stream.lane.error
        return stream, outcome.results

    def track(self, stream: StreamState, frames: Iterator[Frame]) -> Iterator[Result]:
        """The results of a file."""
        watch = MotionWatch()
        for number, frame in enumerate(frames):
            stream.lane.inbox.put(Window(0, (replace(frame, motion=watch.look(frame.image)),), number == 0))
            while done := self.step():
                yield from done[1]
        stream.lane.inbox.close()
        while done := self.step():
            yield from done[1]


def frame_of(image: Image, index: int, clock: Clock = Clock.FILE, motion: Motion | None = None) -> Frame:
    """A frame of a stream with 30 frames a second."""
    return Frame(index, index, Fraction(1, 30), index / 30, clock, image, motion=motion)
