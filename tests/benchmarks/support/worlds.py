"""Results of the pipeline on a world of the test source, with the ground truth."""

from collections import deque
from collections.abc import Iterator, Sequence
from fractions import Fraction

from stages.detection.base import Detector
from stages.detection.prompts import Prompt
from stages.testsrc.open_world import Kind, open_world
from stages.testsrc.truth import Truth, World
from stages.tracking.tracker import Tracker
from stages.types import Clock, Frame, Result
from stages.windows import FixedPace, cut_windows

WINDOW, BOX_THRESHOLD, TEXT_THRESHOLD = 8, 0.25, 0.3  # the daemon's defaults


def measured_world(kind: Kind, seed: int) -> World:
    """The world of a seed at the size at which figures are taken: wild ones 640 x 360, the others 256 x 256."""
    return open_world(kind, seed, *(640, 360) if kind == "wild" else (256, 256))


def track(
    world: World,
    prompts: Sequence[Prompt],
    detector: Detector,
    tracker: Tracker,
    frames: int,
    every: int,
    window: int = WINDOW,
) -> Iterator[tuple[Result, Truth]]:
    """The results of the first ``frames`` frames, with a keyframe every ``every``."""
    truths: deque[Truth] = deque()

    def stream() -> Iterator[Frame]:
        for t in range(frames):
            image, truth = world.render(t)
            truths.append(truth)
            yield Frame(t, t, Fraction(1, 30), t / 30, Clock.FILE, image)

    for shown in cut_windows(stream(), FixedPace(window, every)):
        images = [shown.frames[0].image]
        found = detector.detect(images, prompts, BOX_THRESHOLD, TEXT_THRESHOLD)[0] if shown.keyframe else None
        for result in tracker.step(shown, found):
            yield result, truths.popleft()
