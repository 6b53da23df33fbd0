"""The metrics of one stream by label value, and some totals as plain numbers.

Label values are bounded: streams come from the configuration, prompts are the current ones, all others are listed here.
"""

import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from prometheus_client import Counter, Gauge
from prometheus_client.metrics import MetricWrapperBase

from daemon.metrics.registry import Metrics
from stages.types import TrackChange, TrackEvent, TrackState

FRAME_STAGES = ("decoded", "tracked", "published")
TIMED_STAGES = ("decode", "detect", "encode", "propagate", "classify", "annotate", "publish")
QUEUES = ("windows", "results")
DROP_REASONS = ("source", "engine_busy", "writer_busy", "error", "max_fps", "lease")
RECONNECT_REASONS = ("ended", "error", "stalled")
END_REASONS = ("lost", "max_objects", "displaced", "unconfirmed", "undetected", "removed", "prompt_removed", "other")
MESSAGE_KINDS = ("masks", "frame", "event", "status")
BY_HAND = ""  # prompt label of objects that were added by hand
LARGE_MASK = 0.5  # share of the frame; few objects are that large, but many wrong masks are

Metric = TypeVar("Metric", bound=MetricWrapperBase)

_CHANGES = {TrackChange.STARTED: "started", TrackChange.ENDED: "ended", TrackChange.RETURNED: "returned"}
_FPS_SPAN = 10.0  # seconds
_LATENCIES = 10_000  # frames for the percentiles of the whole run
_RECENT_LATENCIES = 300  # frames for the current latency

Series = list[tuple[MetricWrapperBase, tuple[str, ...]]]


@dataclass(frozen=True, slots=True)
class _PromptMetrics:
    """The series of one prompt."""

    series: Series
    tracks: Gauge
    detections: Counter
    last_detection: Gauge
    large_masks: Counter
    changes: Mapping[str, Counter]
    frames: Mapping[str, Counter]


