"""What the engine does with one window: govern, detect, track; and what it makes of a fault."""

import logging
import time
from collections import Counter
from dataclasses import replace

import numpy as np

from daemon.engine.lane import Lane, Models, Tracker
from daemon.engine.outcome import Notice, Outcome, skip_window
from daemon.limits.out_of_memory import is_out_of_memory, let_go
from stages.detection.auto_threshold import FLOOR
from stages.detection.base import Detector
from stages.errors import ConfigError, WindowError, one_line
from stages.types import Detections, Image, Result, StreamEvent, Window

log = logging.getLogger(__name__)


def process(models: Models, lane: Lane, window: Window) -> Outcome:
    """What becomes of a window; whatever goes wrong with it costs this window only.

    A ConfigError, such as a prompt that the detector cannot read or a stream that does not fit the memory, would come
    back with every window: it closes the lane.
    """
    notices = lane.due(window) + _govern(lane)
    if lane.failed is not None:
        window, lane.failed = skip_window(lane.failed, window), None
    try:
        results = _track(models, lane, window)
    except Exception as error:
        return Outcome(notices=(*notices, *_fault(lane, window, error)))
    lane.metrics.frames["tracked"].inc(len(results))
    results, trouble = _classify(models, lane, results)
    return Outcome(results=tuple(results), notices=(*notices, *trouble))


def _classify(models: Models, lane: Lane, results: list[Result]) -> tuple[list[Result], list[Notice]]:
    """The results with their classes; whatever goes wrong costs these alone."""
    if models.classifier is None or lane.turns is None:
        return results, []
    try:
        results, spent = lane.turns.classify(models.classifier, results)
    except Exception as error:
        log.debug("stream %s: the classifier failed", lane.name, exc_info=True)
        lane.warn(f"{len(results)} frames have no classes: {one_line(error)}")
        return results, _trouble(lane, error)
    lane.metrics.observe(spent)
    return results, []


def _govern(lane: Lane) -> list[Notice]:
    """Step down when windows are lost again and again, and up when it has been quiet for long."""
    now = time.monotonic()
    if lane.tracker is None:  # while the models were loaded
        lane.losses.forgive()
        return []
    overload = lane.losses.are_overload(now)
    return _told(lane, lane.governor.pressed("overload", now) if overload else lane.governor.rested(now))


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
    if isinstance(error, ConfigError):
        lane.inbox.close(discard=True)
    notices = _trouble(lane, error)
    lane.failed, lane.error = window, error.with_traceback(None)
    lane.metrics.drop("error", len(window.frames))
    return notices


def _trouble(lane: Lane, error: Exception) -> list[Notice]:
    """Tell what failed, let go of what it held, and step down where it was for want of memory."""
    notices = [Notice(StreamEvent.ERROR, one_line(error))]
    if is_out_of_memory(error) and not isinstance(error, ConfigError):
        notices += _told(lane, lane.governor.pressed("memory", time.monotonic()))
    let_go(error)
    return notices


def _track(models: Models, lane: Lane, window: Window) -> list[Result]:
    image, governor = window.frames[0].image, lane.governor
    if lane.tracker is None:
        models.admit(lane.name, lane.tracking, image.shape)
        tracking = lane.tracking.model_copy(update={"max_objects": governor.max_objects})
        lane.tracker = models.new_tracker(tracking, governor.scale)
    lane.tracker.rescale(governor.scale)  # both do nothing where nothing has changed
    lane.tracker.resize(governor.max_objects)
    if window.keyframe:
        _take_up_prompts(lane, lane.tracker)
    detections = _detect(models.detector, lane, image) if window.keyframe and lane.prompt_set.prompts else None
    results = lane.tracker.step(window, detections)
    if len(results) != len(window.frames):
        raise WindowError(f"the tracker gave {len(results)} results for {len(window.frames)} frames")
    spent: Counter[str] = Counter()
    for result in results:
        spent.update(result.seconds)
    lane.metrics.observe(spent)
    lane.metrics.track_memory.set(lane.tracker.nbytes)
    return results


def _take_up_prompts(lane: Lane, tracker: Tracker) -> None:
    """From this keyframe on look for what was asked for; what goes by other prompts is not touched."""
    before = lane.prompt_set.numbers
    gone = lane.prompt_set.take_up()
    now = lane.prompt_set.numbers
    if now != before:
        if lane.auto:
            lane.auto.rearrange([before.index(number) if number in before else None for number in now])
        lane.metrics.look_for([prompt.written for prompt in lane.prompt_set.prompts])
    if gone:
        tracker.forget(gone)  # at each keyframe: it may have failed at the last one


def _detect(detector: Detector, lane: Lane, image: Image) -> Detections:
    started, prompt_set = time.perf_counter(), lane.prompt_set
    asked = (FLOOR, FLOOR) if lane.auto else (lane.detection.box_threshold, lane.detection.text_threshold)
    [detections] = detector.detect([image], prompt_set.prompts, *asked)
    if lane.auto:
        detections = lane.auto.select(detections)
    lane.metrics.observe({"detect": time.perf_counter() - started})
    for prompt, count in Counter(detections.prompts.tolist()).items():
        lane.metrics.detected(prompt_set.prompts[prompt].written, count)
    return replace(detections, prompts=np.array(prompt_set.numbers, np.int64)[detections.prompts])
