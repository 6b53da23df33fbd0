"""Results of the pipeline on a world of the test source, with the ground truth."""

from collections import deque
from collections.abc import Iterator, Sequence

from daemon.settings.schema import Detection
from stages.detection.base import Detector
from stages.detection.prompts import Prompt
from stages.segmentation.base import Segmenter
from stages.testsrc.truth import Truth, World
from stages.tracking.tracker import Tracker, TrackerOptions
from stages.types import Frame, Result
from tests.benchmarks.support.engine_run import EngineRun, frame_of

WINDOW = 8  # the daemon's default


def track(
    world: World,
    prompts: Sequence[Prompt],
    detector: Detector,
    segmenter: Segmenter,
    frames: int,
    detection: Detection,
    window: int = WINDOW,
    options: TrackerOptions | None = None,
) -> Iterator[tuple[Result, Truth]]:
    """The results of the first ``frames`` frames as a file, with keyframes where the daemon would have them."""
    truths: deque[Truth] = deque()

    def stream() -> Iterator[Frame]:
        for t in range(frames):
            image, truth = world.render(t)
            truths.append(truth)
            yield frame_of(image, t)

    run = EngineRun(detector, lambda: Tracker(segmenter, options or TrackerOptions()))
    for result in run.track(run.add("world", prompts, detection, live=False, window=window), stream()):
        yield result, truths.popleft()


def keyframes_from(every: int | None) -> Detection:
    """The daemon's settings; with ``every``, that many frames from each keyframe to the next, whatever happens."""
    return Detection() if every is None else Detection(every=every, share=0)