class StreamMetrics:
    """All series of a stream, created with the value zero."""

    def __init__(self, metrics: Metrics, stream: str, prompts: Sequence[str]) -> None:
        self._metrics, self._stream = metrics, stream
        self._series: Series = []
        self._published_at: deque[float] = deque()
        self._lock = threading.Lock()  # guards drops, and the creation and removal of series of prompts
        self._closed = False
        self.drops = self.damaged = self.frames_published = self.tracks_started = 0  # totals for status reports
        self.last_published: float | None = None  # monotonic seconds
        self.latencies: deque[float] = deque(maxlen=_LATENCIES)  # seconds, of the last frames
        self.frames = self._by_value(metrics.frames, FRAME_STAGES)
        self.dropped = self._by_value(metrics.dropped, DROP_REASONS)
        self.seconds = self._by_value(metrics.stage_seconds, TIMED_STAGES)
        self.queue = self._by_value(metrics.queue, QUEUES)
        self.reconnects = self._by_value(metrics.reconnects, RECONNECT_REASONS)
        self.ended = self._by_value(metrics.tracks_ended, END_REASONS)
        self.bytes = self._by_value(metrics.publish_bytes, MESSAGE_KINDS)
        self.latency = self._series_of(metrics.latency)
        self.source_up = self._series_of(metrics.source_up)
        self.decode_errors = self._series_of(metrics.decode_errors)
        self.last_frame = self._series_of(metrics.last_frame)
        self.record_errors = self._series_of(metrics.record_errors)
        self.record_broken = self._series_of(metrics.record_broken)
        self.record_segments = self._series_of(metrics.record_segments)
        self.record_free = self._series_of(metrics.record_free)
        self.record_until_full = self._series_of(metrics.record_until_full)
        self.publish_dropped = self._series_of(metrics.publish_dropped)
        self.track_memory = self._series_of(metrics.track_memory)
        self.governor_step = self._series_of(metrics.governor_step)
        self.started, self.returned = metrics.tracks_started, metrics.tracks_returned
        self._series_of(metrics.fps).set_function(self.fps)
        self._by_prompt: dict[str, _PromptMetrics] = {}  # replaced, never mutated: two threads read it
        self.set_prompts(prompts)

    def _series_of(self, metric: Metric, *values: str) -> Metric:
        self._series.append((metric, (self._stream, *values)))
        return metric.labels(self._stream, *values)

    def _by_value(self, metric: Metric, values: Iterable[str]) -> dict[str, Metric]:
        return {value: self._series_of(metric, value) for value in values}

    def set_prompts(self, prompts: Sequence[str]) -> None:
        """Create the series of new prompts and remove those of old ones. Does nothing after ``close``."""
        with self._lock:
            if self._closed:
                return
            old, wanted = self._by_prompt, (BY_HAND, *prompts)
            self._by_prompt = {prompt: old.get(prompt) or self._create_prompt_metrics(prompt) for prompt in wanted}
            for prompt in old.keys() - set(wanted):
                _remove(old[prompt].series)

    def _create_prompt_metrics(self, prompt: str) -> _PromptMetrics:
        metrics, series = self._metrics, Series()

        def create(metric: Metric, *values: str) -> Metric:
            series.append((metric, (self._stream, prompt, *values)))
            return metric.labels(self._stream, prompt, *values)

        last = create(metrics.last_detection)
        last.set_to_current_time()
        return _PromptMetrics(
            series,
            create(metrics.tracks),
            create(metrics.detections),
            last,
            create(metrics.large_masks),
            {change: create(metrics.changes, change) for change in _CHANGES.values()},
            {state: create(metrics.track_frames, state) for state in TrackState},
        )

    def count_detections(self, prompt: str, boxes: int) -> None:
        """Count ``boxes`` detections of ``prompt``."""
        of_prompt = self._by_prompt.get(prompt)
        if of_prompt is not None:
            of_prompt.detections.inc(boxes)
            of_prompt.last_detection.set_to_current_time()

    def count_tracks(self, tracks: Iterable[tuple[str, str, float]]) -> None:
        """Count the tracks of one frame: prompt, state, and the share of the frame that the mask covers."""
        by_prompt = self._by_prompt  # one mapping throughout: the engine may replace it meanwhile
        alive = dict.fromkeys(by_prompt, 0)
        for prompt, state, share in tracks:
            of_prompt = by_prompt.get(prompt)
            if of_prompt is None:
                continue
            alive[prompt] += 1
            of_prompt.frames[state].inc()
            of_prompt.large_masks.inc(share > LARGE_MASK)
        for prompt, count in alive.items():
            by_prompt[prompt].tracks.set(count)

    def observe(self, seconds: Mapping[str, float]) -> None:
        """Add the seconds spent to the histograms, by stage."""
        for stage, spent in seconds.items():
            self.seconds[stage].observe(spent)

    def drop(self, reason: str, frames: int) -> None:
        """Count frames that were lost."""
        self.dropped[reason].inc(frames)
        with self._lock:
            self.drops += frames

    def published(self, latency: float) -> None:
        """Count one frame, published ``latency`` seconds after its capture."""
        now = time.monotonic()
        self._published_at.append(now)
        while self._published_at[0] < now - _FPS_SPAN:
            self._published_at.popleft()
        self.frames["published"].inc()
        self.latency.observe(latency)
        self.latencies.append(latency)
        self.frames_published += 1
        self.last_published = now

    def track_event(self, event: TrackEvent, prompt: str) -> None:
        """Count the start, end or return of a track of ``prompt``."""
        of_prompt = self._by_prompt.get(prompt)
        if of_prompt is not None and event.change in _CHANGES:
            of_prompt.changes[_CHANGES[event.change]].inc()
        if event.change is TrackChange.STARTED:
            self.started.inc()
            self.tracks_started += 1
        elif event.change is TrackChange.RETURNED:
            self.returned.inc()
        elif event.change is TrackChange.ENDED:
            reason = event.reason.replace(" ", "_")
            self.ended[reason if reason in self.ended else "other"].inc()

    def fps(self) -> float:
        """Frames published a second, over the last 10 seconds or since the first frame."""
        now = time.monotonic()
        recent = [moment for moment in self._published_at.copy() if moment >= now - _FPS_SPAN]
        if len(recent) < 2:
            return 0.0
        return len(recent) / max(now - recent[0], 1e-3)

    def recent_latency(self) -> tuple[float, float] | None:
        """Median and 95th percentile of the last frames in seconds; None before the first frame."""
        latencies = list(self.latencies.copy())[-_RECENT_LATENCIES:]
        if not latencies:
            return None
        median, high = np.percentile(latencies, (50, 95))
        return float(median), float(high)

    def close(self) -> None:
        """Remove the stream's series for good: calls that the engine still makes for a running window create none."""
        with self._lock:
            self._closed = True
            _remove(self._series)
            for of_prompt in self._by_prompt.values():
                _remove(of_prompt.series)


def _remove(series: Series) -> None:
    for metric, values in series:
        metric.remove(*values)
