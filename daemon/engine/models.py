"""The models as the engine knows them."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from daemon.limits.memory_budget import MemoryUse
from daemon.settings.schema import Tracking
from stages.detection.base import Detector
from stages.types import Detections, Image, Label, PastFrame, Result, Window

if TYPE_CHECKING:
    from stages.tracking.carried import Carried


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

    def add_on(
        self,
        past: PastFrame,
        prompt: int | None = None,
        *,
        box: NDArray[np.float32] | None = None,
        points: tuple[NDArray[np.float32], NDArray[np.int64]] | None = None,
        mask: NDArray[np.bool_] | None = None,
    ) -> "Carried": ...

    def refine_on(
        self,
        past: PastFrame,
        track: int,
        points: NDArray[np.float32],
        labels: NDArray[np.int64],
        mask: NDArray[np.bool_] | None,
    ) -> "Carried": ...

    def carry(self, one: "Carried", frames: Sequence[PastFrame]) -> None: ...

    def join(self, one: "Carried") -> int: ...

    def remove(self, track: int) -> None: ...

    def snapshot(self, full: bool = True) -> bytes: ...

    def restore(self, data: bytes) -> None: ...

    def skip_ids(self, count: int) -> None: ...


class Classifier(Protocol):
    """stages.classification.classifier.Classifier, as far as the engine knows it."""

    def classify(self, images: Sequence[Image], top: int = 3) -> list[tuple[Label, ...]]: ...


@dataclass(frozen=True, slots=True)
class Models:
    """The models that all streams share, and the maker of each stream's own tracker. The engine's thread uses them.

    ``admit`` is given a stream's name, its tracking settings and the shape of its pictures, if known, and raises
    ConfigError when the memory budget has no room for it; ``release`` gives its room back. Any thread may ask for the
    use of ``memory``.
    """

    detector: Detector
    new_tracker: Callable[[Tracking, float], Tracker]  # given the scale of its pictures
    admit: Callable[[str, Tracking, tuple[int, ...] | None], None] = lambda *_: None
    release: Callable[[str], None] = lambda _: None
    memory: Callable[[], MemoryUse] = MemoryUse
    classifier: Classifier | None = None

    def restored_tracker(self, name: str, tracking: Tracking, picture: tuple[int, ...] | None, data: bytes) -> Tracker:
        """A tracker that starts from a snapshot, within the memory budget; other arguments as of ``admit``.

        Raises SnapshotError for a snapshot of another model or version, ConfigError when there is no room.
        """
        self.admit(name, tracking, picture)
        try:
            tracker = self.new_tracker(tracking, 1.0)
            tracker.restore(data)
        except BaseException:
            self.release(name)
            raise
        return tracker
