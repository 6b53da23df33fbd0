"""How the test source's objects move. Places are in units of the picture's sides, times in seconds."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Place = NDArray[np.float64]  # (2,) x and y


@dataclass(frozen=True, slots=True, eq=False)
class Bounce:
    """Straight lines, reflected at ``low`` and ``high``."""

    start: Place
    speed: Place  # per second
    low: Place  # where it turns round
    high: Place

    def position(self, seconds: float) -> Place:
        span = self.high - self.low
        travelled = (self.start - self.low + self.speed * seconds) % (2 * span)
        return self.low + np.where(travelled > span, 2 * span - travelled, travelled)


@dataclass(frozen=True, slots=True, eq=False)
class Tour:
    """Straight lines from place to place at given times, begun again after every ``period``."""

    times: NDArray[np.float64]  # (K,) rising, from 0 to below ``period``
    places: NDArray[np.float64]  # (K, 2)
    period: float

    def position(self, seconds: float) -> Place:
        return np.array([np.interp(seconds, self.times, along, period=self.period) for along in self.places.T])
