"""Decides which stream the engine runs next, and with what."""

import threading
import time
from dataclasses import replace
from functools import partial

from daemon.engine.keyframe_choice import KeyframeChoice
from daemon.engine.stream_state import StreamState
from daemon.lane.lane import WINDOWS, Lane
from daemon.limits.detection_budget import DetectionBudget
from stages.types import Image, Window


class Scheduler:
    """Takes the stream that has waited longest, with all its frames that can run as one window.

    So a live frame need not wait for others to fill its window, and windows grow while the engine is busy. A stream
    waits from its oldest frame on, dropped ones included: full queues hold frames of the same age, so that of equal
    streams those would be served for ever whose frames came a moment sooner. A file waits until its window is complete,
    so that its windows, and with them its results, are the same in each run.

    ``add`` and ``clear`` may be called from any thread, all else from the engine's.
    """

    def __init__(self) -> None:
        self.budget = DetectionBudget()
        self._choice = KeyframeChoice(self.budget)
        self._streams: list[StreamState] = []
        self._lock = threading.Lock()  # guards the list

    def add(self, stream: StreamState) -> None:
        """Schedule a stream until its inbox is drained."""
        with self._lock:
            self._streams.append(stream)

    def find(self, lane: Lane) -> StreamState | None:
        """The state of the lane's stream; None once it has been retired."""
        with self._lock:
            return next((stream for stream in self._streams if stream.lane is lane), None)

    def streams(self) -> list[StreamState]:
        """All streams that are scheduled."""
        with self._lock:
            return list(self._streams)

    def retire(self) -> list[StreamState]:
        """Take out the streams that have nothing left to do, ever."""
        with self._lock:
            over = [stream for stream in self._streams if _over(stream.lane)]
            self._streams = [stream for stream in self._streams if stream not in over]
        return over

    def next(self) -> tuple[StreamState, Window | None] | None:
        """The stream to run now and its window, None where only notices wait; None when no stream can be run."""
        ready = self._runnable()
        if not ready:
            return None
        stream, inbox = ready[0], ready[0].lane.inbox
        waiting = inbox.peek()
        if not waiting:
            return stream, None
        stream.served = time.monotonic()
        keyframe = self._choice.is_keyframe(stream, waiting[0], self.streams())
        most = stream.pace.room(stream.lane.governor.window, keyframe, stream.lane.live)
        window = inbox.get(0, partial(stream.pace.join, most=most, keyframe=keyframe))
        return stream, window and replace(window, keyframe=window.keyframe or keyframe)

    def keyframes(self) -> list[tuple[StreamState, Image]]:
        """The streams that can be run whose next window starts with a keyframe, each with this picture."""
        streams = self.streams()
        waiting = [(stream, stream.lane.inbox.peek()) for stream in self._runnable()]
        return [
            (stream, windows[0].frames[0].image)
            for stream, windows in waiting
            if windows and self._choice.is_keyframe(stream, windows[0], streams)
        ]

    def _runnable(self) -> list[StreamState]:
        """The streams that can be run, first the one that has waited longest."""
        with self._lock:
            ready = [stream for stream in self._streams if self._ready(stream)]
        return sorted(ready, key=lambda stream: stream.lane.inbox.waiting_since or 0.0)

    def _ready(self, stream: StreamState) -> bool:
        """Whether a window or a notice waits, and there is room for its outcome.

        Windows of a file wait until they are complete, and for room in its outbox; those of a burst for room until they
        are due; a notice never pushes out results.
        """
        lane = stream.lane
        if waiting := lane.inbox.peek():
            if not lane.live and not self._complete(stream, waiting):
                return False
            may_wait = lane.outbox.lossless or waiting[0].frames[-1].due > time.monotonic()
            return not may_wait or lane.outbox.fits(max(1, lane.outbox.capacity // WINDOWS))
        return bool(lane.notices) and lane.outbox.fits(1)

    def _complete(self, stream: StreamState, waiting: tuple[Window, ...]) -> bool:
        """Whether a file's next window would be the same with more frames waiting."""
        window, *others = waiting
        keyframe = self._choice.is_keyframe(stream, window, ())
        most = stream.pace.room(stream.lane.governor.window, keyframe, timed=False)
        for following in others:
            joined = stream.pace.join(window, following, most, keyframe)
            if joined is None:
                return True
            window = joined
        return len(window.frames) >= most or stream.lane.inbox.closed

    def clear(self) -> list[StreamState]:
        """Take out all streams."""
        with self._lock:
            streams, self._streams = self._streams, []
        return streams


def _over(lane: Lane) -> bool:
    return lane.inbox.drained and (not lane.notices or lane.outbox.closed)
