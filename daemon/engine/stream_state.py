"""What the engine alone knows of a stream."""

import logging
import time
from dataclasses import dataclass, field

from daemon.engine.classify import ClassifySchedule
from daemon.engine.models import Tracker
from daemon.lane.lane import Lane
from daemon.settings.schema import Detection, Tracking
from stages.detection.auto_threshold import AutoThresholds
from stages.detection.base import Tiles
from stages.detection.prompts import Prompt
from stages.errors import ConfigError
from stages.keyframes.pace import KeyframePace
from stages.types import Detections, Image, Window

WARN_EVERY = 10.0  # seconds

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class KeyframeRequest:
    """What the detector is asked on one keyframe of a stream, and its answer, once it has been given."""

    image: Image
    prompts: tuple[Prompt, ...]
    thresholds: tuple[float, float]  # of boxes, of texts
    tiles: Tiles
    live: bool  # it is of a live stream
    detections: Detections | None = None
    seconds: float = 0.0  # that the answer took

    def together_with(self, other: "KeyframeRequest") -> bool:
        """Whether both can be one call. Pictures of other sizes would be padded, which moves boxes."""
        same_asked = self.prompts == other.prompts and self.thresholds == other.thresholds
        return same_asked and self.image.shape == other.image.shape and self.tiles == other.tiles

    def is_same(self, other: "KeyframeRequest") -> bool:
        """Whether both ask the same of the same picture."""
        return self.image is other.image and self.together_with(other)


@dataclass(slots=True, eq=False)
class StreamState:
    """One stream in the engine. Once added to it, it belongs to the engine's thread."""

    lane: Lane
    detection: Detection
    tracking: Tracking
    schedule: ClassifySchedule
    auto: AutoThresholds | None = None  # chooses box thresholds; None: the configured ones stay
    tracker: Tracker | None = None  # from the first window on
    failed: Window | None = None  # the last window, when it could not be processed
    ahead: KeyframeRequest | None = None  # an answer that came with another stream's, for the next keyframe
    checked: tuple[Prompt, ...] | None = None  # the prompts that were last looked at
    pace: KeyframePace = field(init=False)
    served: float = float("-inf")  # monotonic seconds when its last window was taken up
    _quiet_until: float = 0.0  # monotonic seconds

    def __post_init__(self) -> None:
        detection = self.detection
        self.pace = KeyframePace(detection.every, detection.fewest, detection.share)
        self.show_thresholds()

    def show_thresholds(self) -> None:
        """Tell other threads the least score that a detection of each prompt needs now."""
        prompts = self.lane.prompt_set.prompts
        values = self.auto.values if self.auto else (self.detection.least_score,) * len(prompts)
        self.lane.thresholds = {prompt.written: value for prompt, value in zip(prompts, values, strict=True)}

    def started_tracker(self) -> Tracker:
        """The tracker. Raises ConfigError before the first window and after the last."""
        if self.tracker is None:
            raise tracks_nothing(self.lane.name)
        return self.tracker

    def warn(self, text: str) -> None:
        """Log a warning, at most one in ten seconds."""
        if time.monotonic() >= self._quiet_until:
            self._quiet_until = time.monotonic() + WARN_EVERY
            log.warning("stream %s: %s", self.lane.name, text, extra={"event": "error"})


def tracks_nothing(stream: str) -> ConfigError:
    """The error of a request for a stream that has no tracker."""
    return ConfigError(f"stream {stream} tracks nothing now: its first frame is still to come, or it has ended")
