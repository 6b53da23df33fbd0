"""Box thresholds learned per prompt from the scores of one stream.

Scores are compared as log odds. Most boxes that a detector proposes show no prompted object, so the scores of all
prompts together have a background distribution and, if objects are present, a second one above it. A prompt for
something absent cannot measure that background: on the same frames one such prompt scored a thirtieth of what other
absent prompts scored that share a colour or a shape with an object in the picture.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.types import Detections

FLOOR = 0.0025  # box and text threshold to call the detector with; boxes with lower scores are not counted
SLACK = 0.7  # log odds; a goal that is no farther from the initial threshold is the initial threshold
LIMITS = (0.05, 0.7)  # of a threshold that has moved
WARM_UP = 5  # keyframes before the first threshold moves
HALF_LIFE = 1000  # keyframes after which a score has half its weight
STEP = 0.3  # share of the distance to its goal that a threshold moves on a keyframe
MAX_BOXES = 32  # best boxes of a keyframe that are counted, so that the detector's number of proposals does not matter

MIN_SPREAD = 2.0  # standard deviations of the background between its mean and the lowest goal
MIN_SURE_BOXES = 3.0  # a prompt's objects count as present when this many of its boxes reached the initial threshold
MIN_EXCESS = 1.0  # and its boxes above the background exceed it by this much on average, in log odds

_BINS = 60
_EDGES = np.linspace(np.log(FLOOR / (1 - FLOOR)), 6.0, _BINS + 1)  # log odds
_CENTRES = (_EDGES[:-1] + _EDGES[1:]) / 2
_MAX_ROUNDS = 6  # of raising the level; by then it no longer moves

Floats = NDArray[np.float64]


class AutoThresholds:
    """The thresholds of one stream. Memory: a histogram of 60 numbers per prompt, for any number of frames.

    All start at ``start``, a score in [0, 1]. After ``WARM_UP`` keyframes, the threshold of a prompt whose objects have
    been present lately moves to the level that separates background from objects (`separating_level`). Any other prompt
    may be for something absent: its threshold moves up to that level if that is higher, never below ``start``. Where a
    model's scores are as ``start`` expects them, all stay there.
    """

    def __init__(self, prompts: int, start: float) -> None:
        self.values: tuple[float, ...] = (start,) * prompts  # replaced as a whole, so any thread may read it
        self._start_score = start
        self._start = float(_log_odds(np.array(start)))
        self._thresholds = np.full(prompts, self._start)  # log odds
        self._histograms = np.zeros((prompts, _BINS))
        self._warm_up = WARM_UP - 1  # keyframes left that are counted without moving a threshold

    def select(self, found: Detections) -> Detections:
        """The detections of a keyframe that reach their prompt's threshold; then learn from all of them.

        ``found`` is the detector's output at ``FLOOR``, best first. Thresholds may be applied after non-maximum
        suppression, because only a better box of the same prompt suppresses a box.
        """
        reached = found.scores >= np.array(self.values)[found.prompts]
        self._count(found)
        if self._warm_up:
            self._warm_up -= 1
        else:
            self._move()
        return found.take(np.flatnonzero(reached).tolist())

    def rearrange(self, origins: Sequence[int | None]) -> None:
        """Change the prompts: for each new one the index that it had before, or None for one that was not there."""
        kept = [(place, origin) for place, origin in enumerate(origins) if origin is not None]
        thresholds, histograms = np.full(len(origins), self._start), np.zeros((len(origins), _BINS))
        for place, origin in kept:
            thresholds[place], histograms[place] = self._thresholds[origin], self._histograms[origin]
        self._thresholds, self._histograms = thresholds, histograms
        self.values = tuple(self.values[origin] if origin is not None else self._start_score for origin in origins)

    def state_dict(self) -> dict[str, Any]:
        """What has been learned, as plain values that JSON can hold: 62 numbers for each prompt."""
        return {
            "values": list(self.values),
            "thresholds": self._thresholds.tolist(),
            "histograms": self._histograms.tolist(),
            "warm_up": self._warm_up,
        }

    def load_state_dict(self, state: dict[str, Any], origins: Sequence[int | None]) -> None:
        """Go on from a `state_dict`; ``origins`` as in `rearrange`: where its prompts stood for each one here.

        Raises LookupError, TypeError or ValueError for what is no such state; then this one is of no use any more.
        """
        self.values, self._warm_up = tuple(map(float, state["values"])), int(state["warm_up"])
        self._thresholds = np.array(state["thresholds"], np.float64)
        self._histograms = np.array(state["histograms"], np.float64).reshape(-1, _BINS)
        self.rearrange(origins)

    def _count(self, found: Detections) -> None:
        """Add the scores of a keyframe to the histograms, and reduce the weight of older ones."""
        self._histograms *= 0.5 ** (1 / HALF_LIFE)
        bins = np.searchsorted(_EDGES, _log_odds(found.scores[:MAX_BOXES]), "right") - 1
        np.add.at(self._histograms, (found.prompts[:MAX_BOXES], bins.clip(0, _BINS - 1)), 1)

    def _move(self) -> None:
        """Move every threshold towards its goal."""
        pooled = self._histograms.sum(0)
        if not pooled.any():
            return
        level = separating_level(pooled)
        above = self._histograms * (_EDGES[:-1] >= level)
        excess = (above @ _CENTRES) / np.maximum(above.sum(1), 1e-9) - level
        sure_boxes = (self._histograms * (max(level, self._start) <= _CENTRES)).sum(1)
        present = (sure_boxes >= MIN_SURE_BOXES) & (excess >= MIN_EXCESS)
        low, high = _log_odds(np.array(LIMITS))
        goal = np.where(present, level, max(level, self._start)).clip(min(low, self._start), max(high, self._start))
        goal = np.where(abs(goal - self._start) <= SLACK, self._start, goal)
        self._thresholds += STEP * (goal - self._thresholds)
        self.values = tuple((1 / (1 + np.exp(-self._thresholds))).tolist())


def separating_level(histogram: Floats) -> float:
    """The log odds that separate background from objects; ``histogram`` (60,) must not be empty.

    Otsu's threshold (IEEE Trans. Systems, Man, and Cybernetics 9(1), 1979), raised until it is ``MIN_SPREAD`` standard
    deviations above the mean of the scores below it: with few objects Otsu's threshold is inside the background.
    """
    share = np.cumsum(histogram) / histogram.sum()
    mean = np.cumsum(histogram * _CENTRES) / histogram.sum()
    inner = share * (1 - share)
    between = np.divide((mean[-1] * share - mean) ** 2, inner, out=np.zeros(_BINS), where=inner > 1e-12)
    level = float(_EDGES[1 + int((between if between.any() else histogram).argmax())])
    for _ in range(_MAX_ROUNDS):
        below = histogram * (_EDGES[1:] <= level)
        centre = float(np.average(_CENTRES, weights=below))
        spread = float(np.sqrt(np.average((_CENTRES - centre) ** 2, weights=below)))
        level = max(level, centre + MIN_SPREAD * spread)
    return level


def _log_odds(scores: NDArray[np.floating]) -> Floats:
    """The log odds of scores in [0, 1]; 0 and 1 are clipped to finite values."""
    inside = np.clip(scores.astype(np.float64), 1e-5, 1 - 1e-5)
    odds: Floats = np.log(inside / (1 - inside))
    return odds
