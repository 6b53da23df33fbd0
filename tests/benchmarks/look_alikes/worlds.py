"""Worlds of look-alikes that differ in pattern only: they leave and return at another place, in plain or wild light.

The bodies, scenes and lights are those of the wild worlds. Times are in seconds; positions are as in
`stages.testsrc.wild.bodies`.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from stages.testsrc.bodies import COLOURS
from stages.testsrc.wild.bodies import WildBody, sample_wild_bodies
from stages.testsrc.wild.patterns import PATTERNS, draw_texture, second_colour
from stages.testsrc.wild.scenes import draw_scene
from stages.testsrc.wild.world import WildWorld

SHORT, LONG = (1.2, 2.4), (4.0, 5.5)  # absences: less and more than 3 s, after which a track ends by default
VISIT = (3.0, 4.5)  # how long a body stays in sight
_CROSSING = 0.7  # to come in or go out
_BEYOND = 0.3  # how far outside the picture a body waits
_SIZES = 0.16, 0.3
_SAME_COLOUR = 6.0  # most difference of the mean colours of two look-alikes, of 255
CUTS = 10


@dataclass(frozen=True, slots=True, eq=False)
class Visits:
    """A motion through points at given times, with straight lines between them."""

    times: NDArray[np.float64]  # (K,) rising
    points: NDArray[np.float64]  # (K, 2)

    def position(self, seconds: float) -> NDArray[np.float64]:
        return np.array([np.interp(seconds, self.times, self.points[:, axis]) for axis in (0, 1)])


def look_alikes(seed: int, wild: bool, seconds: float) -> WildWorld:
    """A world with two pairs of look-alikes in front of a still camera.

    Both of the first pair leave and return, the second of the other pair leaves while the first stays. Absences are in
    turn short and long. With ``wild`` the light drifts, flickers and goes out, and there is haze, rain or noise.
    """
    rng = np.random.default_rng([seed, 0x1D])
    world = WildWorld(seed, objects=0)
    aspect = world.width / world.height
    calm = np.zeros(0)
    still = np.zeros((3, 3))
    camera = replace(world._camera, pan=np.zeros(2), zoom=(1.0, 0.0, 10.0, 0.0), shake=still, cuts=calm, period=1e9)
    world._camera, world._pillars, world._crf, world._exposure = camera, [], None, 0.0
    if not wild:
        world._light = replace(
            world._light,
            gain=1.0,
            warmth=np.zeros(3),
            flicker=(0.0, 1.0),
            outages=np.zeros((0, 2)),
            haze=0.0,
            rain=0,
            noise=2.0,
        )
    bodies: list[WildBody] = []
    while len(bodies) < 4:
        first = sample_wild_bodies(rng, 1, aspect, 1)[0]
        if not any(body.label == first.label for body in bodies):
            bodies += _pair(rng, first, aspect, seconds, both=not bodies)
    world.bodies = tuple(bodies)
    world.labels = tuple(body.label for body in bodies)
    return world


def _pair(rng: np.random.Generator, first: WildBody, aspect: float, seconds: float, both: bool) -> list[WildBody]:
    """Two bodies of one label, outline, size and two colours, with two patterns."""
    name = first.label.split()[0]
    colour = np.clip(np.array(COLOURS[name]) * rng.uniform(0.85, 1.1), 0, 255)
    second = second_colour(rng, colour)
    schedule = _schedule(rng, seconds)
    bodies = []
    for number, texture in enumerate(_textures(rng, colour, second)):
        leaves = both or number == 1
        motion = _visits(rng, schedule, aspect) if leaves else _stay(rng, seconds, aspect)
        turn = (rng.uniform(0, 0.5), rng.uniform(2, 7), rng.uniform(0, 6.28))
        bodies.append(replace(first, texture=texture, motion=motion, turn=turn, size=0.0, view=0))
    size = float(np.exp(rng.uniform(*np.log(_SIZES))))
    return [replace(body, size=size * rng.uniform(0.97, 1.03)) for body in bodies]


def _textures(
    rng: np.random.Generator, colour: NDArray[np.float64], second: NDArray[np.float64]
) -> list[NDArray[np.float32]]:
    """Two patterns of the same colours, in shares that give about the same mean colour."""
    while True:
        textures = [
            draw_texture(rng, colour, second, int(pattern)) for pattern in rng.choice(len(PATTERNS), 2, replace=False)
        ]
        first, other = (texture.mean((0, 1)) for texture in textures)
        if np.abs(first - other).max() < _SAME_COLOUR:
            return textures


def _schedule(rng: np.random.Generator, seconds: float) -> list[tuple[float, float]]:
    """(begin, end) of each visit."""
    visits, at, number = [], 0.0, int(rng.integers(2))
    while at < seconds:
        end = at + rng.uniform(*VISIT)
        visits.append((at, end))
        at, number = end + rng.uniform(*(SHORT, LONG)[number % 2]), number + 1
    return visits


def _inside(rng: np.random.Generator, aspect: float) -> NDArray[np.float64]:
    return rng.uniform(-0.33, 0.33, 2) * (aspect, 1)


def _outside(rng: np.random.Generator, aspect: float) -> NDArray[np.float64]:
    """A point beyond the left or the right side."""
    return np.array([rng.choice([-1, 1]) * (aspect / 2 + _BEYOND), rng.uniform(-0.35, 0.35)])


def _visits(rng: np.random.Generator, schedule: list[tuple[float, float]], aspect: float) -> Visits:
    times, points = [], []
    for number, (begin, end) in enumerate(schedule):
        inner = np.linspace(begin + _CROSSING * (number > 0), end - _CROSSING, 3)
        times += [*([begin] if number else []), *inner, end]
        points += [
            *([_outside(rng, aspect)] if number else []),
            *(_inside(rng, aspect) for _ in inner),
            _outside(rng, aspect),
        ]
    return Visits(np.array(times), np.array(points))


def _stay(rng: np.random.Generator, seconds: float, aspect: float) -> Visits:
    times = np.arange(0, seconds + 2, 1.7)
    return Visits(times, np.array([_inside(rng, aspect) for _ in times]))


class ToAndFro(WildWorld):
    """A wild world whose camera cuts ten times between two views; ``length`` in seconds."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed, objects=8)
        rng = np.random.default_rng([seed, 0x2F])
        aspect = self.width / self.height
        lengths = rng.uniform(1.5, 5.5, CUTS + 1)
        self.length = float(lengths.sum())
        self._camera = replace(self._camera, cuts=lengths.cumsum()[:-1], period=1e9)
        self._scenes = [draw_scene(rng, int(2.6 * self.width), int(2.6 * self.height)) for _ in range(2)]
        self.bodies = tuple(sample_wild_bodies(rng, 8, aspect, 2))
        self.labels = tuple(body.label for body in self.bodies)
        self._pillars = []
