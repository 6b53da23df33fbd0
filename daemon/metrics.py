"""Prometheus metrics: every series of the public interface, at zero from the moment its stream is known.

Label values are bounded: names of streams and prompts come from the configuration, all others from the tuples here.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TypeVar

import torch
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector

from stages.types import TrackChange, TrackEvent

FRAME_STAGES = ("decoded", "tracked", "published")
TIMED_STAGES = ("decode", "detect", "encode", "propagate", "classify", "annotate", "publish")
QUEUES = ("windows", "results")
DROP_REASONS = ("source", "engine_busy", "writer_busy", "error")
RECONNECT_REASONS = ("ended", "error", "stalled")
END_REASONS = ("lost", "max_objects", "displaced", "unconfirmed", "undetected", "removed", "other")
KINDS = ("masks", "frame", "event", "status")
MODELS = ("detector", "segmenter", "classifier")
GPU_KINDS = ("allocated", "reserved")

Metric = TypeVar("Metric", bound=MetricWrapperBase)

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.033, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_FPS_SPAN = 10.0  # seconds
_LATENCIES = 10_000  # frames over which percentiles are taken

disable_created_metrics()  # type: ignore[no-untyped-call] # one more series for each counter, and nobody reads them


class Metrics:
    """The daemon's registry; ``stream`` gives the part of one stream. Memory is that of ``device``, if a GPU."""

    def __init__(self, device: torch.device | None = None) -> None:
        self.registry = CollectorRegistry()
        by = ("stream",)
        self.frames = self._counter("frames", "Frames that came through a stage.", "stream", "stage")
        self.fps = self._gauge("fps", "Frames published a second, over the last 10 seconds.", *by)
        self.dropped = self._counter("frames_dropped", "Frames that were lost.", "stream", "reason")
        self.stage_seconds = self._histogram("stage_seconds", "Time a window or frame takes.", "stream", "stage")
        self.latency = self._histogram("frame_latency_seconds", "From capture (file: decoding) to publication.", *by)
        self.queue = self._gauge("queue_frames", "Frames waiting between two threads.", "stream", "queue")
        self.source_up = self._gauge("source_up", "1 while the source delivers.", *by)
        self.reconnects = self._counter("source_reconnects", "Times the source was opened again.", "stream", "reason")
        self.decode_errors = self._counter("decode_errors", "Packets that could not be decoded.", *by)
        self.last_frame = self._gauge("last_frame_timestamp_seconds", "Unix time of the last decoded frame.", *by)
        self.record_errors = self._counter("record_errors", "Recordings that broke off, as on a full disk.", *by)
        self.tracks = self._gauge("tracks", "Tracks alive.", "stream", "prompt")
        self.tracks_started = self._counter("tracks_started", "Tracks that began.")
        self.tracks_ended = self._counter("tracks_ended", "Tracks that ended.", "stream", "reason")
        self.tracks_returned = self._counter("tracks_returned", "Tracks seen again after an occlusion or an end.")
        self.detections = self._counter("detections", "Boxes the detector found.", "stream", "prompt")
        self.publish_bytes = self._counter("publish_bytes", "Bytes handed to ZeroMQ.", "stream", "kind")
        self.publish_dropped = self._counter("publish_dropped", "Messages some subscriber lost.", *by)
        self.subscribers = self._gauge("subscribers", "Subscribers connected.")
        self.subscribers_refused = _Total("subscribers_refused", "Handshakes that failed: no key, or a wrong one.")
        self.registry.register(self.subscribers_refused)
        self.track_memory = self._gauge("track_memory_bytes", "Size of a stream's memory of its objects.", *by)
        self.governor_step = self._gauge("governor_step", "How far the governor has stepped down.", *by)
        self.model_load = self._gauge("model_load_seconds", "Time it took to load a model.", "model")
        self.build = self._gauge("build_info", "Always 1; what is running.", "version", "torch", "device", "decoder")
        gpu_memory = self._gauge("gpu_memory_bytes", "GPU memory that torch holds.", "kind")
        for model in MODELS:
            self.model_load.labels(model)
        for kind, read in zip(GPU_KINDS, (torch.cuda.memory_allocated, torch.cuda.memory_reserved), strict=True):
            gpu_memory.labels(kind).set_function(partial(read, device))  # 0 where there is no GPU

    def _counter(self, name: str, help_text: str, *labels: str) -> Counter:
        return Counter(f"maskcast_{name}", help_text, labels, registry=self.registry)

    def _gauge(self, name: str, help_text: str, *labels: str) -> Gauge:
        return Gauge(f"maskcast_{name}", help_text, labels, registry=self.registry)

    def _histogram(self, name: str, help_text: str, *labels: str) -> Histogram:
        return Histogram(f"maskcast_{name}", help_text, labels, registry=self.registry, buckets=_SECONDS)

    def stream(self, name: str, prompts: Sequence[str]) -> "StreamMetrics":
        """Register a stream: all its series exist from now on."""
        return StreamMetrics(self, name, prompts)


