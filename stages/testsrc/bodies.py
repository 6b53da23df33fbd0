"""The objects of the test source: their appearance, and their motion in an ordinary world."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.testsrc.motion import Bounce, WaypointPath

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (215, 35, 35),
    "green": (40, 170, 60),
    "blue": (40, 70, 220),
    "yellow": (235, 215, 40),
    "purple": (150, 50, 180),
    "orange": (240, 130, 25),
}
SHAPES = ("circle", "square", "triangle", "star")
LABELS = tuple(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES)


@dataclass(frozen=True, slots=True, eq=False)
class Body:
    """One object: its appearance and motion."""

    label: str
    outline: NDArray[np.float64]  # (K, 2) corners; the larger side of its bounds is 1
    texture: NDArray[np.float32]  # (P, P, 3) RGB
    edge: int  # width in pixels of a black outline, in a 256 px image; 0 for none
    size: float  # larger side, in units of the image's short side
    pulse: tuple[float, float]  # relative amplitude and period of the size's oscillation
    motion: Bounce | WaypointPath  # of the centre
    swing: tuple[float, float, float]  # amplitude in radians, period and phase of the rotation's oscillation

    def polygon(self, seconds: float, width: int, height: int) -> NDArray[np.float64]:
        """(K, 2) corners in pixels at time ``seconds``."""
        amplitude, period, phase = self.swing
        angle = amplitude * np.sin(2 * np.pi * seconds / period + phase)
        cos, sin = np.cos(angle), np.sin(angle)
        scale = self.size * min(width, height) * (1 + self.pulse[0] * np.sin(2 * np.pi * seconds / self.pulse[1]))
        rotated: NDArray[np.float64] = self.outline @ np.array([[cos, sin], [-sin, cos]]) * scale
        return rotated + self.motion.position(seconds) * (width, height)


def sample_bodies(rng: np.random.Generator, count: int) -> list[Body]:
    """Random bodies of an ordinary world, in drawing order."""
    bodies: list[Body] = []
    motions: list[Bounce] = []
    for number in range(count):
        taken = np.array([motion.start for motion in motions]).reshape(-1, 2)
        label, start = str(rng.choice(LABELS)), _free_point(rng, taken)
        size, motion = _sample_bounce(rng, start, leaves=number % 3 == 2)
        motions.append(motion)
        bodies.append(sample_body(rng, label, size, motion))
    if count >= 2 and rng.random() < 0.5:
        bodies[1] = _look_alike(rng, bodies[0], motions[0])
    return [bodies[i] for i in rng.permutation(count)]


def sample_body(rng: np.random.Generator, label: str, size: float, motion: Bounce | WaypointPath) -> Body:
    """A body of the given label, size and motion with a random appearance."""
    colour, shape = label.split()
    return Body(
        label=label,
        outline=outline(rng, shape),
        texture=_texture(rng, COLOURS[colour]),
        edge=int(rng.integers(1, 4)) if rng.random() < 0.3 else 0,
        size=size,
        pulse=(rng.uniform(0, 0.12), rng.uniform(3, 8)),
        motion=motion,
        swing=(rng.uniform(0, 0.35), rng.uniform(2, 6), rng.uniform(0, 6.28)),
    )


def _free_point(rng: np.random.Generator, taken: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of four random points, the one farthest from those ``taken``."""
    points = rng.uniform(0.18, 0.82, (4, 2))
    nearest = np.linalg.norm(points[:, None] - taken[None], axis=2).min(1, initial=9.0)
    free: NDArray[np.float64] = points[nearest.argmax()]
    return free


def _sample_bounce(rng: np.random.Generator, start: NDArray[np.float64], leaves: bool) -> tuple[float, Bounce]:
    """A random size and a motion; with ``leaves``, the motion goes beyond one side of the image and returns."""
    low, high = np.full(2, 0.12), np.full(2, 0.88)
    heading = rng.uniform(0, 2 * np.pi)
    speed = rng.uniform(0.06, 0.4) * np.array([np.cos(heading), np.sin(heading)])
    size = float(np.exp(rng.uniform(np.log(0.17), np.log(0.36))))
    if leaves:
        axis = int(rng.integers(2))
        exit_speed = rng.uniform(0.15, 0.4)
        beyond = size * 0.6 + exit_speed * rng.uniform(0.7, 2.5) / 2
        speed[axis] = exit_speed if rng.random() < 0.5 else -exit_speed
        if speed[axis] > 0:
            high[axis] = 1 + beyond
        else:
            low[axis] = -beyond
    return size, Bounce(start, speed, low, high)


def _look_alike(rng: np.random.Generator, other: Body, motion: Bounce) -> Body:
    """A second object with the same label that moves in the opposite direction on nearly the same line."""
    start = np.array([1 - motion.start[0], np.clip(motion.start[1] + rng.uniform(-0.1, 0.1), 0.15, 0.85)])
    speed = np.array([-motion.speed[0], motion.speed[1]])
    size, bounce = _sample_bounce(rng, start, leaves=False)
    twin = sample_body(rng, other.label, size, replace(bounce, speed=speed))
    return replace(twin, size=other.size * rng.uniform(0.85, 1.15))


def outline(rng: np.random.Generator, shape: str) -> NDArray[np.float64]:
    """(K, 2) corners around the origin; the larger side of their bounds is 1."""
    if shape == "circle":
        angles, radii = np.linspace(0, 2 * np.pi, 48, endpoint=False), np.ones(48)
    elif shape == "square":
        angles, radii = np.pi / 4 + np.arange(4) * np.pi / 2, np.ones(4)
    elif shape == "triangle":
        angles, radii = -np.pi / 2 + np.arange(3) * 2 * np.pi / 3, np.ones(3)
    else:
        angles, radii = -np.pi / 2 + np.arange(10) * np.pi / 5, np.where(np.arange(10) % 2, rng.uniform(0.42, 0.5), 1.0)
    corners = np.stack([radii * np.cos(angles), radii * np.sin(angles)], 1)
    extent = corners.max(0) - corners.min(0)
    centred: NDArray[np.float64] = (corners - (corners.max(0) + corners.min(0)) / 2) / extent.max()
    return centred


def _texture(rng: np.random.Generator, colour: tuple[int, int, int], side: int = 48) -> NDArray[np.float32]:
    """(side, side, 3): the colour with constant, graded, striped or mottled brightness."""
    base = np.clip(np.array(colour) * rng.uniform(0.85, 1.1) + rng.normal(0, 6, 3), 0, 255)
    rows, columns = np.mgrid[:side, :side] / side
    angle, kind = rng.uniform(0, np.pi), int(rng.integers(4))
    along = columns * np.cos(angle) + rows * np.sin(angle)
    brightness = np.ones((side, side))
    if kind == 1:
        brightness += 0.2 * (along - along.mean())
    elif kind == 2:
        brightness += 0.12 * np.sin(along * rng.uniform(12, 30))
    elif kind == 3:
        brightness += 0.1 * cv2.resize(rng.uniform(-1, 1, (5, 5)), (side, side), interpolation=cv2.INTER_CUBIC)
    painted: NDArray[np.float32] = np.clip(base * brightness[..., None], 0, 255).astype(np.float32)
    return painted
