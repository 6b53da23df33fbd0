"""The models as the engine knows them."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from daemon.settings.schema import Tracking
from stages.detection.base import Detector
from stages.types import Detections, Image, Label, Result, Window


class Tracker(Protocol):
    """stages.tracking.tracker.Tracker, as far as the engine knows it."""

    @property
    def nbytes(self) -> int: ...

    @property
    def ids(self) -> tuple[int, ...]: ...

    def step(self, window: Window, detections: Detections | None) -> list[Result]: ...

    def resize(self, max_objects: int) -> None: ...

    def rescale(self, scale: float) -> None: ...

    def forget(self, prompts: Collection[int]) -> None: ...

    def add(
        self,
        prompt: int | None = None,
        *,
        box: NDArray[np.float32] | None = None,
        points: tuple[NDArray[np.float32], NDArray[np.int64]] | None = None,
        mask: NDArray[np.bool_] | None = None,
    ) -> int: ...

    def refine(self, track: int, points: NDArray[np.float32], labels: NDArray[np.int64]) -> None: ...

    def remove(self, track: int) -> None: ...


class Classifier(Protocol):
    """stages.classification.classifier.Classifier, as far as the engine knows it."""

    def classify(self, images: Sequence[Image], top: int = 3) -> list[tuple[Label, ...]]: ...


@dataclass(frozen=True, slots=True)
class Models:
    """The models that all streams share, and the maker of each stream's own tracker. The engine's thread uses them.

    ``admit`` is given a stream's name, its tracking settings and the shape of its pictures, and raises ConfigError
    when the memory budget has no room for it; ``release`` gives its room back.
    """

    detector: Detector
    new_tracker: Callable[[Tracking, float], Tracker]  # given the scale of its pictures
    admit: Callable[[str, Tracking, tuple[int, ...]], None] = lambda *_: None
    release: Callable[[str], None] = lambda _: None
    classifier: Classifier | None = None
