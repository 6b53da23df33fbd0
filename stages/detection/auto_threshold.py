"""Box thresholds from the scores that a stream has seen so far, one a prompt.

Scores are compared as log odds. Most boxes that a detector proposes show nothing that a prompt names, so what all
prompts score together is a background and, where there are objects, a second population above it. A prompt that names
something surely absent is no measure of that background: on the same frames it scored a thirtieth of what absent names
did that share a colour or a shape with something there.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stages.types import Detections

FLOOR = 0.0025  # what to ask of the detector, as box and as text threshold; weaker boxes do not count
LIMITS = (0.05, 0.7)  # of a threshold that has moved
WARM_UP = 5  # keyframes before any threshold moves
HALF_LIFE = 1000  # keyframes after which a score counts half
STEP = 0.3  # share of the way to its new value that a threshold moves at a keyframe
BEST = 32  # boxes of a keyframe that count, so that it does not matter how many a model proposes

SPREAD = 2.0  # standard deviations above the background's mean that no threshold goes below
SURE = 3.0  # boxes that reached where the prompt's threshold started, and
EXCESS = 1.0  # log odds by which its boxes exceed the background on average, to believe that its objects are there

_BINS = 60
_EDGES = np.linspace(np.log(FLOOR / (1 - FLOOR)), 6.0, _BINS + 1)  # log odds
_CENTRES = (_EDGES[:-1] + _EDGES[1:]) / 2
_ROUNDS = 6  # of raising a level until it no longer moves

Floats = NDArray[np.float64]


class AutoThresholds:
    """The thresholds of one stream. Memory: 60 numbers a prompt, whatever it sees.

    All start at ``start``, which a detection's score in [0, 1] must reach. Once ``WARM_UP`` keyframes were seen, the
    threshold of a prompt whose objects have shown lately goes to the level that parts background from objects
    (`part`). Any other may name something absent: its threshold only goes up to that level, never down.
    """

    def __init__(self, prompts: int, start: float) -> None:
        self.values: tuple[float, ...] = (start,) * prompts  # replaced, never changed: any thread may read it
        self._initial = start
        self._start = float(_log_odds(np.array(start)))
        self._now = np.full(prompts, self._start)
        self._counts = np.zeros((prompts, _BINS))
        self._waiting = WARM_UP - 1  # keyframes that only teach

    def select(self, found: Detections) -> Detections:
        """Those of a keyframe's detections that reach their prompt's threshold; then learn from all of them.

        ``found`` is what the detector gives at ``FLOOR``, best first. To drop a box after non-maximum suppression is
        as good as before: only a better box of the same prompt suppresses.
        """
        reached = found.scores >= np.array(self.values)[found.prompts]
        self._count(found)
        if self._waiting:
            self._waiting -= 1
        else:
            self._move()
        return found.take(np.flatnonzero(reached).tolist())

    def rearrange(self, origins: Sequence[int | None]) -> None:
        """Go on with other prompts: each was at the place that it names, or is new."""
        kept = [(place, origin) for place, origin in enumerate(origins) if origin is not None]
        now, counts = np.full(len(origins), self._start), np.zeros((len(origins), _BINS))
        for place, origin in kept:
            now[place], counts[place] = self._now[origin], self._counts[origin]
        self._now, self._counts = now, counts
        self.values = tuple(self.values[origin] if origin is not None else self._initial for origin in origins)

    def _count(self, found: Detections) -> None:
        self._counts *= 0.5 ** (1 / HALF_LIFE)
        bins = np.searchsorted(_EDGES, _log_odds(found.scores[:BEST]), "right") - 1
        np.add.at(self._counts, (found.prompts[:BEST], bins.clip(0, _BINS - 1)), 1)

    def _move(self) -> None:
        pooled = self._counts.sum(0)
        if not pooled.any():
            return
        level = part(pooled)
        beyond = self._counts * (_EDGES[:-1] >= level)
        excess = (beyond @ _CENTRES) / np.maximum(beyond.sum(1), 1e-9) - level
        sure = (self._counts * (max(level, self._start) <= _CENTRES)).sum(1)
        shown = (sure >= SURE) & (excess >= EXCESS)
        low, high = _log_odds(np.array(LIMITS))
        goal = np.where(shown, level, max(level, self._start)).clip(min(low, self._start), max(high, self._start))
        self._now += STEP * (goal - self._now)
        self.values = tuple((1 / (1 + np.exp(-self._now))).tolist())


def part(counts: Floats) -> float:
    """The log odds that part background from objects; ``counts`` (60,) is a histogram with some content.

    Otsu's threshold (IEEE Trans. Systems, Man, and Cybernetics 9(1), 1979), raised until it lies ``SPREAD`` standard
    deviations above the mean of what is below it: with few objects Otsu's lies within the background.
    """
    share = np.cumsum(counts) / counts.sum()
    mean = np.cumsum(counts * _CENTRES) / counts.sum()
    inner = share * (1 - share)
    between = np.divide((mean[-1] * share - mean) ** 2, inner, out=np.zeros(_BINS), where=inner > 1e-12)
    level = float(_EDGES[1 + int((between if between.any() else counts).argmax())])
    for _ in range(_ROUNDS):
        below = counts * (_EDGES[1:] <= level)
        centre = float(np.average(_CENTRES, weights=below))
        spread = float(np.sqrt(np.average((_CENTRES - centre) ** 2, weights=below)))
        level = max(level, centre + SPREAD * spread)
    return level


def _log_odds(scores: NDArray[np.floating]) -> Floats:
    """Of scores in [0, 1], a hair inside the ends."""
    inside = np.clip(scores.astype(np.float64), 1e-5, 1 - 1e-5)
    odds: Floats = np.log(inside / (1 - inside))
    return odds
