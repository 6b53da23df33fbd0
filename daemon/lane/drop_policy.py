"""What is dropped when a live stream's queues are full: the oldest item, folded into the next so that it stays counted.

A full Mailbox calls these functions after `Lane.drop_when_full`; frames that a slow reader leaves out are chosen in
`stages.source.timing.frame_skipping`.
"""

from dataclasses import replace

from daemon.lane.outcome import Outcome
from stages.types import Window

_MOST_KEPT = 256  # notices or events of dropped outcomes; beyond that the oldest are lost


def fold_window(lost: Window, following: Window) -> Window:
    """Fold a dropped window into the next: add its number of frames, keep its keyframe flag and its scene cuts."""
    first, *rest = following.frames
    gone = sum(1 + frame.dropped_before for frame in lost.frames)
    cut = next((frame.motion for frame in lost.frames if frame.cut), None)
    first = replace(first, dropped_before=first.dropped_before + gone, motion=cut or first.motion)
    return replace(following, frames=(first, *rest), keyframe=following.keyframe or lost.keyframe)


def fold_outcome(lost: Outcome, following: Outcome) -> Outcome:
    """Fold a dropped outcome into the next: its masks and pictures are lost, its events and notices are kept."""
    gone = sum(1 + result.frame.dropped_before for result in lost.results)
    events = tuple(event for result in lost.results for event in result.events)
    return replace(
        following,
        notices=(lost.notices + following.notices)[-_MOST_KEPT:],
        lost_frames=lost.lost_frames + gone + following.lost_frames,
        lost_events=(lost.lost_events + events + following.lost_events)[-_MOST_KEPT:],
    )
