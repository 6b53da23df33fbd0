"""The data types of the pipeline: Frame, Window, Detections, Track, events, Label and Result.

Images are uint8 RGB, (H, W, 3). Boxes are float32 xyxy in pixels of the source frame, half-open: the box of a single
pixel (x, y) is [x, y, x + 1, y + 1]. Times are in seconds; ``captured_at`` is Unix time or, for files, the time since
the first frame.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # `maskcast watch` imports these types, and torch takes more than a second to import
    import torch

    from stages.transfer import Transfer

Image = NDArray[np.uint8]

GRID = 16  # cells of a frame, from left to right and from top to bottom, in which motion and masks are compared


class Clock(StrEnum):
    """The clock of ``captured_at``."""

    FILE = "file"  # PTS since the start of the file
    ARRIVAL = "arrival"  # wall clock when the packet arrived
    RTCP = "rtcp"  # the camera's own clock


class TrackState(StrEnum):
    """The state of a track on one frame."""

    NEW = "new"  # detected once, not yet confirmed on a second keyframe
    TRACKED = "tracked"
    OCCLUDED = "occluded"  # kept, but without a visible pixel


@dataclass(frozen=True, slots=True, eq=False)
class Motion:
    """What has changed since the frames before, as far as a small picture shows it (stages.keyframes.motion)."""

    cut: bool  # the frame shows another scene than the one before
    moving: NDArray[np.bool_] | None  # (GRID, GRID) cells that move against the rest; None: not looked at


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One decoded frame."""

    index: int  # position in the stream, from 0; dropped frames count too
    pts: int | None  # the container's presentation timestamp, in units of ``time_base``
    time_base: Fraction
    captured_at: float  # seconds
    clock: Clock
    image: Image  # uint8 (H, W, 3) RGB
    dropped_before: int = 0  # frames dropped between the previous frame and this one
    motion: Motion | None = None  # None where nobody has looked
    due: float = 0.0  # monotonic seconds until which a live frame may wait: it came in a burst (stages.source.pacing)

    @property
    def cut(self) -> bool:
        """Whether somebody has looked and seen another scene than on the frame before."""
        return self.motion is not None and self.motion.cut


@dataclass(frozen=True, slots=True, eq=False)
class PastFrame:
    """A frame that was tracked, as far as it was kept."""

    index: int  # as in `Frame`
    size: tuple[int, int]  # height and width of its picture then, in whose pixels prompts are given
    image: Image  # the picture, perhaps smaller than it was
    ago: int  # frames tracked since; 0 for the last one
    cut: bool = False  # it shows another scene than the frame looked at before it


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """Consecutive frames of one size that are propagated together; only the first may be a keyframe."""

    epoch: int  # rises when the source changes its frame size or reconnects
    frames: tuple[Frame, ...]
    keyframe: bool  # the detector runs on the first frame


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """The detections on one frame: N boxes as a structure of arrays."""

    boxes: NDArray[np.float32]  # (N, 4) xyxy pixels
    scores: NDArray[np.float32]  # (N,) in [0, 1]
    prompts: NDArray[np.int64]  # (N,) index into the stream's prompts

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, indices: Sequence[int]) -> "Detections":
        """The detections at ``indices``, in that order."""
        return Detections(self.boxes[indices], self.scores[indices], self.prompts[indices])

    @classmethod
    def empty(cls) -> "Detections":
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))


@dataclass(frozen=True, slots=True)
class Track:
    """One tracked object on one frame. ``id`` is never reused within a session."""

    id: int
    prompt: int | None  # index into the stream's prompts; None for an object added by hand
    born: int  # index of its first frame
    last_seen: int  # index of the last frame on which it was visible
    state: TrackState
    score: float  # the detection's score when last detected, in [0, 1]
    presence: float  # sigmoid of SAM 2's object score on this frame


class TrackChange(StrEnum):
    """Changes of a track; the values are event types of the mask stream."""

    STARTED = "track_started"
    OCCLUDED = "track_occluded"
    RETURNED = "track_returned"
    ENDED = "track_ended"


class StreamEvent(StrEnum):
    """Events of a stream; the values are the other event types of the mask stream."""

    SOURCE_UP = "source_up"
    SOURCE_DOWN = "source_down"
    EPOCH = "epoch"
    GOVERNOR = "governor"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class TrackEvent:
    """A change of one track on one frame."""

    change: TrackChange
    track: int
    prompt: int | None
    frame: int
    reason: str


@dataclass(frozen=True, slots=True)
class Label:
    """A class predicted by the classifier."""

    label: str
    score: float  # in [0, 1]
    id: int | None = None  # id of the classified track; None: the whole frame


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """The result of one frame: tracks, masks, events and classes.

    ``logits`` are what the tracker has given; read ``masks``.
    """

    frame: Frame
    epoch: int
    keyframe: bool
    tracks: tuple[Track, ...]
    logits: "torch.Tensor | Transfer"
    events: tuple[TrackEvent, ...] = ()
    detections: Detections | None = None  # of the detector, on keyframes
    classes: tuple[Label, ...] | None = None  # None: the classifier did not run on this frame
    areas: tuple[int, ...] = ()  # of the masks, in pixels of ``masks``, in the order of ``tracks``
    coverage: NDArray[np.uint8] | None = None  # (GRID, GRID) tracks that have a pixel in each cell; None: not known
    seconds: dict[str, float] = field(default_factory=dict)  # by stage, of the whole window, in its first result

    @property
    def masks(self) -> "torch.Tensor":
        """Float32 logits (N, h, w) at the mask decoder's resolution, on the CPU, in the order of ``tracks``.

        A pixel belongs to the object where the logit, resized to the frame, is above 0. Waits until the logits have
        come from the GPU, which rounds them to half precision unless the models run in float32. Any thread may call.
        """
        from stages.transfer import Transfer

        return (self.logits.wait() if isinstance(self.logits, Transfer) else self.logits).float()