class _Total(Collector):
    """A counter without labels that is read from where it is counted."""

    def __init__(self, name: str, help_text: str) -> None:
        self.read: Callable[[], int] = lambda: 0
        self._name, self._help = f"maskcast_{name}", help_text

    def collect(self) -> Iterable[CounterMetricFamily]:
        """What prometheus_client asks for at a scrape."""
        yield CounterMetricFamily(self._name, self._help, value=self.read())


class StreamMetrics:
    """One stream's series, by label value, and its sums as plain numbers."""

    def __init__(self, metrics: Metrics, stream: str, prompts: Sequence[str]) -> None:
        self._stream = stream
        self._series: list[tuple[MetricWrapperBase, tuple[str, ...]]] = []
        self._published_at: deque[float] = deque()
        self._lock = threading.Lock()
        self.drops = self.frames_published = self.tracks_started = 0  # the sums that people read
        self.last_published: float | None = None  # monotonic seconds
        self.latencies: deque[float] = deque(maxlen=_LATENCIES)  # seconds, of the last frames
        self.frames = self._by_value(metrics.frames, FRAME_STAGES)
        self.dropped = self._by_value(metrics.dropped, DROP_REASONS)
        self.seconds = self._by_value(metrics.stage_seconds, TIMED_STAGES)
        self.queue = self._by_value(metrics.queue, QUEUES)
        self.reconnects = self._by_value(metrics.reconnects, RECONNECT_REASONS)
        self.ended = self._by_value(metrics.tracks_ended, END_REASONS)
        self.bytes = self._by_value(metrics.publish_bytes, KINDS)
        self.tracks = self._by_value(metrics.tracks, prompts)
        self.detections = self._by_value(metrics.detections, prompts)
        self.latency = self._series_of(metrics.latency)
        self.source_up = self._series_of(metrics.source_up)
        self.decode_errors = self._series_of(metrics.decode_errors)
        self.last_frame = self._series_of(metrics.last_frame)
        self.record_errors = self._series_of(metrics.record_errors)
        self.publish_dropped = self._series_of(metrics.publish_dropped)
        self.track_memory = self._series_of(metrics.track_memory)
        self.governor_step = self._series_of(metrics.governor_step)
        self.started, self.returned = metrics.tracks_started, metrics.tracks_returned
        self._series_of(metrics.fps).set_function(self.fps)

    def _series_of(self, metric: Metric, *values: str) -> Metric:
        self._series.append((metric, (self._stream, *values)))
        return metric.labels(self._stream, *values)

    def _by_value(self, metric: Metric, values: Iterable[str]) -> dict[str, Metric]:
        return {value: self._series_of(metric, value) for value in values}

    def observe(self, seconds: Mapping[str, float]) -> None:
        """Count the time spent, by stage."""
        for stage, spent in seconds.items():
            self.seconds[stage].observe(spent)

    def drop(self, reason: str, frames: int) -> None:
        """Count frames that were lost."""
        self.dropped[reason].inc(frames)
        with self._lock:
            self.drops += frames

    def published(self, latency: float) -> None:
        """Count one frame that has left, ``latency`` seconds after its capture."""
        now = time.monotonic()
        self._published_at.append(now)
        while self._published_at[0] < now - _FPS_SPAN:
            self._published_at.popleft()
        self.frames["published"].inc()
        self.latency.observe(latency)
        self.latencies.append(latency)
        self.frames_published += 1
        self.last_published = now

    def track_event(self, event: TrackEvent) -> None:
        """Count a change in a track's life."""
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

    def close(self) -> None:
        """Take the stream's series away."""
        for metric, values in self._series:
            metric.remove(*values)
