"""Objects that a person adds, corrects and removes; all of it in the engine's thread."""

import numpy as np
from numpy.typing import NDArray

from daemon.control import UnknownNameError
from daemon.lane.lane import Lane, Tracker
from stages.errors import ConfigError


def add(
    lane: Lane,
    prompt: str | None,
    box: NDArray[np.float32] | None,
    points: tuple[NDArray[np.float32], NDArray[np.int64]] | None,
    mask: NDArray[np.bool_] | None,
) -> int:
    """Start a track on the frame tracked last. Raises ConfigError as stages.tracking.tracker.Tracker.add does."""
    tracker = _tracker(lane)
    number = None if prompt is None else lane.prompt_set.number(prompt)
    return tracker.add(number, box=box, points=points, mask=mask)


def refine(lane: Lane, track: int, points: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
    """Correct a track's mask. Raises UnknownNameError, and ConfigError as Tracker.refine does."""
    _tracker_of(lane, track).refine(track, points, labels)


def remove(lane: Lane, track: int) -> None:
    """End a track. Raises UnknownNameError."""
    _tracker_of(lane, track).remove(track)


def _tracker(lane: Lane) -> Tracker:
    if lane.tracker is None:
        raise ConfigError(f"stream {lane.name} tracks nothing now: its first frame is still to come, or it has ended")
    return lane.tracker


def _tracker_of(lane: Lane, track: int) -> Tracker:
    tracker = _tracker(lane)
    if track not in tracker.ids:
        tracked = ", ".join(map(str, tracker.ids)) or "none"
        raise UnknownNameError(f"stream {lane.name} has no track {track}; tracked now: {tracked}")
    return tracker
