"""Motions of the test source's objects. Points are in units of the image's width and height, times in seconds."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Point = NDArray[np.float64]  # (2,) x and y


@dataclass(frozen=True, slots=True, eq=False)
class Bounce:
    """Constant velocity, reflected at ``low`` and ``high``."""

    start: Point
    speed: Point  # per second
    low: Point  # of the centre
    high: Point

    def position(self, seconds: float) -> Point:
        span = self.high - self.low
        travelled = (self.start - self.low + self.speed * seconds) % (2 * span)
        return self.low + np.where(travelled > span, 2 * span - travelled, travelled)


@dataclass(frozen=True, slots=True, eq=False)
class WaypointPath:
    """A periodic path: linear interpolation between waypoints at given times."""

    times: NDArray[np.float64]  # (K,) rising, from 0 to below ``period``
    points: NDArray[np.float64]  # (K, 2)
    period: float

    def position(self, seconds: float) -> Point:
        return np.array(
            [np.interp(seconds, self.times, coordinate, period=self.period) for coordinate in self.points.T]
        )
