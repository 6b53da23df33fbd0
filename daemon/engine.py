"""The one thread that runs the models: takes windows from all streams in turn and keeps their faults apart."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from daemon.governor import Governor
from daemon.mailbox import Mailbox
from daemon.metrics import StreamMetrics
from daemon.out_of_memory import is_out_of_memory, let_go
from daemon.outcome import Notice, Outcome, skip_window
from daemon.settings import Detection, Tracking
from stages.errors import ConfigError, MaskcastError, WindowError
from stages.prompts import Prompt
from stages.thresholds import FLOOR, AutoThresholds
from stages.types import Detections, Image, Result, Window
from stages.wire import StreamEvent

IDLE = 1.0  # seconds between two signs of life of an engine that has nothing to do

log = logging.getLogger(__name__)


class Detector(Protocol):
    """stages.detect.Detector, as far as the engine knows it."""

    def detect(
        self, images: Sequence[Image], prompts: Sequence[Prompt], box_threshold: float, text_threshold: float
    ) -> list[Detections]: ...


class Tracker(Protocol):
    """stages.tracker.Tracker, as far as the engine knows it."""

    @property
    def nbytes(self) -> int: ...

    def step(self, window: Window, detections: Detections | None) -> list[Result]: ...

    def resize(self, max_objects: int) -> None: ...

    def rescale(self, scale: float) -> None: ...


@dataclass(frozen=True, slots=True)
class Models:
    """What every stream shares, and a way to make what each has for itself.

    ``admit`` is given a stream's name, how it tracks and the shape of its pictures, and raises ConfigError when there
    is no room for it; ``release`` gives its room back.
    """

    detector: Detector
    new_tracker: Callable[[Tracking], Tracker]
    admit: Callable[[str, Tracking, tuple[int, ...]], None] = lambda *_: None
    release: Callable[[str], None] = lambda _: None


@dataclass(slots=True, eq=False)
class Lane:
    """One stream as the engine sees it: windows come in, outcomes go out."""

    name: str
    prompts: tuple[Prompt, ...]
    detection: Detection
    tracking: Tracking
    metrics: StreamMetrics
    inbox: Mailbox[Window]
    outbox: Mailbox[Outcome]
    governor: Governor
    auto: AutoThresholds | None = None  # chooses box thresholds; None: the configured ones stay
    tracker: Tracker | None = None
    overloads: int = 0  # windows that a live stream lost because the engine was busy; counted by its reader
    overloads_seen: int = 0
    failed: Window | None = None  # the last window, when it could not be processed
    error: Exception | None = None  # why the last window that failed did so
    quiet_until: float = 0.0  # monotonic seconds

    def warn(self, text: str) -> None:
        """In the log, at most once in ten seconds."""
        if time.monotonic() >= self.quiet_until:
            self.quiet_until = time.monotonic() + 10
            log.warning("stream %s: %s", self.name, text)

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The least score of a detection now, by prompt."""
        return self.auto.values if self.auto else (self.detection.least_score,) * len(self.prompts)

    @property
    def ready(self) -> bool:
        """A window waits, and its outcome has room: results of a file wait here, not in the engine."""
        return bool(self.inbox.peek()) and not (self.outbox.lossless and self.outbox.full)


class Engine:
    """Runs the models of all lanes in one thread; the thread also loads them, since compiled graphs belong to it.

    ``ready`` is set once the models are there; ``error`` says why the engine stopped by itself.
    """

    def __init__(self, load: Callable[[], Models]) -> None:
        self.ready = threading.Event()
        self.error: Exception | None = None
        self.progress = time.monotonic()  # when a window was last done, or none was waiting
        self._load = load
        self._lanes: list[Lane] = []
        self._lock = threading.Lock()  # guards the list and the moment it is given up
        self._changed = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def add(self, lane: Lane) -> None:
        """Serve a lane until its inbox is drained; its outbox is closed then."""
        lane.inbox.watch(self._changed.set)
        lane.outbox.watch(self._changed.set)
        with self._lock:
            self._lanes.append(lane)
        self._changed.set()
        if self._closing.is_set():
            self._abandon()

    def close(self, timeout: float) -> bool:
        """Stop after the window at hand; False when that takes longer than ``timeout`` seconds."""
        self._closing.set()
        self._changed.set()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            models = self._load()
            self.ready.set()
            while not self._closing.is_set():
                self._changed.clear()
                self.progress = time.monotonic()
                if not self._turn(models):
                    self._changed.wait(IDLE)
        except Exception as error:
            log.debug("the engine stopped", exc_info=True)
            self.error = error
        finally:
            self._closing.set()
            self._abandon()

    def _abandon(self) -> None:
        with self._lock:
            lanes, self._lanes = self._lanes, []
        for lane in lanes:
            lane.inbox.close(discard=True)
            lane.outbox.close()

    def _turn(self, models: Models) -> bool:
        """One window of every lane that has one waiting; False when none had."""
        with self._lock:
            ended = [lane for lane in self._lanes if lane.inbox.drained]
            self._lanes = [lane for lane in self._lanes if lane not in ended]
            ready = [lane for lane in self._lanes if lane.ready]
        for lane in ended:
            lane.outbox.close()
            lane.tracker = None
            models.release(lane.name)
        for lane in ready:
            window = lane.inbox.get(0)
            if window is not None and not self._closing.is_set():
                lane.outbox.put(_process(models, lane, window))
            self.progress = time.monotonic()
        return bool(ready)


