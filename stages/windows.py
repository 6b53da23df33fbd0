"""Cut a stream of frames into windows, the units that are propagated together."""

from collections.abc import Iterator
from dataclasses import replace

from stages.types import Frame, Window


def cut_windows(frames: Iterator[Frame], epoch: int = 0) -> Iterator[Window]:
    """Each frame as a window by itself, to be joined by `join_windows` with those that wait beside it.

    The first frame of an epoch is a keyframe; on which others the detector runs is decided when they are taken up. The
    first epoch is ``epoch``; a new one starts where the frame size changes.
    """
    shape: tuple[int, ...] | None = None
    for frame in frames:
        first = frame.image.shape != shape
        epoch += first and shape is not None
        shape = frame.image.shape
        yield Window(epoch, (frame,), first)


def join_windows(window: Window, following: Window, most: int) -> Window | None:
    """One window of both; None where they do not belong together or have more than ``most`` frames.

    A keyframe starts a window, and all frames of one are of the same epoch.
    """
    apart = following.keyframe or following.epoch != window.epoch
    if apart or len(window.frames) + len(following.frames) > most:
        return None
    return replace(window, frames=window.frames + following.frames)
