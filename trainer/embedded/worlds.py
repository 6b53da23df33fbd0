"""Training worlds of the test source, and ImageNet's mean and standard deviation."""

from functools import cache

import numpy as np
import torch

from stages.testsrc.world import ShapesWorld

FIRST_TRAINING_SEED = 1_000_000  # worlds with smaller seeds are held out
MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]  # of ImageNet, as the public models normalise
STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]

HARD_SHARE = 0.5  # of the worlds
HARD_WORLDS = 400  # different hard worlds; not more, because creating one takes a quarter of a second


def draw_world(rng: np.random.Generator, objects: int) -> ShapesWorld:
    """A random training world: a hard one, or an ordinary one with ``objects`` bodies."""
    if rng.random() < HARD_SHARE:
        return hard_world(FIRST_TRAINING_SEED + int(rng.integers(HARD_WORLDS)))
    return ShapesWorld(int(rng.integers(FIRST_TRAINING_SEED, 1 << 31)), objects=objects)


@cache
def hard_world(seed: int) -> ShapesWorld:
    return ShapesWorld(seed, hard=True, objects=8)
