"""Which detection is which track: decided on keyframes, for each prompt by itself."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

MATCH = 0.3  # least overlap of a detection with the track that it continues
DUPLICATE = 0.6  # overlap from which two tracks of one prompt are taken to sit on one object
_FORBIDDEN = 1e6


@dataclass(frozen=True, slots=True)
class Plan:
    """What a keyframe's detections mean; detections by index, tracks by index."""

    matched: list[tuple[int, int]] = field(default_factory=list)  # (detection, track) where they overlap
    reclaimed: list[tuple[int, int]] = field(default_factory=list)  # the track had lost its object, which is back
    fresh: list[int] = field(default_factory=list)  # detections that start a track
    displaced: list[int] = field(default_factory=list)  # tracks that sit on another track's object

    @property
    def continued(self) -> set[int]:
        """The tracks that have a detection."""
        return {track for _, track in self.matched + self.reclaimed}


def assign(affinity: NDArray[np.float32], allowed: NDArray[np.bool_], least: float) -> list[tuple[int, int]]:
    """The pairs (row, column) with the largest total affinity, of those allowed and at least ``least`` (Kuhn 1955)."""
    if not affinity.size:
        return []
    possible = allowed & (affinity >= least)
    rows, columns = linear_sum_assignment(np.where(possible, -affinity, _FORBIDDEN))
    return [(int(r), int(c)) for r, c in zip(rows, columns, strict=True) if possible[r, c]]


def plan(
    same_prompt: NDArray[np.bool_],
    overlap: NDArray[np.float32],
    likeness: NDArray[np.float32],
    between: NDArray[np.float32],
    whole: NDArray[np.bool_],
    reidentify: bool,
) -> Plan:
    """Associate D detections with T tracks.

    same_prompt (D, T); overlap (D, T): IoU of the detection's mask with the track's; likeness (D, T): how alike they
    look, in [-1, 1]; between (T, T): IoU of the tracks of one prompt with each other; whole (T,): the track's mask is
    about as large as when it was last detected. What is left of a mask when its object hides or leaves is not.
    """
    matched = assign(overlap, same_prompt, MATCH)
    held = {track for _, track in matched}
    free = [t for t in range(len(whole)) if t not in held]
    displaced = [t for t in free if any(between[t, other] >= DUPLICATE for other in held)]
    matched_detections = {d for d, _ in matched}
    waiting = [d for d in range(len(overlap)) if d not in matched_detections]
    reclaimed: list[tuple[int, int]] = []
    if reidentify:
        eligible = same_prompt.copy()
        eligible[sorted(matched_detections)] = False
        eligible[:, sorted(held)] = False
        # first the tracks that show no whole mask of their own, then those whose mask no detection bears out
        lost = np.array([not whole[t] or t in displaced for t in range(len(whole))], bool)
        reclaimed = assign(likeness + 2 * lost, eligible, -1.0)
    back = {d for d, _ in reclaimed}
    # a second detection of an object that a track already holds starts nothing
    repeated = {d for d in waiting for t in held if same_prompt[d, t] and overlap[d, t] >= DUPLICATE}
    fresh = [d for d in waiting if d not in back and d not in repeated]
    reclaimed_tracks = {t for _, t in reclaimed}
    return Plan(matched, reclaimed, fresh, [t for t in displaced if t not in reclaimed_tracks])
