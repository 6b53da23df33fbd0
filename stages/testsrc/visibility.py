"""Visibility of the bodies of a hard world over time, and the constraints on it."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.testsrc.bodies import Body

INVISIBLE = 0.1  # visible share of a body below which it counts as invisible
RECOGNISABLE = 0.2  # visible share from which on a body can be told from its look-alike
_FPS, _SIDE = 15, 64  # sampling rate, and side of the image in pixels


def meets_constraints(bodies: Sequence[Body], cycle: float) -> bool:
    """Whether the bodies, in drawing order and in a square image, meet these constraints for ``cycle`` seconds.

    One of two look-alikes is always recognisable. No body is occluded for more than 2 s, or out of the image for less
    than 1 s or more than 5 s. There are at least three occlusions of 0.5 s or more and two absences of more than 3 s.
    """
    visible, inside = _visibility(bodies, cycle)
    pairs = [(i, j) for j, body in enumerate(bodies) for i in range(j) if bodies[i].label == body.label]
    if any(visible[list(pair)].max(0).min() < RECOGNISABLE for pair in pairs):
        return False
    occlusions: list[float] = []  # seconds
    absences: list[float] = []
    for body_visible, body_inside in zip(visible, inside, strict=True):
        for begin, end in _runs(body_visible < INVISIBLE):
            (occlusions if body_inside[begin:end].all() else absences).append((end - begin) / _FPS)
    return (
        max(occlusions, default=0) < 1.9
        and sum(seconds >= 0.5 for seconds in occlusions) >= 3
        and all(1.1 < seconds < 4.9 for seconds in absences)
        and sum(seconds > 3.1 for seconds in absences) >= 2
    )


def _runs(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """(begin, end) of each run of True, half-open."""
    edges = np.flatnonzero(np.diff(np.r_[False, flags, False]))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _visibility(bodies: Sequence[Body], cycle: float) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """(N, T) visible share of each body's area, and whether the body has a pixel inside the image."""
    times = np.arange(round(cycle * _FPS)) / _FPS
    visible = np.zeros((len(bodies), len(times)), np.float32)
    inside = np.zeros((len(bodies), len(times)), np.bool_)
    for t, seconds in enumerate(times):
        ids = np.zeros((_SIDE, _SIDE), np.uint8)
        mask = np.zeros((_SIDE, _SIDE), np.uint8)
        areas = np.ones(len(bodies))
        for n, body in enumerate(bodies):
            polygon = body.polygon(float(seconds), _SIDE, _SIDE)
            corners = np.round(polygon).astype(np.int32)
            areas[n] = max(1.0, cv2.contourArea(corners))
            mask[:] = 0
            cv2.fillPoly(mask, [corners], 1)
            inside[n, t] = mask.any()
            ids[mask > 0] = n + 1
        visible[:, t] = np.bincount(ids.ravel(), minlength=len(bodies) + 1)[1:] / areas
    return visible, inside
