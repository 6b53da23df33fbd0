"""Adds, corrects and removes objects that a person points at, on the newest frame or on one that was seen before.

All calls come from the engine's thread. What was seen before is carried to the present in slices, between which the
windows of all streams run.
"""

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from daemon.engine.models import Tracker
from daemon.engine.stream_state import StreamState
from daemon.errors import ConflictError, UnknownNameError
from daemon.lane.trail import Seen
from stages.errors import ConfigError
from stages.output import rle
from stages.types import PastFrame

if TYPE_CHECKING:
    from stages.tracking.carried import Carried

SLICES = 4  # most turns between windows in which an object is carried to the present
STEPS = 8  # most frames in each

Points = tuple[NDArray[np.float32], NDArray[np.int64]]


class Placed(NamedTuple):
    """A track that a person pointed at, and whether it began with that."""

    track: int
    new: bool


@dataclass(slots=True, eq=False)
class Journey:
    """An object on its way from the frame that was seen to the present."""

    carried: "Carried"
    reached: int  # `Seen.number` of the frame that it has come to
    slices: int = SLICES  # that are left


def add(
    stream: StreamState,
    prompt: str | None,
    box: NDArray[np.float32] | None,
    points: Points | None,
    mask: NDArray[np.bool_] | None,
) -> int:
    """Start a track on the last tracked frame; returns its id. Raises ConfigError as Tracker.add does."""
    tracker = stream.started_tracker()
    return tracker.add(_number(stream, prompt), box=box, points=points, mask=mask)


def add_seen(
    stream: StreamState,
    frame: int,
    prompt: str | None,
    box: NDArray[np.float32] | None,
    points: Points | None,
    mask: NDArray[np.bool_] | None,
) -> Placed | Journey:
    """The track that the points meant on ``frame``, or else a new one there or its journey to the present.

    Raises ConflictError for a frame that is not there any more, ConfigError as Tracker.add does.
    """
    tracker, trail = stream.started_tracker(), stream.lane.trail
    seen = trail.find(frame)
    there = seen.track_at(points[0].tolist()) if points is not None and points[1].all() else None
    if there is not None and there in tracker.ids:
        return Placed(there, new=False)
    number = _number(stream, prompt)
    if not trail.ago(seen):
        return Placed(tracker.add(number, box=box, points=points, mask=mask), new=True)
    return Journey(tracker.add_on(_past(stream, seen), number, box=box, points=points, mask=mask), seen.number)


def refine(stream: StreamState, track: int, points: Points) -> None:
    """Correct a track's mask. Raises UnknownNameError, and ConfigError as Tracker.refine does."""
    _tracker_of(stream, track).refine(track, *points)


def refine_seen(stream: StreamState, frame: int, track: int, points: Points) -> Placed | Journey:
    """Correct a track's mask on ``frame``; returns it, or its journey to the present. Errors as of both above."""
    tracker, trail = _tracker_of(stream, track), stream.lane.trail
    seen = trail.find(frame)
    if not trail.ago(seen):
        tracker.refine(track, *points)
        return Placed(track, new=False)
    entry = seen.object(track)
    mask = rle.decode(entry["mask"]) if entry is not None and entry["area"] else None
    return Journey(tracker.refine_on(_past(stream, seen), track, *points, mask), seen.number)


def advance(stream: StreamState, journey: Journey) -> Placed | None:
    """Run one slice of a journey; returns the track once it is in the present. Raises ConflictError."""
    tracker, window = stream.started_tracker(), stream.lane.governor.window
    frames = stream.lane.trail.after(journey.reached)
    # where there are too many frames for the slices that are left, it goes in larger steps
    stride = max(1, ceil(len(frames) / (STEPS * journey.slices)))
    steps = [frames[max(0, end - stride) : end] for end in range(len(frames), 0, -stride)][::-1][:STEPS]
    past = [_past(stream, step[-1], any(seen.cut for seen in step)) for step in steps]
    try:
        for start in range(0, len(past), window):
            tracker.carry(journey.carried, past[start : start + window])
        journey.slices, journey.reached = journey.slices - 1, steps[-1][-1].number
        if past[-1].ago:
            return None
        known, track = tracker.ids, tracker.join(journey.carried)
        return Placed(track, new=track not in known)
    except ConfigError as error:  # the tracks have changed since it began
        raise ConflictError(str(error)) from None


def remove(stream: StreamState, track: int) -> None:
    """End a track. Raises UnknownNameError."""
    _tracker_of(stream, track).remove(track)


def _past(stream: StreamState, seen: Seen, cut: bool = False) -> PastFrame:
    return PastFrame(seen.index, seen.size, seen.image, stream.lane.trail.ago(seen), cut)


def _number(stream: StreamState, prompt: str | None) -> int | None:
    return None if prompt is None else stream.lane.prompt_set.number(prompt)


def _tracker_of(stream: StreamState, track: int) -> Tracker:
    tracker = stream.started_tracker()
    if track not in tracker.ids:
        tracked = ", ".join(map(str, tracker.ids)) or "none"
        raise UnknownNameError(f"stream {stream.lane.name} has no track {track}; tracked now: {tracked}")
    return tracker
