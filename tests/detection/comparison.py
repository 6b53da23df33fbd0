"""Comparing detections."""

import numpy as np

from stages.types import Detections


def assert_equal(one: Detections, other: Detections) -> None:
    """There are some, and they are the same bit for bit."""
    assert len(one)
    for mine, theirs in ((one.boxes, other.boxes), (one.scores, other.scores), (one.prompts, other.prompts)):
        np.testing.assert_array_equal(mine, theirs)
