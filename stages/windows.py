"""Cut a stream of frames into windows, the units that are propagated together."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from stages.errors import SourceError
from stages.types import Clock, Frame, Window

_SLOW = 1.0  # seconds between two live frames from which on a window does not wait for the next one


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
    first epoch is ``epoch``; a new one starts where the frame size changes. ``pace`` is read again for each frame. Live
    frames that come slowly are not held back. When the source fails, the frames read so far are yielded before its
    SourceError is raised.
    """
    keyframe = True
    held: list[Frame] = []  # of the next window
    shape: tuple[int, ...] | None = None
    since = 0  # frames since the last keyframe, itself included
    captured_at = float("inf")  # of the last frame
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
            # complete windows are yielded at once: a live stream must not wait for its next frame
            slow = frame.clock is not Clock.FILE and frame.captured_at - captured_at >= _SLOW
            captured_at = frame.captured_at
            if len(held) >= pace.window or since >= pace.every or slow:
                yield Window(epoch, tuple(held), keyframe)
                held = []
    except SourceError:
        if held:
            yield Window(epoch, tuple(held), keyframe)
        raise
    if held:
        yield Window(epoch, tuple(held), keyframe)
