"""Cut a stream of frames into windows, the units that are propagated together."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from stages.errors import SourceError
from stages.types import Clock, Frame, Window


class Pace(Protocol):
    """Window length and keyframe interval in frames; both may change at any time."""

    @property
    def window(self) -> int:
        """Maximum frames of a window."""

    @property
    def every(self) -> int:
        """Frames from one keyframe to the next."""


@dataclass(frozen=True, slots=True)
class FixedPace:
    """Constant window length and keyframe interval."""

    window: int
    every: int


def cut_windows(frames: Iterator[Frame], pace: Pace, epoch: int = 0) -> Iterator[Window]:
    """Cut a stream into windows of at most ``pace.window`` frames of one size, each as soon as it is complete.

    A keyframe starts a window: the first frame of an epoch, and then every ``pace.every``-th frame that arrives. The
    first epoch is ``epoch``; a new one starts where the frame size changes. ``pace`` is read again for each frame. A
    live frame does not wait for the next one: it is a window by itself, to be joined by `join_windows` with those that
    wait beside it. When the source fails, the frames read so far are yielded before its SourceError is raised.
    """
    keyframe = True
    held: list[Frame] = []  # of the next window
    shape: tuple[int, ...] | None = None
    since = 0  # frames since the last keyframe, itself included
    try:
        for frame in frames:
            resized = shape is not None and frame.image.shape != shape
            due = shape is None or resized or since >= pace.every
            if held and due:  # the keyframe interval has become shorter
                yield Window(epoch, tuple(held), keyframe)
                held = []
            epoch += resized
            shape, since = frame.image.shape, 1 if due else since + 1
            if not held:
                keyframe = due
            held.append(frame)
            if len(held) >= pace.window or since >= pace.every or frame.clock is not Clock.FILE:
                yield Window(epoch, tuple(held), keyframe)
                held = []
    except SourceError:
        if held:
            yield Window(epoch, tuple(held), keyframe)
        raise
    if held:
        yield Window(epoch, tuple(held), keyframe)


def join_windows(window: Window, following: Window, most: int) -> Window | None:
    """One window of both; None where they do not belong together or have more than ``most`` frames.

    A keyframe starts a window, and all frames of one are of the same epoch.
    """
    apart = following.keyframe or following.epoch != window.epoch
    if apart or len(window.frames) + len(following.frames) > most:
        return None
    return replace(window, frames=window.frames + following.frames)
