"""Loads the configured models. The only place that chooses the families of detector, segmenter and classifier."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from daemon.engine.models import Models
from daemon.lane.lane import WINDOWS
from daemon.limits.memory_budget import MemoryBudget, budget_bytes, bytes_in_use, stream_bytes
from daemon.metrics.registry import Metrics
from daemon.settings.schema import Models as ModelSettings
from daemon.settings.schema import Settings, Tracking
from stages.errors import ConfigError
from stages.source.gpu_decoder import cuda_decoder

if TYPE_CHECKING:
    from stages.classification.classifier import Classifier
    from stages.detection.base import Detector
    from stages.segmentation.base import Segmenter


def build_models(settings: Settings, metrics: Metrics | None = None, warm: bool = False) -> Models:
    """Load the configured models; ``warm`` runs them once, where that makes the first windows faster.

    Raises ModelError, and ConfigError for a device that does not exist.
    """
    from stages.tracking.state import state_bytes
    from stages.tracking.tracker import Tracker, TrackerOptions

    metrics = metrics or Metrics()
    if pick_device(settings.models.device).type == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        # leave a core to readers and writers
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
        frames = (2 * WINDOWS + 2) * tracking.window  # in both queues, at the engine and at the writer
        needed = stream_bytes(state_bytes(segmenter, options(tracking)), segmenter.device, frames, picture)
        budget.admit(name, needed, tracking.max_objects)

    if warm and segmenter.static:
        from daemon.engine.warm_up import warm_up

        tracking = [settings.tracking, *(stream.resolved(settings).tracking for stream in settings.streams)]
        warm_up(detector, segmenter, max(t.max_objects for t in tracking), max(t.window for t in tracking))
    device = segmenter.device
    budget = MemoryBudget(budget_bytes(settings.limits.gpu_memory, device), lambda: bytes_in_use(device))
    metrics.memory_budget.set(budget.budget)

    def new_tracker(tracking: Tracking, scale: float) -> Tracker:
        return Tracker(segmenter, options(tracking), scale)

    return Models(detector, new_tracker, admit, budget.release, classifier)


def build_detector(chosen: ModelSettings) -> "Detector":
    """Load ``models.detector``. Raises ModelError, ConfigError."""
    # transformers takes seconds to import: the engine's thread does it while sources are being opened
    from stages.detection.grounding_dino import EMBEDDED, GroundingDino

    device = pick_device(chosen.device)
    name = EMBEDDED if chosen.detector == "embedded" else chosen.detector
    return GroundingDino(name, device, pick_dtype(chosen.precision, device))


def build_segmenter(chosen: ModelSettings) -> "Segmenter":
    """Load ``models.segmenter``. Raises ModelError, ConfigError."""
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


@contextmanager
def _timed(metrics: Metrics, model: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    metrics.model_load.labels(model).set(time.perf_counter() - started)
