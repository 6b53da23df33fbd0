"""Prometheus metrics: names, help texts and labels. `stream_metrics` creates the series of each stream."""

from collections.abc import Callable, Iterable
from functools import partial

import torch
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

MODELS = ("detector", "segmenter", "classifier")
START = ("imports", "models", "warm_up", "other")  # parts of a start
GPU_KINDS = ("allocated", "reserved")

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.033, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)

disable_created_metrics()  # type: ignore[no-untyped-call] # the _created series, one for each counter, are not used


class Metrics:
    """The daemon's registry and its metrics. ``device``: the GPU whose memory is reported."""

    def __init__(self, device: torch.device | None = None) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
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
        self.database_dropped = self._counter("database_dropped", "Events and tracks that the database lost.")
        self.record_broken = self._gauge("record_broken", "1 while a recording pauses or has broken off.", *by)
        self.record_segments = self._counter("record_segments", "Segments of recordings that were completed.", *by)
        self.record_free = self._gauge("record_free_bytes", "Free on the disk of a live source's recording.", *by)
        self.record_until_full = self._gauge(
            "record_seconds_until_full",
            "Until that disk is full at the rate of the last 5 minutes; infinite where old segments go, 0: not known.",
            *by,
        )
        self.tracks = self._gauge("tracks", "Tracks alive.", "stream", "prompt")
        self.tracks_started = self._counter("tracks_started", "Tracks that began.")
        self.tracks_ended = self._counter("tracks_ended", "Tracks that ended.", "stream", "reason")
        self.tracks_returned = self._counter("tracks_returned", "Tracks seen again after an occlusion or an end.")
        by_prompt = ("stream", "prompt")
        self.changes = self._counter("track_changes", "Tracks that began, ended or came back.", *by_prompt, "change")
        self.track_frames = self._counter("track_frames", "Frames of tracks, by what was seen.", *by_prompt, "state")
        self.large_masks = self._counter("large_masks", "Masks that cover most of their frame.", *by_prompt)
        self.last_detection = self._gauge(
            "last_detection_timestamp_seconds",
            "Unix time of a prompt's last detection, at first of its start.",
            *by_prompt,
        )
        self.detections = self._counter("detections", "Boxes the detector found.", "stream", "prompt")
        self.publish_bytes = self._counter("publish_bytes", "Bytes handed to ZeroMQ.", "stream", "kind")
        self.publish_dropped = self._counter("publish_dropped", "Messages some subscriber lost.", *by)
        self.subscribers = self._gauge("subscribers", "Subscribers connected.")
        self.subscribers_refused = _CallbackCounter(
            "subscribers_refused", "Handshakes that failed: no key, or a wrong one."
        )
        self.registry.register(self.subscribers_refused)
        self.graph_fallbacks = _CallbackCounter(
            "graph_fallbacks", "Shapes of a step of a model for which there is no CUDA graph; it runs slower."
        )
        self.registry.register(self.graph_fallbacks)
        self.track_memory = self._gauge("track_memory_bytes", "Size of a stream's memory of its objects.", *by)
        self.memory_budget = self._gauge("memory_budget_bytes", "What limits.gpu_memory comes to.")
        self.governor_step = self._gauge("governor_step", "How far the governor has stepped down.", *by)
        self.model_load = self._gauge("model_load_seconds", "Time it took to load a model.", "model")
        self.start = self._gauge("start_seconds", "Time from the start of the process until it was ready.", "part")
        self.build = self._gauge("build_info", "Always 1; what is running.", "version", "torch", "device", "decoder")
        gpu_memory = self._gauge("gpu_memory_bytes", "GPU memory that torch holds.", "kind")
        for model in MODELS:
            self.model_load.labels(model)
        for part in START:
            self.start.labels(part)
        for kind, read in zip(GPU_KINDS, (torch.cuda.memory_allocated, torch.cuda.memory_reserved), strict=True):
            gpu_memory.labels(kind).set_function(partial(read, device))  # 0 without a GPU

    def _counter(self, name: str, help_text: str, *labels: str) -> Counter:
        return Counter(f"maskcast_{name}", help_text, labels, registry=self.registry)

    def _gauge(self, name: str, help_text: str, *labels: str) -> Gauge:
        return Gauge(f"maskcast_{name}", help_text, labels, registry=self.registry)

    def _histogram(self, name: str, help_text: str, *labels: str) -> Histogram:
        return Histogram(f"maskcast_{name}", help_text, labels, registry=self.registry, buckets=_SECONDS)


class _CallbackCounter(Collector):
    """Counter without labels; ``read`` returns its value at each scrape."""

    def __init__(self, name: str, help_text: str) -> None:
        self.read: Callable[[], int] = lambda: 0
        self._name, self._help = f"maskcast_{name}", help_text

    def collect(self) -> Iterable[CounterMetricFamily]:
        """The sample; prometheus_client calls this at each scrape."""
        yield CounterMetricFamily(self._name, self._help, value=self.read())
