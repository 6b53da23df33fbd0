"""What the simulated streams ask for, and when nodes fail: the same for every policy."""

from dataclasses import dataclass

import numpy as np

from daemon.fleet.placement.cost import Work

GIB = 1 << 30
SITES = ("north", "south", "east", "west")
BUDGET = 72 * GIB  # memory of a worker
MODELS = 3 * GIB  # of it, used by the models
SIZES = ((1280, 720), (1920, 1080), (3840, 2160))
SLOWER = (1.0, 1.2, 1.6)  # time for a picture of each size, over that of the smallest
RATES = (10.0, 15.0, 25.0)
DAY = 86400.0


@dataclass(frozen=True)
class Asked:
    """``load``: mean demand over the capacity of all nodes. ``failing``: share of the nodes that fail in an hour."""

    nodes: int = 500
    streams: int = 10_000
    hours: float = 24.0
    load: float = 0.6
    failing: float = 0.05
    every: float = 300.0  # seconds between two reports of a worker
    warm_up: float = 900.0  # seconds at the beginning that do not count: all streams start at once
    seed: int = 0

    @property
    def seconds(self) -> float:
        """The whole run."""
        return self.warm_up + self.hours * 3600


class Demand:
    """Shares of an engine's time that the streams need: by size, rate and scene, by time of day, with noise.

    Scenes differ by a factor (log-normal, sigma 0.4). The day moves a stream by 10 to 50 % about its mean, most of them
    with their peak at noon, give or take three hours. Noise is log-normal with sigma 0.15, and forgets in ten minutes.
    """

    def __init__(self, asked: Asked) -> None:
        random = np.random.default_rng([asked.seed, 1])
        count = asked.streams
        size, rate = random.integers(len(SIZES), size=count), random.integers(len(RATES), size=count)
        self.works = [Work("sam2.1-small", SIZES[i], RATES[j]) for i, j in zip(size, rate, strict=True)]
        self.rates = np.array(RATES)[rate]
        base = self.rates * np.array(SLOWER)[size] * random.lognormal(0, 0.4, count)
        self._base = base * asked.load * asked.nodes / base.sum()
        self._swing = random.uniform(0.1, 0.5, count)
        self._peak = random.normal(DAY / 2, 3 * 3600, count)
        self._random = np.random.default_rng([asked.seed, 2])
        self._noise = self._random.normal(0, 0.15, count)
        self._keep = np.exp(-asked.every / 600)
        self.memory = (random.uniform(1.2, 3.6, count) * GIB).astype(int)
        self.sites = [SITES[i] if i < len(SITES) else None for i in random.integers(12, size=count)]  # a third has one
        self.snapshots = (random.integers(0, 12, count) * 4_700_000).tolist()

    def next(self, now: float) -> np.ndarray:
        """Each stream's demand from ``now`` until the next report."""
        fresh = self._random.normal(0, 0.15, len(self._noise))
        self._noise = self._keep * self._noise + np.sqrt(1 - self._keep**2) * fresh
        day = 1 + self._swing * np.cos(2 * np.pi * (now - self._peak) / DAY)
        return self._base * day * np.exp(self._noise)


def failures(asked: Asked) -> list[tuple[float, int, float]]:
    """When a node fails after the warm-up, which, and when it is back: 5 to 20 minutes later."""
    random = np.random.default_rng([asked.seed, 3])
    events = []
    for node in range(asked.nodes):
        now = asked.warm_up
        while True:
            now += random.exponential(3600 / asked.failing) if asked.failing else np.inf
            if now >= asked.seconds:
                break
            back = now + random.uniform(300, 1200)
            events.append((now, node, back))
            now = back
    return sorted(events)
