"""Frames to windows: what is propagated together."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from stages.errors import SourceError
from stages.types import Frame, Window


class Pace(Protocol):
    """How many frames a window holds at most, and how many lie between keyframes; either may change at any time."""

    @property
    def window(self) -> int: ...

    @property
    def every(self) -> int: ...


@dataclass(frozen=True, slots=True)
class FixedPace:
    """A pace that never changes."""

    window: int
    every: int


def cut_windows(frames: Iterator[Frame], pace: Pace, epoch: int = 0) -> Iterator[Window]:
    """Cut a stream into windows of at most ``pace.window`` frames of one size, each as soon as it is complete.

    A keyframe starts a window: the first frame of an epoch, and then every ``pace.every``-th frame that arrives since
    the last one. The first epoch is ``epoch``; a new one starts where the frame size changes. ``pace`` is read anew for
    each frame. When the source fails, the frames read so far still come, then its SourceError.
    """
    keyframe = True
    held: list[Frame] = []
    shape: tuple[int, ...] | None = None
    since = 0  # frames from the last keyframe on
    try:
        for frame in frames:
            resized = shape is not None and frame.image.shape != shape
            due = shape is None or resized or since >= pace.every
            if held and due:  # the interval may have shrunk meanwhile
                yield Window(epoch, tuple(held), keyframe)
                held = []
            epoch += resized
            shape, since = frame.image.shape, 1 if due else since + 1
            if not held:
                keyframe = due
            held.append(frame)
            # a live stream must not wait for the next frame to learn that this one ends its window
            if len(held) >= pace.window or since >= pace.every:
                yield Window(epoch, tuple(held), keyframe)
                held = []
    except SourceError:
        if held:
            yield Window(epoch, tuple(held), keyframe)
        raise
    if held:
        yield Window(epoch, tuple(held), keyframe)
