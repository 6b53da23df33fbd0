"""The composition root: settings -> service. The only place that puts concrete classes together."""

import os
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from daemon.api import Api
from daemon.engine.classify import ClassifySchedule
from daemon.engine.engine import Engine
from daemon.engine.models import Models
from daemon.engine.stream_state import StreamState
from daemon.lane.lane import Lane
from daemon.lane.mailbox import Mailbox
from daemon.lane.outcome import Outcome
from daemon.lane.prompt_set import PromptSet
from daemon.limits.governor import Governor
from daemon.limits.memory_budget import MemoryBudget, budget_bytes, bytes_in_use, stream_bytes
from daemon.metrics.registry import Metrics
from daemon.metrics.stream_metrics import StreamMetrics
from daemon.service.controller import Controller
from daemon.service.service import Parts, Service
from daemon.settings.schema import Models as ModelSettings
from daemon.settings.schema import Settings, StreamSettings, Tracking
from daemon.sinks.preview import Preview
from daemon.sinks.publishing import Publishing
from daemon.sinks.recording import Recording
from daemon.stream.latency import Latency
from daemon.stream.reader import Reader, SourceOpener
from daemon.stream.rendering import Renderer
from daemon.stream.stream import Stream
from daemon.stream.writer import Identity, Observer, Writer
from stages.detection.auto_threshold import AutoThresholds
from stages.errors import ConfigError
from stages.output.publisher import Publisher
from stages.output.recorder import Recorder
from stages.source.gpu_decoder import cuda_decoder
from stages.source.source import is_live, open_source, redact
from stages.types import Window

if TYPE_CHECKING:
    from stages.classification.classifier import Classifier
    from stages.detection.base import Detector
    from stages.segmentation.base import Segmenter

WINDOWS = 2  # that may wait for the engine: one is read while one is tracked
OUTCOMES = 2  # windows' results that may wait for the writer


def build(settings: Settings, observers: Mapping[str, Observer] | None = None) -> Service:
    """The service that the settings ask for; ``observers`` are shown every result of the stream they are named by.

    Raises ConfigError for a device that does not exist or prompts that make no sense.
    """
    device = pick_device(settings.models.device)
    metrics = Metrics(device if device.type == "cuda" else None)
    gpu = decoding_gpu(device)
    metrics.build.labels(_version(), torch.__version__, str(device), "software" if gpu is None else "cuda").set(1)
    engine = Engine(lambda: build_models(settings, metrics, warm=True))

    def open_publisher() -> Publisher:
        publish = settings.publish
        curve_dir = Path(publish.curve_dir) if publish.curve_dir else None
        publisher = Publisher(publish.endpoint, publish.send_hwm, publish.when_full, curve_dir)
        metrics.subscribers.set_function(lambda: float(publisher.subscribers))
        metrics.subscribers_refused.read = lambda: publisher.refused
        return publisher

    def open_api(service: Service) -> Api:
        return Api(settings.http, metrics.registry, Controller(service))

    def new_stream(stream: StreamSettings, publisher: Publisher) -> Stream:
        shared = _Shared(settings, engine, metrics, publisher, gpu)
        return _build_stream(shared, stream.resolved(settings), (observers or {}).get(stream.name))

    return Service(Parts(engine, open_publisher, open_api, new_stream), settings.streams)


@dataclass(frozen=True, slots=True)
class _Shared:
    """What all streams share."""

    settings: Settings
    engine: Engine
    metrics: Metrics
    publisher: Publisher
    gpu: int | None  # that decodes video


def _build_stream(shared: _Shared, stream: StreamSettings, observe: Observer | None) -> Stream:
    """A stream, known to the engine and ready to be started. ``stream`` is resolved."""
    engine, publisher = shared.engine, shared.publisher
    lane = _build_lane(shared, stream)
    # a new sink joins these
    hurry, preview = threading.Event(), Preview()
    publishing = Publishing(stream.name, publisher, lane.metrics, stream.publish.frames, hurry)
    recording = Recording(stream.name, partial(_open_recorder, stream), lane.metrics, stream.record.frames)
    sinks = (publishing, recording, preview)

    def wait_for_start(stop: threading.Event) -> bool:
        while not engine.ready.wait(0.02):
            if stop.is_set():
                return False
        return publisher.wait_for(shared.settings.publish.wait_for, stop)

    latency = Latency()
    opener = SourceOpener(is_live(stream.source), partial(open_source, stream.source, shared.gpu), wait_for_start)
    models = {role: getattr(shared.settings.models, role) for role in ("detector", "segmenter", "classifier")}
    identity = Identity(stream.name, str(uuid.uuid4()), models, stream.publish.mask_encoding)
    renderer = Renderer(stream.publish.jpeg_quality, lane.prompt_set.written)
    return Stream(
        lane,
        Reader(lane, recording, latency, opener),
        Writer(identity, lane, renderer, sinks, latency, observe),
        source=redact(stream.source),
        preview=preview,
        hurry=hurry,
        patient=shared.settings.publish.when_full == "wait",
    )


