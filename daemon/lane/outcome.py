"""What the engine hands to a stream's writer, and how dropped windows and outcomes are folded into the next."""

from dataclasses import dataclass, replace

from stages.types import Result, StreamEvent, TrackEvent, Window

_MOST_KEPT = 256  # notices or events of dropped outcomes; beyond that the oldest are lost


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


def skip_window(lost: Window, following: Window) -> Window:
    """Fold a dropped window into the next: add its number of frames, keep its keyframe flag."""
    first, *rest = following.frames
    gone = sum(1 + frame.dropped_before for frame in lost.frames)
    first = replace(first, dropped_before=first.dropped_before + gone)
    return replace(following, frames=(first, *rest), keyframe=following.keyframe or lost.keyframe)


def skip_outcome(lost: Outcome, following: Outcome) -> Outcome:
    """Fold a dropped outcome into the next: its masks and pictures are lost, its events and notices are kept."""
    gone = sum(1 + result.frame.dropped_before for result in lost.results)
    events = tuple(event for result in lost.results for event in result.events)
    return replace(
        following,
        notices=(lost.notices + following.notices)[-_MOST_KEPT:],
        lost_frames=lost.lost_frames + gone + following.lost_frames,
        lost_events=(lost.lost_events + events + following.lost_events)[-_MOST_KEPT:],
    )
