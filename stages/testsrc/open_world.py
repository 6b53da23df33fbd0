"""The three kinds of worlds of the test source, by name."""

from typing import Literal

from stages.testsrc.truth import World
from stages.testsrc.wild.world import WildWorld
from stages.testsrc.world import ShapesWorld

Kind = Literal["plain", "hard", "wild"]
KINDS: tuple[Kind, ...] = ("plain", "hard", "wild")


def open_world(
    kind: Kind, seed: int, width: int = 256, height: int = 256, objects: int | None = None, fps: float = 30.0
) -> World:
    """The world of a seed; ``objects`` None: as many as a world of that kind has by default.

    Raises ConfigError for a hard world with too few objects.
    """
    if kind == "wild":
        return WildWorld(seed, width, height, objects, fps)
    return ShapesWorld(seed, width, height, objects, fps, hard=kind == "hard")


def measured_world(kind: Kind, seed: int, objects: int | None = None) -> World:
    """The world of a seed at the size at which figures are taken: wild ones 640 x 360, the others 256 x 256."""
    return open_world(kind, seed, *(640, 360) if kind == "wild" else (256, 256), objects=objects)
