"""The nouns that travel through the pipeline.

Images are uint8 RGB, (H, W, 3). Boxes are float32 xyxy in pixels of the source frame, half-open: the box of a
single pixel (x, y) is [x, y, x + 1, y + 1]. Times are seconds, ``captured_at`` is Unix time or, for files, the
time since the first frame.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray

Image = NDArray[np.uint8]


class Clock(StrEnum):
    """Where ``captured_at`` comes from."""

    FILE = "file"  # PTS since the file's start
    ARRIVAL = "arrival"  # wall clock when the packet arrived
    RTCP = "rtcp"  # the camera's own clock


class TrackState(StrEnum):
    """What is known of a track on one frame."""

    NEW = "new"  # detected once, not yet confirmed by a second keyframe
    TRACKED = "tracked"
    OCCLUDED = "occluded"  # kept, but without a visible pixel


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One decoded picture."""

    index: int  # position in the stream, from 0; frames that are lost count too
    pts: int | None  # presentation time in ``time_base`` units, as the container says
    time_base: Fraction
    captured_at: float  # seconds
    clock: Clock
    image: Image  # uint8 (H, W, 3) RGB
    dropped_before: int = 0  # frames lost between the previous frame and this one


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """Consecutive frames of one size that are propagated together; only the first may be a keyframe."""

    epoch: int  # rises when the source changes its format or reconnects
    frames: tuple[Frame, ...]
    keyframe: bool


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """What the detector found on one frame; N boxes as a structure of arrays."""

    boxes: NDArray[np.float32]  # (N, 4) xyxy pixels
    scores: NDArray[np.float32]  # (N,) in [0, 1]
    prompts: NDArray[np.int64]  # (N,) index into the stream's prompts

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, indices: Sequence[int]) -> "Detections":
        """Some of the detections, in the given order."""
        return Detections(self.boxes[indices], self.scores[indices], self.prompts[indices])

    @classmethod
    def empty(cls) -> "Detections":
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))


@dataclass(frozen=True, slots=True)
class Track:
    """One object as it stands on one frame. ``id`` is never reused within a session."""

    id: int
    prompt: int | None  # index into the stream's prompts; None for an object added by hand
    born: int  # frame index
    last_seen: int  # frame index
    state: TrackState
    score: float  # the detection's score when last detected, in [0, 1]
    presence: float  # sigmoid of SAM 2's object score on this frame


class TrackChange(StrEnum):
    """What can happen to a track; the values are the event types of the mask stream."""

    STARTED = "track_started"
    OCCLUDED = "track_occluded"
    RETURNED = "track_returned"
    ENDED = "track_ended"


class StreamEvent(StrEnum):
    """What can happen to a stream; the values are the other event types of the mask stream."""

    SOURCE_UP = "source_up"
    SOURCE_DOWN = "source_down"
    EPOCH = "epoch"
    GOVERNOR = "governor"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class TrackEvent:
    """A change in a track's life."""

    change: TrackChange
    track: int
    prompt: int | None
    frame: int
    reason: str


@dataclass(frozen=True, slots=True)
class Label:
    """A class that the classifier named."""

    label: str
    score: float  # in [0, 1]
    id: int | None = None  # the track that it is of; None: the whole frame


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """All that is known of one frame once it has been tracked.

    ``masks`` are float32 logits (N, h, w) at the decoder's resolution, on the CPU, one for each of ``tracks`` in the
    same order; a pixel belongs to the object where the logit, resized to the frame, is above 0.
    """

    frame: Frame
    epoch: int
    keyframe: bool
    tracks: tuple[Track, ...]
    masks: torch.Tensor
    events: tuple[TrackEvent, ...] = ()
    detections: Detections | None = None  # on keyframes, what the detector found
    classes: tuple[Label, ...] | None = None  # None: the classifier did not run on this frame
    seconds: dict[str, float] = field(default_factory=dict)  # by stage; a window's first result has the whole window's
