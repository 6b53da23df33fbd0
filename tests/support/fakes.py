"""Small fakes of the models, to inject faults."""

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import torch

from daemon.engine.models import Models
from stages.errors import ConfigError
from stages.types import Clock, Detections, Frame, Result, Window


def frames(*indices: int) -> tuple[Frame, ...]:
    image = np.zeros((8, 8, 3), np.uint8)
    return tuple(Frame(i, i, Fraction(1, 30), i / 30, Clock.FILE, image) for i in indices)


def window(*indices: int, keyframe: bool = False) -> Window:
    return Window(0, frames(*indices), keyframe)


class FakeDetector:
    """Detects one box of the first prompt on every image."""

    together = 1

    def __init__(self) -> None:
        self.calls = 0

    def scale(self, height, width) -> float:
        return 1.0

    def passes(self, prompts) -> int:
        return 1

    def doubts(self, prompts) -> list[str]:
        """A snowman is refused, a zebra doubted."""
        for prompt in prompts:
            if prompt.written == "snowman":
                raise ConfigError("the detector knows no word of 'snowman'")
        return [f"does not know {prompt.written}" for prompt in prompts if prompt.written == "zebra"]

    def detect(self, images, prompts, box_threshold, text_threshold) -> list[Detections]:
        self.calls += 1
        return [Detections(np.zeros((1, 4), np.float32), np.ones(1, np.float32), np.zeros(1, np.int64)) for _ in images]


class FakeTracker:
    """Tracks nothing; calls ``before`` with each window."""

    nbytes = 42

    def __init__(self, before: Callable[[Window], None] = lambda _: None) -> None:
        self.windows: list[tuple[Window, Detections | None]] = []
        self.sizes: list[tuple[float, int]] = []  # (scale, max_objects), when they changed
        self._scale = 1.0
        self._before = before

    def rescale(self, scale: float) -> None:
        self._scale = scale

    def resize(self, max_objects: int) -> None:
        if not self.sizes or self.sizes[-1] != (self._scale, max_objects):
            self.sizes.append((self._scale, max_objects))

    def step(self, window: Window, detections: Detections | None) -> list[Result]:
        self.windows.append((window, detections))
        self._before(window)
        nothing = torch.zeros(0, 2, 2)
        return [Result(f, window.epoch, window.keyframe and i == 0, (), nothing) for i, f in enumerate(window.frames)]


def models(tracker: FakeTracker | None = None, detector: FakeDetector | None = None) -> Models:
    return Models(detector or FakeDetector(), lambda *_: tracker or FakeTracker())
