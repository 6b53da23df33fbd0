"""What a perfect detector would find in the test source."""

import numpy as np

from stages.testsrc.world import ShapesWorld
from stages.types import Detections


def truth_detections(world: ShapesWorld, t: int) -> Detections:
    """The clearly visible objects, each under its own prompt."""
    truth = world.render(t)[1]
    seen = np.flatnonzero(truth.visible > 0.3)
    return Detections(truth.boxes[seen], np.full(len(seen), 0.9, np.float32), seen)
