"""Frames to windows: what is propagated together."""

from collections.abc import Iterator

from stages.errors import SourceError
from stages.types import Frame, Window


def cut_windows(frames: Iterator[Frame], window: int, every: int) -> Iterator[Window]:
    """Cut a stream into windows of at most ``window`` frames of one size, each as soon as it is complete.

    A keyframe starts a window: every ``every``-th frame that arrives, from the first on, and the first frame of an
    epoch. A new epoch starts where the frame size changes. When the source fails, the frames read so far still come,
    then its SourceError.
    """
    epoch = 0
    keyframe = True
    held: list[Frame] = []
    shape: tuple[int, ...] | None = None
    try:
        for count, frame in enumerate(frames):
            resized = shape is not None and frame.image.shape != shape
            if resized:
                if held:
                    yield Window(epoch, tuple(held), keyframe)
                held = []
                epoch += 1
            if not held:
                keyframe = resized or count % every == 0
            held.append(frame)
            shape = frame.image.shape
            # a live stream must not wait for the next frame to learn that this one ends its window
            if len(held) == window or (count + 1) % every == 0:
                yield Window(epoch, tuple(held), keyframe)
                held = []
    except SourceError:
        if held:
            yield Window(epoch, tuple(held), keyframe)
        raise
    if held:
        yield Window(epoch, tuple(held), keyframe)
