"""The camera of a wild world: it pans, zooms and shakes, and cuts to another view."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Camera:
    """Where the camera looks. World units are the picture's height; times are seconds."""

    pan: NDArray[np.float64]  # (2,) amplitude of the centre
    pan_periods: NDArray[np.float64]  # (2,)
    pan_phases: NDArray[np.float64]  # (2,)
    zoom: tuple[float, float, float, float]  # mean, relative amplitude, period, phase
    shake: NDArray[np.float64]  # (3, 3) amplitudes in x, y (heights) and roll (radians) at three frequencies
    frequencies: NDArray[np.float64]  # (3,) Hz
    cuts: NDArray[np.float64]  # (C,) rising; at each the camera changes between view 0 and view 1
    period: float  # after which the cuts repeat; there is an even number of them

    def view(self, seconds: float) -> int:
        """Which of the two views is on."""
        return int(np.searchsorted(self.cuts, seconds % self.period, side="right") % 2)

    def matrix(self, seconds: float, width: int, height: int) -> NDArray[np.float64]:
        """(2, 3): from world coordinates to the picture's pixels."""
        centre = self.pan * np.sin(2 * np.pi * seconds / self.pan_periods + self.pan_phases)
        waves = np.sin(2 * np.pi * self.frequencies * seconds + np.arange(3)[:, None] * 2.1)  # (3 axes, 3 frequencies)
        x, y, roll = (self.shake * waves.T).sum(0)
        mean, amplitude, period, phase = self.zoom
        scale = height * mean * (1 + amplitude * np.sin(2 * np.pi * seconds / period + phase))
        cos, sin = np.cos(roll) * scale, np.sin(roll) * scale
        turn = np.array([[cos, -sin], [sin, cos]])
        shift = np.array([width / 2, height / 2]) - turn @ (centre + np.array([x, y]))
        return np.column_stack([turn, shift])


def sample_camera(rng: np.random.Generator, aspect: float, cuts: bool) -> Camera:
    """A camera that may pan, zoom and shake, each with some probability; ``cuts``: it changes views every 3 to 8 s."""
    pan = rng.uniform(0.05, 0.3, 2) * (aspect, 0.6) if rng.random() < 0.5 else np.zeros(2)
    zoom = (rng.uniform(0.7, 1.3), rng.uniform(0.05, 0.3) if rng.random() < 0.4 else 0.0)
    shake = np.exp(rng.uniform(np.log(0.0005), np.log(0.006), (3, 3))) if rng.random() < 0.5 else np.zeros((3, 3))
    lengths = rng.uniform(3, 8, 2 * int(rng.integers(2, 5))) if cuts else np.array([1e9])
    return Camera(
        pan,
        rng.uniform(8, 20, 2),
        rng.uniform(0, 2 * np.pi, 2),
        (*zoom, rng.uniform(6, 15), rng.uniform(0, 6.28)),
        shake * [1, 1, 2],
        rng.uniform((0.8, 2, 4), (2, 4, 9)),
        lengths.cumsum()[:-1],
        float(lengths.sum()),
    )
