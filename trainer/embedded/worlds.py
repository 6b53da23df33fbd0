"""Training worlds of the test source, and ImageNet's mean and standard deviation."""

from functools import lru_cache

import numpy as np
import torch

from stages.testsrc.truth import World
from stages.testsrc.wild.world import WildWorld
from stages.testsrc.world import ShapesWorld

FIRST_TRAINING_SEED = 1_000_000  # worlds with smaller seeds are held out
MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]  # of ImageNet, as the public models normalise
STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]

HARD_SHARE, WILD_SHARE = 0.25, 0.5  # of the worlds
HARD_WORLDS, WILD_WORLDS = 400, 600  # different ones; not more, because creating one takes up to a quarter of a second
SIZES = ((256, 256), (456, 256))  # width and height of the pictures in pixels


def draw_world(rng: np.random.Generator, objects: int) -> World:
    """A random training world: a hard or a wild one, or an ordinary one with ``objects`` bodies."""
    kind = rng.random()
    if kind < HARD_SHARE:
        return hard_world(FIRST_TRAINING_SEED + int(rng.integers(HARD_WORLDS)))
    if kind < HARD_SHARE + WILD_SHARE:
        return wild_world(FIRST_TRAINING_SEED + int(rng.integers(WILD_WORLDS)))
    width, height = SIZES[int(rng.random() < 0.3)]
    return ShapesWorld(int(rng.integers(FIRST_TRAINING_SEED, 1 << 31)), width, height, objects)


@lru_cache(maxsize=HARD_WORLDS)
def hard_world(seed: int) -> ShapesWorld:
    """A hard world; its picture is wide for every third seed."""
    return ShapesWorld(seed, *SIZES[seed % 3 == 0], hard=True)


@lru_cache(maxsize=WILD_WORLDS)
def wild_world(seed: int) -> WildWorld:
    """A wild world of 3 to 8 objects; its picture is wide for two seeds of three."""
    return WildWorld(seed, *SIZES[seed % 3 != 0], objects=3 + seed % 6)
