"""A stream as the engine sees it, and the models as it knows them."""

import logging
import time
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from daemon.engine.classify import Classifier, ClassifySchedule
from daemon.engine.mailbox import Mailbox
from daemon.engine.outcome import Notice, Outcome, skip_outcome, skip_window
from daemon.engine.prompt_set import PromptSet
from daemon.limits.governor import Governor
from daemon.limits.overload import Overload
from daemon.metrics.stream_metrics import StreamMetrics
from daemon.settings.schema import Detection, Tracking
from stages.detection.auto_threshold import AutoThresholds
from stages.detection.base import Detector
from stages.types import Detections, Result, Window

log = logging.getLogger(__name__)


class Tracker(Protocol):
    """stages.tracking.tracker.Tracker, as far as the engine knows it."""

    @property
    def nbytes(self) -> int: ...

    @property
    def ids(self) -> tuple[int, ...]: ...

    def step(self, window: Window, detections: Detections | None) -> list[Result]: ...

    def resize(self, max_objects: int) -> None: ...

    def rescale(self, scale: float) -> None: ...

    def forget(self, prompts: Collection[int]) -> None: ...

    def add(
        self,
        prompt: int | None = None,
        *,
        box: NDArray[np.float32] | None = None,
        points: tuple[NDArray[np.float32], NDArray[np.int64]] | None = None,
        mask: NDArray[np.bool_] | None = None,
    ) -> int: ...

    def refine(self, track: int, points: NDArray[np.float32], labels: NDArray[np.int64]) -> None: ...

    def remove(self, track: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Models:
    """What every stream shares, and a way to make what each has for itself.

    ``admit`` is given a stream's name, how it tracks and the shape of its pictures, and raises ConfigError when there
    is no room for it; ``release`` gives its room back.
    """

    detector: Detector
    new_tracker: Callable[[Tracking, float], Tracker]  # given the scale of its pictures
    admit: Callable[[str, Tracking, tuple[int, ...]], None] = lambda *_: None
    release: Callable[[str], None] = lambda _: None
    classifier: Classifier | None = None


@dataclass(slots=True, eq=False)
class Lane:
    """One stream as the engine sees it: windows come in, outcomes go out."""

    name: str
    prompt_set: PromptSet
    detection: Detection
    tracking: Tracking
    metrics: StreamMetrics
    inbox: Mailbox[Window]
    outbox: Mailbox[Outcome]
    governor: Governor
    auto: AutoThresholds | None = None  # chooses box thresholds; None: the configured ones stay
    turns: ClassifySchedule | None = None  # the frames that are classified, where there is a classifier
    tracker: Tracker | None = None
    losses: Overload = field(default_factory=Overload)
    failed: Window | None = None  # the last window, when it could not be processed
    error: Exception | None = None  # why the last window that failed did so
    quiet_until: float = 0.0  # monotonic seconds
    waiting: deque[tuple[int, Notice]] = field(default_factory=deque)  # notices, each with the epoch that it precedes
    wake: Callable[[], None] = lambda: None  # set by the engine

    def tell(self, notice: Notice, epoch: int) -> None:
        """Have an event told before the results of ``epoch`` and behind all earlier ones. Any thread may call."""
        self.waiting.append((epoch, notice))
        self.wake()

    def due(self, window: Window | None) -> list[Notice]:
        """Take the notices that precede ``window``; without one, all that wait."""
        notices = []
        while self.waiting and (window is None or self.waiting[0][0] <= window.epoch):
            notices.append(self.waiting.popleft()[1])
        return notices

    def warn(self, text: str) -> None:
        """In the log, at most once in ten seconds."""
        if time.monotonic() >= self.quiet_until:
            self.quiet_until = time.monotonic() + 10
            log.warning("stream %s: %s", self.name, text)

    def drop_when_full(self) -> None:
        """From now on nobody waits for a slow engine or writer: a live stream keeps what is newest."""
        self.inbox.drop_oldest(self._skip_window)
        self.outbox.drop_oldest(self._skip_outcome)

    def _skip_window(self, lost: Window, following: Window) -> Window:
        self.losses.add()
        self.metrics.drop("engine_busy", len(lost.frames))
        return skip_window(lost, following)

    def _skip_outcome(self, lost: Outcome, following: Outcome) -> Outcome:
        self.metrics.drop("writer_busy", len(lost.results))
        return skip_outcome(lost, following)

    @property
    def thresholds(self) -> dict[str, float]:
        """The least score of a detection now, by prompt as written."""
        prompts, auto = self.prompt_set.prompts, self.auto
        values = auto.values if auto else (self.detection.least_score,) * len(prompts)
        # while prompts change, another thread may see one of the two before the other
        return {prompt.written: value for prompt, value in zip(prompts, values, strict=False)}

    @property
    def ready(self) -> bool:
        """A window or a notice waits, and there is room for what becomes of it.

        Results of a file wait here, not in the engine; a notice pushes no result out.
        """
        if self.inbox.peek():
            return not (self.outbox.lossless and self.outbox.full)
        return bool(self.waiting) and not self.outbox.full

    @property
    def over(self) -> bool:
        """Nothing is left to do, ever."""
        return self.inbox.drained and (not self.waiting or self.outbox.closed)
