"""What is kept: events, the best view of each track, and where segments of recordings are."""

from dataclasses import dataclass
from pathlib import Path

from stages.recording.segment import Segment

Box = tuple[float, float, float, float]  # xyxy in pixels, half-open


@dataclass(frozen=True, slots=True)
class EventRecord:
    """An event message of the mask stream, with what was last known of its track."""

    stream: str
    session: str
    type: str
    time: float  # Unix seconds: capture of its frame; publication where it has none, or of a file
    reason: str
    at: float | None = None  # seconds by the recording's clock, which is that of ``captured_at``; None without a frame
    frame: int | None = None
    track: int | None = None
    prompt: str | None = None
    score: float | None = None
    box: Box | None = None


@dataclass(frozen=True, slots=True, eq=False)
class TrackRecord:
    """A track as far as it is known. Of several records of one, the best view and the last time count."""

    stream: str
    session: str
    track: int
    prompt: str | None
    first: float  # Unix seconds, first seen
    last: float  # Unix seconds, last seen
    score: float  # best so far
    box: Box  # of the best view
    quality: float  # how good that view is, to compare it with others
    snapshot: bytes | None = None  # JPEG of the best view; None: the one kept stays


@dataclass(frozen=True, slots=True)
class SegmentGone:
    """A segment of a recording that was removed."""

    stream: str
    video: Path


Record = EventRecord | TrackRecord | Segment | SegmentGone
