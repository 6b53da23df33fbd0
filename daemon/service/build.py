"""The composition root: settings -> service. The only place that puts concrete classes together."""

import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from daemon.api import Api
from daemon.control import Control
from daemon.engine.classify import ClassifySchedule
from daemon.engine.engine import Engine
from daemon.engine.lane import Lane, Models
from daemon.engine.mailbox import Mailbox
from daemon.engine.prompt_set import PromptSet
from daemon.limits.governor import Governor
from daemon.limits.memory_budget import MemoryBudget, budget_bytes, bytes_in_use, stream_bytes
from daemon.metrics.registry import Metrics
from daemon.metrics.stream_metrics import StreamMetrics
from daemon.service.service import Parts, Service
from daemon.settings.schema import Models as ModelSettings
from daemon.settings.schema import Settings, StreamSettings, Tracking
from daemon.stream.reader import Reader, Sources
from daemon.stream.stream import Stream
from daemon.stream.writer import Identity, Observer, Writer
from stages.detection.auto_threshold import AutoThresholds
from stages.detection.prompts import parse_prompts
from stages.errors import ConfigError
from stages.output.publisher import Publisher
from stages.output.recorder import Recorder
from stages.source.gpu_decoder import cuda_decoder
from stages.source.source import Source, is_live, open_source, redact

if TYPE_CHECKING:
    from stages.classification.classifier import Classifier
    from stages.detection.base import Detector
    from stages.segmentation.base import Segmenter

WINDOWS = 2  # that may wait for the engine: one is read while one is tracked
OUTCOMES = 2  # windows' results that may wait for the writer


def build(settings: Settings, observers: Mapping[str, Observer] | None = None) -> Service:
    """The service that the settings ask for; ``observers`` are shown every result of the stream they are named by.

    Raises ConfigError for a device that is not there or prompts that make no sense.
    """
    device = pick_device(settings.models.device)
    metrics = Metrics(device if device.type == "cuda" else None)
    hardware = decoding_gpu(device)
    decoder = "software" if hardware is None else "cuda"
    metrics.build.labels(_version(), torch.__version__, str(device), decoder).set(1)
    engine = Engine(lambda: build_models(settings, metrics, warm=True))

    def open_publisher() -> Publisher:
        publish = settings.publish
        curve_dir = Path(publish.curve_dir) if publish.curve_dir else None
        publisher = Publisher(publish.endpoint, publish.send_hwm, publish.when_full, curve_dir)
        metrics.subscribers.set_function(lambda: float(publisher.subscribers))
        metrics.subscribers_refused.read = lambda: publisher.refused
        return publisher

    def new_stream(stream: StreamSettings, publisher: Publisher) -> Stream:
        open_it = partial(open_source, stream.source, hardware)
        observe = (observers or {}).get(stream.name)
        return _new_stream(settings, stream.resolved(settings), open_it, engine, metrics, publisher, observe)

    def open_api(control: Control) -> Api:
        return Api(settings.http, metrics.registry, control)

    return Service(Parts(engine, open_publisher, open_api, new_stream), settings.streams)


def _new_stream(
    settings: Settings,
    stream: StreamSettings,
    open_it: Callable[[], Source],
    engine: Engine,
    metrics: Metrics,
    publisher: Publisher,
    observe: Observer | None,
) -> Stream:
    prompt_set = PromptSet(parse_prompts(stream.prompts))
    own = StreamMetrics(metrics, stream.name, prompt_set.texts)
    detection, tracking = stream.detection, stream.tracking
    auto = AutoThresholds(len(prompt_set.prompts), detection.least_score) if detection.auto_threshold else None
    governor = Governor(detection, tracking)
    lane = Lane(stream.name, prompt_set, detection, tracking, own, Mailbox(WINDOWS), Mailbox(OUTCOMES), governor, auto)
    lane.turns = ClassifySchedule(stream.classification)
    models = {role: getattr(settings.models, role) for role in ("detector", "segmenter", "classifier")}
    identity = Identity(stream.name, str(uuid.uuid4()), models)

    def open_recorder(rate: float) -> Recorder | None:
        record = stream.record
        if not record.dir:
            return None
        return Recorder(Path(record.dir), stream.name, rate, record.frames, record.resume)

    def wait_for_start(stop: threading.Event) -> bool:
        while not engine.ready.wait(0.02):
            if stop.is_set():
                return False
        return publisher.wait_for(settings.publish.wait_for, stop)

    sources = Sources(is_live(stream.source), open_it, open_recorder, wait_for_start)
    writer = Writer(identity, stream, prompt_set, publisher, own, lambda: lane.thresholds, observe)
    patient = settings.publish.when_full == "wait"
    return Stream(lane, redact(stream.source), Reader(lane, writer, sources), writer, patient)


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
