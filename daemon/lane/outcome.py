"""What the engine hands to a stream's writer."""

from dataclasses import dataclass

from stages.types import Result, StreamEvent, TrackEvent


@dataclass(frozen=True, slots=True)
class Notice:
    """An event of the stream itself, published in order with the results."""

    event: StreamEvent
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """The outcome of one window: its results, or notices of what happened instead."""

    results: tuple[Result, ...] = ()
    notices: tuple[Notice, ...] = ()
    lost_frames: int = 0  # frames lost before the first result
    lost_events: tuple[TrackEvent, ...] = ()  # the track events of those frames
