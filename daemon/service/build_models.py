"""Loads the configured models. The only place that chooses the families of detector, segmenter and classifier."""

import os
import warnings
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from daemon.engine.models import Models
from daemon.lane.lane import WINDOWS
from daemon.lane.trail import MOST_BYTES
from daemon.limits.memory_budget import MemoryBudget, budget_bytes, bytes_in_use, stream_bytes
from daemon.metrics.registry import Metrics
from daemon.service.start_times import StartTimes
from daemon.settings.schema import Models as ModelSettings
from daemon.settings.schema import Settings, Tracking
from stages.errors import ConfigError, ModelError, one_line
from stages.graphs import cuda_graphs
from stages.source.gpu_decoder import cuda_decoder

if TYPE_CHECKING:
    from stages.classification.classifier import Classifier
    from stages.detection.base import Detector
    from stages.segmentation.base import Segmenter

COMPILED = "TORCHINDUCTOR_CACHE_DIR"  # the environment variable that names Inductor's cache


def build_models(
    settings: Settings, metrics: Metrics | None = None, warm: bool = False, times: StartTimes | None = None
) -> Models:
    """Load the configured models; ``warm`` runs them once, where that makes the first windows faster.

    Raises ModelError, and ConfigError for a device that does not exist.
    """
    metrics = metrics or Metrics()
    times = times or StartTimes(metrics)
    with times.part("imports"):
        _import_rooms(settings.models)
    from stages.tracking.state import state_bytes
    from stages.tracking.tracker import Tracker, TrackerOptions

    if pick_device(settings.models.device).type == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        # leave a core to readers and writers
        torch.set_num_threads(max(1, (os.cpu_count() or 1) - 1))
    with times.part("detector"):
        detector = build_detector(settings.models)
    with times.part("segmenter"):
        segmenter = build_segmenter(settings.models)
    metrics.graph_fallbacks.read = lambda: detector.graph_fallbacks + segmenter.graph_fallbacks
    with times.part("classifier"):
        classifier = build_classifier(settings.models)

    def options(tracking: Tracking) -> TrackerOptions:
        return TrackerOptions(tracking.max_objects, tracking.lost_after, tracking.reidentify)

    def admit(name: str, tracking: Tracking, picture: tuple[int, ...] | None) -> None:
        frames = (2 * WINDOWS + 2) * tracking.window  # in both queues, at the engine and at the writer
        one_more = state_bytes(segmenter, TrackerOptions(1))  # an object on its way from a past frame to the present
        tracker = state_bytes(segmenter, options(tracking)) + one_more
        needed = stream_bytes(tracker, segmenter.device, frames, picture, MOST_BYTES)
        budget.admit(name, needed, tracking.max_objects)

    if warm and segmenter.static:
        with times.part("warm-up"):
            _warm_up(settings, detector, segmenter)
    device = segmenter.device
    budget = MemoryBudget(budget_bytes(settings.limits.gpu_memory, device), lambda: bytes_in_use(device))
    metrics.memory_budget.set(budget.budget)

    def new_tracker(tracking: Tracking, scale: float) -> Tracker:
        return Tracker(segmenter, options(tracking), scale)

    return Models(detector, new_tracker, admit, budget.release, budget.use, classifier)


def _warm_up(settings: Settings, detector: "Detector", segmenter: "Segmenter") -> None:
    """Run the models in each size that a stream can need. Raises ModelError when something cannot be compiled."""
    from torch._dynamo.exc import TorchDynamoException

    from daemon.engine.warm_up import warm_up

    tracking = [settings.tracking, *(stream.resolved(settings).tracking for stream in settings.streams)]
    streams = [stream.resolved(settings) for stream in settings.streams if stream.prompts]
    detections = dict.fromkeys((stream.prompts, stream.detection.tiles) for stream in streams)
    most, longest = max(t.max_objects for t in tracking), max(t.window for t in tracking)
    try:
        warm_up(detector, segmenter, detections, most, longest)
    except TorchDynamoException as error:
        raise ModelError(
            f"models.compile = true: the segmenter cannot be compiled ({one_line(error)}); "
            'does a C++ compiler work (apt-get install g++)? Else set models.compile = "auto"'
        ) from error


def _set_up_inductor() -> None:
    """Let Inductor keep what it compiles, unless the environment says where: its own default is in /tmp."""
    warnings.filterwarnings("ignore", "Torchinductor does not support code generation for complex", UserWarning)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    os.environ.setdefault(COMPILED, str(Path(cache) / "maskcast" / "inductor"))


def _import_rooms(chosen: ModelSettings) -> None:
    """Import what the models need: seconds, most of them for transformers and torchvision.

    The engine's thread does it while sources are being opened.
    """
    rooms = ["detection.grounding_dino", "sam2.load", "tracking.tracker"]
    if chosen.classifier:
        rooms.append("classification.classifier")
    for room in rooms:
        import_module(f"stages.{room}")


def build_detector(chosen: ModelSettings) -> "Detector":
    """Load ``models.detector``. Raises ModelError, ConfigError."""
    from stages.detection.grounding_dino import EMBEDDED, GroundingDino

    device = pick_device(chosen.device)
    name = EMBEDDED if chosen.detector == "embedded" else chosen.detector
    graphs = cuda_graphs("detector", device) if chosen.compile is not False else None
    return GroundingDino(name, device, pick_dtype(chosen.precision, device), graphs)


def build_segmenter(chosen: ModelSettings) -> "Segmenter":
    """Load ``models.segmenter``. Raises ModelError, ConfigError."""
    from stages.sam2.load import load_segmenter

    device = pick_device(chosen.device)
    # models.compile: false is neither, true both of CUDA graphs and Inductor; "auto" is the graphs alone
    compiled, graphs = chosen.compile is True, chosen.compile is not False
    if compiled:
        _set_up_inductor()
    return load_segmenter(chosen.segmenter, device, pick_dtype(chosen.precision, device), compiled, graphs)


def build_classifier(chosen: ModelSettings) -> "Classifier | None":
    """Load ``models.classifier``; None where it is off. Raises ModelError, ConfigError."""
    if not chosen.classifier:
        return None
    from stages.classification.classifier import Classifier

    device = pick_device(chosen.device)
    return Classifier(chosen.classifier, device, pick_dtype(chosen.precision, device))


def pick_device(name: str) -> torch.device:
    """The device that ``models.device`` means. Raises ConfigError when it does not exist."""
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
    """Index of the GPU that decodes video; None for none. A source that it cannot decode is decoded in software."""
    index = device.index or 0
    return index if device.type == "cuda" and cuda_decoder(index) else None


def pick_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The number type that ``models.precision`` means: auto is bfloat16 where CUDA has it in hardware, else float32."""
    if precision == "auto":
        in_hardware = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if in_hardware else torch.float32
    return torch.bfloat16 if precision == "bfloat16" else torch.float32