def _process(models: Models, lane: Lane, window: Window) -> Outcome:
    """Run the models; whatever goes wrong with this window costs this window only.

    A ConfigError, such as a prompt that the detector cannot read or a stream that does not fit the memory, would come
    back with every window: it closes the lane.
    """
    notices = _govern(lane)
    if lane.failed is not None:
        window, lane.failed = skip_window(lane.failed, window), None
    try:
        results = _track(models, lane, window)
    except Exception as error:
        return Outcome(notices=(*notices, *_fault(lane, window, error)))
    lane.metrics.frames["tracked"].inc(len(results))
    return Outcome(results=tuple(results), notices=tuple(notices))


def _govern(lane: Lane) -> list[Notice]:
    """Step down when windows were lost since the last look, and up again when it has been quiet for long."""
    overloads = lane.overloads
    overloaded, lane.overloads_seen = overloads > lane.overloads_seen, overloads
    if lane.tracker is None:  # what was lost while the models were loaded says nothing of how fast they are
        return []
    now = time.monotonic()
    return _told(lane, lane.governor.pressed("overload", now) if overloaded else lane.governor.rested(now))


def _told(lane: Lane, step: str | None) -> list[Notice]:
    """The notice of a governor's step, if it took one."""
    if step is None:
        return []
    log.info("stream %s: %s", lane.name, step)
    lane.metrics.governor_step.set(lane.governor.step)
    return [Notice(StreamEvent.GOVERNOR, step)]


def _fault(lane: Lane, window: Window, error: Exception) -> list[Notice]:
    """Account for a window that failed."""
    log.debug("stream %s: a window failed", lane.name, exc_info=True)
    lane.warn(f"a window of {len(window.frames)} frames failed: {one_line(error)}")
    notices = [Notice(StreamEvent.ERROR, one_line(error))]
    if isinstance(error, ConfigError):
        lane.inbox.close(discard=True)
    elif is_out_of_memory(error):
        let_go(error)
        notices += _told(lane, lane.governor.pressed("memory", time.monotonic()))
    lane.failed, lane.error = window, error
    lane.metrics.drop("error", len(window.frames))
    return notices


def _track(models: Models, lane: Lane, window: Window) -> list[Result]:
    image = window.frames[0].image
    if lane.tracker is None:
        models.admit(lane.name, lane.tracking, image.shape)
        lane.tracker = models.new_tracker(lane.tracking)
    lane.tracker.rescale(lane.governor.scale)  # both do nothing where nothing has changed
    lane.tracker.resize(lane.governor.max_objects)
    detections = _detect(models.detector, lane, image) if window.keyframe and lane.prompts else None
    results = lane.tracker.step(window, detections)
    if len(results) != len(window.frames):
        raise WindowError(f"the tracker gave {len(results)} results for {len(window.frames)} frames")
    spent: Counter[str] = Counter()
    for result in results:
        spent.update(result.seconds)
    lane.metrics.observe(spent)
    lane.metrics.track_memory.set(lane.tracker.nbytes)
    return results


def _detect(detector: Detector, lane: Lane, image: Image) -> Detections:
    started = time.perf_counter()
    asked = (FLOOR, FLOOR) if lane.auto else (lane.detection.box_threshold, lane.detection.text_threshold)
    [detections] = detector.detect([image], lane.prompts, *asked)
    if lane.auto:
        detections = lane.auto.select(detections)
    lane.metrics.observe({"detect": time.perf_counter() - started})
    for prompt, count in Counter(detections.prompts.tolist()).items():
        lane.metrics.detections[lane.prompts[prompt].written].inc(count)
    return detections


def one_line(error: Exception) -> str:
    """For people: our own errors say what is wrong themselves, others need their name."""
    text = " ".join(str(error).split())
    return text if isinstance(error, MaskcastError) else f"{type(error).__name__}: {text}"
