"""Objects of the wild worlds: 3 % to 40 % of the picture's height, among them look-alikes that differ in pattern only.

Positions are in units of the picture's height, with the origin at the centre of the camera's first view; times are in
seconds. The camera's zoom makes the objects larger or smaller.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from stages.testsrc.bodies import COLOURS, LABELS, outline
from stages.testsrc.wild.patterns import PATTERNS, draw_texture, second_colour

SMALLEST, LARGEST = 0.05, 0.3  # of an object, in units of the picture's height, before the camera's zoom
_PLAIN_SHARE = 0.3  # of the objects that are no look-alikes and have no pattern


@dataclass(frozen=True, slots=True, eq=False)
class Swing:
    """A motion along an ellipse with a slow second swing: it comes back to every place, and never by the same way."""

    centre: NDArray[np.float64]  # (2,)
    reach: NDArray[np.float64]  # (2, 2) amplitudes of the two swings in x and y
    periods: NDArray[np.float64]  # (2, 2) seconds
    phases: NDArray[np.float64]  # (2, 2)

    def position(self, seconds: float) -> NDArray[np.float64]:
        place: NDArray[np.float64] = self.centre + (
            self.reach * np.sin(2 * np.pi * seconds / self.periods + self.phases)
        ).sum(0)
        return place


@dataclass(frozen=True, slots=True, eq=False)
class WildBody:
    """One object: its appearance and motion."""

    label: str
    outline: NDArray[np.float64]  # (K, 2) corners; the larger side of its bounds is 1
    texture: NDArray[np.float32]  # (SIDE, SIDE, 3) RGB over the bounds of the outline
    size: float
    motion: Swing
    turn: tuple[float, float, float]  # amplitude in radians, period and phase of the rotation's oscillation
    view: int  # the camera's view in which it is seen

    def pose(self, seconds: float) -> NDArray[np.float64]:
        """(2, 3): from the outline's coordinates to the world's at that time."""
        amplitude, period, phase = self.turn
        angle = amplitude * np.sin(2 * np.pi * seconds / period + phase)
        cos, sin = np.cos(angle) * self.size, np.sin(angle) * self.size
        x, y = self.motion.position(seconds)
        return np.array([[cos, -sin, x], [sin, cos, y]])


def sample_wild_bodies(rng: np.random.Generator, count: int, aspect: float, views: int) -> list[WildBody]:
    """``count`` bodies in drawing order, spread over the views; ``aspect`` is the picture's width over its height.

    The first four of a view are two pairs of look-alikes; one of each pair crosses the other's way.
    """
    bodies: list[WildBody] = []
    for view in range(views):
        of_view = [number for number in range(count) if number % views == view]
        for number in range(len(of_view)):
            if number in (1, 3):
                bodies.append(_look_alike(rng, bodies[-1]))
            else:
                pattern = None if number > 3 and rng.random() < _PLAIN_SHARE else int(rng.integers(len(PATTERNS)))
                bodies.append(_sample_body(rng, aspect, view, pattern, leaves=rng.random() < 0.45))
    return [bodies[i] for i in rng.permutation(len(bodies))]


def _sample_body(rng: np.random.Generator, aspect: float, view: int, pattern: int | None, leaves: bool) -> WildBody:
    label = str(rng.choice(LABELS))
    name, shape = label.split()
    colour = np.clip(np.array(COLOURS[name]) * rng.uniform(0.85, 1.1) + rng.normal(0, 6, 3), 0, 255)
    return WildBody(
        label,
        outline(rng, shape),
        draw_texture(rng, colour, second_colour(rng, colour), pattern),
        float(
            np.exp(rng.uniform(np.log(SMALLEST), np.log(LARGEST)) if rng.random() < 0.3 else rng.uniform(-2.2, -1.3))
        ),
        _sample_motion(rng, aspect, leaves),
        (rng.uniform(0, 0.5), rng.uniform(2, 7), rng.uniform(0, 6.28)),
        view,
    )


def _look_alike(rng: np.random.Generator, other: WildBody) -> WildBody:
    """A second object of the same label, colour, size and shape with another pattern, that crosses the first's way."""
    name = other.label.split()[0]
    colour = np.array(COLOURS[name]) * rng.uniform(0.92, 1.03)
    texture = draw_texture(rng, colour, second_colour(rng, colour), int(rng.integers(len(PATTERNS))))
    motion = other.motion
    mirrored = replace(
        motion,
        reach=motion.reach * rng.uniform(0.8, 1.2, (2, 2)) * [[-1, 1], [1, -1]],
        phases=motion.phases + rng.uniform(-0.4, 0.4, (2, 2)),
        centre=motion.centre + rng.uniform(-0.12, 0.12, 2),
    )
    turn = (rng.uniform(0, 0.5), rng.uniform(2, 7), rng.uniform(0, 6.28))
    return replace(other, texture=texture, motion=mirrored, size=other.size * rng.uniform(0.95, 1.05), turn=turn)


def _sample_motion(rng: np.random.Generator, aspect: float, leaves: bool) -> Swing:
    """A random motion of at most half the picture's height a second; with ``leaves`` it goes beyond a side."""
    half = np.array([aspect, 1.0]) / 2
    centre = rng.uniform(-0.6, 0.6, 2) * half
    reach = rng.uniform(0.1, 0.55, (2, 2)) * half * [[1.0], [0.4]]
    if leaves:
        axis = int(rng.integers(2))
        reach[0, axis] = half[axis] * rng.uniform(1.1, 1.6)
    periods = np.stack([rng.uniform(7, 16, 2), rng.uniform(3, 7, 2)])
    periods = np.maximum(periods, 2 * np.pi * reach / rng.uniform(0.12, 0.4))
    return Swing(centre, reach, periods, rng.uniform(0, 2 * np.pi, (2, 2)))