def _build_lane(shared: _Shared, stream: StreamSettings) -> Lane:
    """The handle of a stream that the engine serves from now on."""
    detection, wake = stream.detection, shared.engine.wake
    prompt_set = PromptSet(stream.prompts)
    metrics = StreamMetrics(shared.metrics, stream.name, prompt_set.texts)
    governor = Governor(detection, stream.tracking)
    inbox: Mailbox[Window] = Mailbox(WINDOWS, wake)
    outbox: Mailbox[Outcome] = Mailbox(OUTCOMES, wake)
    lane = Lane(stream.name, prompt_set, metrics, governor, inbox, outbox, wake)
    auto = AutoThresholds(len(prompt_set.prompts), detection.least_score) if detection.auto_threshold else None
    shared.engine.add(StreamState(lane, detection, stream.tracking, ClassifySchedule(stream.classification), auto))
    return lane


def _open_recorder(stream: StreamSettings, rate: float) -> Recorder | None:
    record = stream.record
    return Recorder(Path(record.dir), stream.name, rate, record.frames, record.resume) if record.dir else None


def build_models(settings: Settings, metrics: Metrics | None = None, warm: bool = False) -> Models:
    """Load the configured models; ``warm`` runs them once, where that makes the first windows faster.

    Raises ModelError, ConfigError for a device that is not there.
    """
    from stages.tracking.state import state_bytes
    from stages.tracking.tracker import Tracker, TrackerOptions

    metrics = metrics or Metrics()
    if pick_device(settings.models.device).type == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        # readers and writers need a core too
        torch.set_num_threads(max(1, (os.cpu_count() or 1) - 1))
    with _timed(metrics, "detector"):
        detector = build_detector(settings.models)
    with _timed(metrics, "segmenter"):
        segmenter = build_segmenter(settings.models)
    with _timed(metrics, "classifier"):
        classifier = build_classifier(settings.models)

    def options(tracking: Tracking) -> TrackerOptions:
        return TrackerOptions(tracking.max_objects, tracking.lost_after, tracking.reidentify)

    def admit(name: str, tracking: Tracking, picture: tuple[int, ...]) -> None:
        in_flight = (WINDOWS + OUTCOMES + 2) * tracking.window  # those that wait, and one at each end's hand
        needed = stream_bytes(state_bytes(segmenter, options(tracking)), segmenter.device, in_flight, picture)
        admission.admit(name, needed, tracking.max_objects)

    if warm and segmenter.static:
        from daemon.engine.warm_up import warm_up

        tracking = [settings.tracking, *(stream.resolved(settings).tracking for stream in settings.streams)]
        warm_up(detector, segmenter, max(t.max_objects for t in tracking), max(t.window for t in tracking))
    device = segmenter.device
    admission = MemoryBudget(budget_bytes(settings.limits.gpu_memory, device), lambda: bytes_in_use(device))
    metrics.memory_budget.set(admission.budget)

    def new_tracker(tracking: Tracking, scale: float) -> Tracker:
        return Tracker(segmenter, options(tracking), scale)

    return Models(detector, new_tracker, admit, admission.release, classifier)


def build_detector(chosen: ModelSettings) -> "Detector":
    """Load ``models.detector``; the only place that chooses its family. Raises ModelError, ConfigError."""
    # transformers takes seconds to import: the thread that loads the models does it, while sources are opened
    from stages.detection.grounding_dino import EMBEDDED, GroundingDino

    device = pick_device(chosen.device)
    name = EMBEDDED if chosen.detector == "embedded" else chosen.detector
    return GroundingDino(name, device, pick_dtype(chosen.precision, device))


def build_segmenter(chosen: ModelSettings) -> "Segmenter":
    """Load ``models.segmenter``; the only place that chooses its family. Raises ModelError, ConfigError."""
    from stages.sam2.load import load_segmenter

    device = pick_device(chosen.device)
    compiled = chosen.compile and device.type == "cuda"
    return load_segmenter(chosen.segmenter, device, pick_dtype(chosen.precision, device), compiled)


def build_classifier(chosen: ModelSettings) -> "Classifier | None":
    """Load ``models.classifier``; None where it is off. Raises ModelError, ConfigError."""
    if not chosen.classifier:
        return None
    from stages.classification.classifier import Classifier

    device = pick_device(chosen.device)
    return Classifier(chosen.classifier, device, pick_dtype(chosen.precision, device))


def pick_device(name: str) -> torch.device:
    """The device that ``models.device`` means. Raises ConfigError when it is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise ConfigError(
            f"models.device {name}: torch sees {found} CUDA devices; use auto or cpu, or check the driver"
        )
    return device


def decoding_gpu(device: torch.device) -> int | None:
    """Index of the GPU that decodes video, None for none; software takes over, source by source, where that fails."""
    index = device.index or 0
    return index if device.type == "cuda" and cuda_decoder(index) else None


def pick_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The number type that ``models.precision`` means: auto is bfloat16 where CUDA has it in hardware, else float32."""
    if precision == "auto":
        in_hardware = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if in_hardware else torch.float32
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


@contextmanager
def _timed(metrics: Metrics, model: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    metrics.model_load.labels(model).set(time.perf_counter() - started)


def _version() -> str:
    try:
        return version("maskcast")
    except PackageNotFoundError:
        return "(not installed)"
