"""Which bodies of a hard world can be seen when, and whether that is fair."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.testsrc.bodies import Body

OUT_OF_SIGHT = 0.1  # share of a body below which nobody can see it
IN_SIGHT = 0.2  # share from which on it can be told from its look-alike
_RATE, _SIDE = 15, 64  # pictures a second that are looked at, and their side


def is_fair(cast: Sequence[Body], cycle: float) -> bool:
    """Whether the bodies, in drawing order and in a square picture, keep to these rules for ``cycle`` seconds.

    Of two look-alikes one is always in sight. Nobody is hidden for more than 2 s, or out of the picture for less than
    1 s or more than 5 s; three times at least somebody is hidden for 0.5 s, and twice away for more than 3 s.
    """
    visible, inside = _look(cast, cycle)
    pairs = [(i, j) for j, body in enumerate(cast) for i in range(j) if cast[i].label == body.label]
    if any(visible[list(pair)].max(0).min() < IN_SIGHT for pair in pairs):
        return False
    hidden: list[float] = []
    away: list[float] = []
    for seen, there in zip(visible, inside, strict=True):
        for begin, end in spans(seen < OUT_OF_SIGHT):
            (hidden if there[begin:end].all() else away).append((end - begin) / _RATE)
    return (
        max(hidden, default=0) < 1.9
        and sum(seconds >= 0.5 for seconds in hidden) >= 3
        and all(1.1 < seconds < 4.9 for seconds in away)
        and sum(seconds > 3.1 for seconds in away) >= 2
    )


def spans(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """(begin, end) of each run of True, half-open."""
    edges = np.flatnonzero(np.diff(np.r_[False, flags, False]))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _look(cast: Sequence[Body], cycle: float) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """(N, T) each body's visible pixels over its whole shape's, and whether it has a pixel in the picture."""
    times = np.arange(round(cycle * _RATE)) / _RATE
    visible = np.zeros((len(cast), len(times)), np.float32)
    inside = np.zeros((len(cast), len(times)), np.bool_)
    for t, seconds in enumerate(times):
        ids = np.zeros((_SIDE, _SIDE), np.uint8)
        alone = np.zeros((_SIDE, _SIDE), np.uint8)
        sizes = np.ones(len(cast))
        for n, body in enumerate(cast):
            polygon = body.polygon(float(seconds), _SIDE, _SIDE)
            corners = np.round(polygon).astype(np.int32)
            sizes[n] = max(1.0, cv2.contourArea(corners))
            alone[:] = 0
            cv2.fillPoly(alone, [corners], 1)
            inside[n, t] = alone.any()
            ids[alone > 0] = n + 1
        visible[:, t] = np.bincount(ids.ravel(), minlength=len(cast) + 1)[1:] / sizes
    return visible, inside
