"""What travels from the engine to a stream's writer, and how losses stay accounted for on the way."""

from dataclasses import dataclass, replace

from stages.types import Result, StreamEvent, TrackEvent, Window

_MOST_KEPT = 256  # notices or events of lost results; a writer that falls farther behind loses the oldest


@dataclass(frozen=True, slots=True)
class Notice:
    """An event of the stream itself, told in order with the results."""

    event: StreamEvent
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What became of one window: its results, or a notice of what happened instead."""

    results: tuple[Result, ...] = ()
    notices: tuple[Notice, ...] = ()
    lost_frames: int = 0  # frames lost before the first result
    lost_events: tuple[TrackEvent, ...] = ()  # what happened on them


def skip_window(lost: Window, following: Window) -> Window:
    """The window that follows a lost one: it says how many frames went, and takes over the duty to detect."""
    first, *rest = following.frames
    gone = sum(1 + frame.dropped_before for frame in lost.frames)
    first = replace(first, dropped_before=first.dropped_before + gone)
    return replace(following, frames=(first, *rest), keyframe=following.keyframe or lost.keyframe)


def skip_outcome(lost: Outcome, following: Outcome) -> Outcome:
    """The outcome that follows a lost one: masks and pictures are gone, what happened is still told."""
    gone = sum(1 + result.frame.dropped_before for result in lost.results)
    events = tuple(event for result in lost.results for event in result.events)
    return replace(
        following,
        notices=(lost.notices + following.notices)[-_MOST_KEPT:],
        lost_frames=lost.lost_frames + gone + following.lost_frames,
        lost_events=(lost.lost_events + events + following.lost_events)[-_MOST_KEPT:],
    )
