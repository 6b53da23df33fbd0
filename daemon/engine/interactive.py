"""Adds, corrects and removes objects that a person points at. All calls come from the engine's thread."""

import numpy as np
from numpy.typing import NDArray

from daemon.engine.models import Tracker
from daemon.engine.stream_state import StreamState
from daemon.errors import UnknownNameError


def add(
    stream: StreamState,
    prompt: str | None,
    box: NDArray[np.float32] | None,
    points: tuple[NDArray[np.float32], NDArray[np.int64]] | None,
    mask: NDArray[np.bool_] | None,
) -> int:
    """Start a track on the last tracked frame; returns its id. Raises ConfigError as Tracker.add does."""
    tracker = stream.started_tracker()
    number = None if prompt is None else stream.lane.prompt_set.number(prompt)
    return tracker.add(number, box=box, points=points, mask=mask)


def refine(stream: StreamState, track: int, points: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
    """Correct a track's mask. Raises UnknownNameError, and ConfigError as Tracker.refine does."""
    _tracker_of(stream, track).refine(track, points, labels)


def remove(stream: StreamState, track: int) -> None:
    """End a track. Raises UnknownNameError."""
    _tracker_of(stream, track).remove(track)


def _tracker_of(stream: StreamState, track: int) -> Tracker:
    tracker = stream.started_tracker()
    if track not in tracker.ids:
        tracked = ", ".join(map(str, tracker.ids)) or "none"
        raise UnknownNameError(f"stream {stream.lane.name} has no track {track}; tracked now: {tracked}")
    return tracker
