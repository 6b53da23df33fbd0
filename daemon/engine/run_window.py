"""Runs one window of a stream through the models: detect, track, classify; and handles what fails."""

import logging
import time
from collections import Counter
from dataclasses import replace

import numpy as np

from daemon.engine.detect import KeyframeDetector
from daemon.engine.models import Models, Tracker
from daemon.engine.stream_state import StreamState
from daemon.lane.drop_policy import fold_window
from daemon.lane.outcome import Notice, Outcome
from daemon.limits.out_of_memory import free_memory_of, is_out_of_memory
from stages.errors import ConfigError, WindowError, one_line
from stages.plural import plural
from stages.types import Detections, Image, Result, StreamEvent, Window

log = logging.getLogger(__name__)


def run_window(models: Models, keyframes: KeyframeDetector, stream: StreamState, window: Window) -> Outcome:
    """The outcome of a window. An error costs this window only.

    A ConfigError would return with every window, as for a prompt that the detector cannot read or a stream that does
    not fit the memory budget: it ends the stream.
    """
    notices = stream.lane.take_notices(window) + _govern(stream)
    if stream.failed is not None:
        window, stream.failed = fold_window(stream.failed, window), None
    stream.pace.begin(window)
    try:
        results = _track(models, keyframes, stream, window)
    except Exception as error:
        return Outcome(notices=(*notices, *_window_failed(stream, window, error)))
    stream.lane.metrics.frames["tracked"].inc(len(results))
    results, failure = _classify(models, stream, results)
    return Outcome(results=tuple(results), notices=(*notices, *failure))


def _govern(stream: StreamState) -> list[Notice]:
    """Step the governor down under overload, or up after quiet."""
    now, lane = time.monotonic(), stream.lane
    if stream.tracker is None:  # windows lost while the models were loading are no overload
        lane.overload.forgive()
        return []
    lasts = lane.overload.lasts(now)
    return _stepped(stream, lane.governor.pressed("overload", now) if lasts else lane.governor.rested(now))


def _stepped(stream: StreamState, step: str | None) -> list[Notice]:
    """The notice of a governor's step; none where it took none."""
    if step is None:
        return []
    log.info("stream %s: %s", stream.lane.name, step, extra={"event": "governor"})
    stream.lane.metrics.governor_step.set(stream.lane.governor.step)
    return [Notice(StreamEvent.GOVERNOR, step)]


def _track(models: Models, keyframes: KeyframeDetector, stream: StreamState, window: Window) -> list[Result]:
    image, lane = window.frames[0].image, stream.lane
    tracker = _tracker_for(models, stream, image)
    detections = None
    if window.keyframe:
        _take_up_prompts(stream, tracker)
        if lane.prompt_set.prompts:
            detections = _detect(keyframes, stream, image)
    results = tracker.step(window, detections)
    if len(results) != len(window.frames):
        raise WindowError(f"the tracker gave {len(results)} results for {len(window.frames)} frames")
    lane.trail.tracked(window)
    stream.pace.observe(results)
    spent: Counter[str] = Counter()
    for result in results:
        spent.update(result.seconds)
    lane.metrics.observe(spent)
    lane.metrics.track_memory.set(tracker.nbytes)
    return results


def _tracker_for(models: Models, stream: StreamState, image: Image) -> Tracker:
    """The stream's tracker, sized as the governor says; made, within the memory budget, at the first window."""
    governor = stream.lane.governor
    if stream.tracker is None:
        models.admit(stream.lane.name, stream.tracking, image.shape)
        tracking = stream.tracking.model_copy(update={"max_objects": governor.max_objects})
        stream.tracker = models.new_tracker(tracking, governor.scale)
    stream.tracker.rescale(governor.scale)  # both do nothing where nothing has changed
    stream.tracker.resize(governor.max_objects)
    return stream.tracker


def _take_up_prompts(stream: StreamState, tracker: Tracker) -> None:
    """Look for the prompts last asked for, from this keyframe on; end the tracks of prompts that are gone."""
    prompt_set = stream.lane.prompt_set
    before = prompt_set.numbers
    gone = prompt_set.take_up()
    now = prompt_set.numbers
    if now != before:
        if stream.auto:
            stream.auto.rearrange([before.index(number) if number in before else None for number in now])
        stream.show_thresholds()
        stream.lane.metrics.set_prompts([prompt.written for prompt in prompt_set.prompts])
    if gone:
        tracker.forget(gone)  # at each keyframe: it may have failed at the last one


def _detect(keyframes: KeyframeDetector, stream: StreamState, image: Image) -> Detections:
    """Detections on a keyframe, with the prompts' lasting numbers."""
    prompt_set, metrics = stream.lane.prompt_set, stream.lane.metrics
    detections, seconds = keyframes.detect(stream, image)
    if stream.auto:
        detections = stream.auto.select(detections)
        stream.show_thresholds()
    metrics.observe({"detect": seconds})
    for prompt, count in Counter(detections.prompts.tolist()).items():
        metrics.count_detections(prompt_set.prompts[prompt].written, count)
    return replace(detections, prompts=np.array(prompt_set.numbers, np.int64)[detections.prompts])


def _classify(models: Models, stream: StreamState, results: list[Result]) -> tuple[list[Result], list[Notice]]:
    """The results with their classes. An error costs the classes only."""
    if models.classifier is None:
        return results, []
    try:
        results, spent = stream.schedule.classify(models.classifier, results)
    except Exception as error:
        log.debug("stream %s: the classifier failed", stream.lane.name, exc_info=True)
        stream.warn(f"{len(results)} {plural(len(results), 'frame has', 'frames have')} no classes: {one_line(error)}")
        return results, _failed(stream, error)
    stream.lane.metrics.observe(spent)
    return results, []


def _window_failed(stream: StreamState, window: Window, error: Exception) -> list[Notice]:
    """Count the frames of a window that failed, and keep it to be folded into the next; returns the notices."""
    lane = stream.lane
    log.debug("stream %s: a window failed", lane.name, exc_info=True)
    stream.warn(f"a window of {len(window.frames)} {plural(len(window.frames), 'frame')} failed: {one_line(error)}")
    if isinstance(error, ConfigError):
        lane.inbox.close(discard=True)
    notices = _failed(stream, error)
    stream.failed, lane.error = window, error.with_traceback(None)
    lane.metrics.drop("error", len(window.frames))
    return notices


def _failed(stream: StreamState, error: Exception) -> list[Notice]:
    """Free what an error holds, and step the governor down if memory ran out; returns the notices."""
    notices = [Notice(StreamEvent.ERROR, one_line(error))]
    if is_out_of_memory(error) and not isinstance(error, ConfigError):
        notices += _stepped(stream, stream.lane.governor.pressed("memory", time.monotonic()))
    free_memory_of(error)
    return notices
