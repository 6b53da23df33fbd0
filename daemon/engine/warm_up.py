"""Runs the models before the daemon is ready, so that no stream waits for the compilation of kernels and graphs."""

from fractions import Fraction

import numpy as np

from stages.detection.base import Detector
from stages.detection.prompts import parse_prompts
from stages.segmentation.base import Segmenter
from stages.tracking.tracker import Tracker, TrackerOptions
from stages.types import Clock, Frame, Window

SIDE = 256  # pixels; the pictures are black


def warm_up(detector: Detector, segmenter: Segmenter, max_objects: int, window: int) -> None:
    """Detect once, and track until all memories are full, with each number of objects that batches are padded to.

    ``window``: the longest, in frames; shorter ones are run too.
    """
    detector.detect([_frame(0).image], parse_prompts(["red circle"]), 1.0, 1.0)
    for objects in segmenter.batch_sizes(max_objects):
        # without gating, which keeps objects that do not show out of the memory
        tracker = Tracker(segmenter, TrackerOptions(max_objects=objects, gate=False))
        tracker.step(Window(0, (_frame(0),), False), None)
        for number in range(objects):
            corner = 8.0 * number
            tracker.add(box=np.array([corner, corner, corner + 64, corner + 64], np.float32))
        last = segmenter.recent_pointers + 2 * window  # graphs of full memories differ from those of filling ones
        for start in range(1, last, window):
            length = min(window, last - start)
            tracker.step(Window(0, tuple(_frame(start + i) for i in range(length)), False), None)


def _frame(index: int) -> Frame:
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    return Frame(index, index, Fraction(1, 30), index / 30, Clock.FILE, image)
