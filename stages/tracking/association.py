"""Which detection is which track: decided on keyframes, for each prompt by itself."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

MATCH = 0.3  # least overlap of a detection with the track that it continues
DUPLICATE = 0.6  # overlap from which two tracks of one prompt are taken to sit on one object
POSSIBLE = 0.01  # least likeness of a detection and the track out of sight that it may be
ALIKE = 0.3  # the same for a track that shows a whole mask elsewhere
LOOKS = 4.0  # what being alike is worth, against 1 for being in the same place and 1 for a full overlap


@dataclass(frozen=True, slots=True)
class Plan:
    """What a keyframe's detections mean; detections by index, tracks by index."""

    matched: list[tuple[int, int]] = field(default_factory=list)  # (detection, track) where they overlap
    reclaimed: list[tuple[int, int]] = field(default_factory=list)  # the track's object is where its mask is not
    recalled: list[tuple[int, int]] = field(default_factory=list)  # (detection, ended track) that has come back
    fresh: list[int] = field(default_factory=list)  # detections that start a track
    displaced: list[int] = field(default_factory=list)  # tracks that sit on another track's object

    @property
    def continued(self) -> set[int]:
        """The tracks that have a detection."""
        return {track for _, track in self.matched + self.reclaimed}


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """How D detections go with T tracks and, in the last columns, G tracks that have ended."""

    same_prompt: NDArray[np.bool_]  # (D, T + G)
    overlap: NDArray[np.float32]  # (D, T) IoU in [0, 1]
    near: NDArray[np.float32]  # (D, T) in [0, 1], 1 where a track that shows no whole mask is expected
    likeness: NDArray[np.float32]  # (D, T + G) in [0, 1]
    between: NDArray[np.float32]  # (T, T) IoU of the tracks of one prompt with each other
    whole: NDArray[np.bool_]  # (T,) the mask is about as large as usual: what is left when an object hides is not

    def looks_itself(self, detection: int, track: int) -> bool:
        """Whether a detection looks like a track, and more so than like another of its prompt."""
        tracks = slice(len(self.whole))
        others = self.likeness[detection, tracks][self.same_prompt[detection, tracks]]
        return bool(self.likeness[detection, track] >= others.max(initial=ALIKE))


def assign(affinity: NDArray[np.float32], allowed: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """The pairs (row, column) with the largest total affinity, of those allowed (Kuhn 1955)."""
    if not affinity.size:
        return []
    rows, columns = linear_sum_assignment(np.where(allowed, -affinity, 0))
    return [(int(r), int(c)) for r, c in zip(rows, columns, strict=True) if allowed[r, c]]


def plan(evidence: Evidence, reidentify: bool) -> Plan:
    """Associate detections with tracks; without ``reidentify`` only where they overlap."""
    e, tracks = evidence, len(evidence.whole)
    ended = np.zeros((len(e.overlap), e.same_prompt.shape[1] - tracks), np.float32)
    overlap, near = np.hstack([e.overlap, ended]), np.hstack([e.near, ended])
    here = overlap >= MATCH
    if reidentify:
        affinity = here * (1 + overlap) + near + LOOKS * e.likeness
        shows_itself = np.hstack([e.whole, np.zeros(ended.shape[1], bool)])
        least = np.where(shows_itself, ALIKE, POSSIBLE)
        pairs = assign(affinity, e.same_prompt & (here | (near >= ALIKE) | (e.likeness >= least)))
    else:
        pairs = assign(overlap, e.same_prompt & here)
    held = {t for _, t in pairs if t < tracks}
    taken = {d for d, _ in pairs}
    waiting = [d for d in range(len(overlap)) if d not in taken]
    # a second detection of an object that a track already holds starts nothing
    repeated = {d for d in waiting for t in held if e.same_prompt[d, t] and overlap[d, t] >= DUPLICATE}
    free = [t for t in range(tracks) if t not in held]
    return Plan(
        matched=[(d, t) for d, t in pairs if here[d, t]],
        reclaimed=[(d, t) for d, t in pairs if t < tracks and not here[d, t]],
        recalled=[(d, t - tracks) for d, t in pairs if t >= tracks],
        fresh=[d for d in waiting if d not in repeated],
        displaced=[t for t in free if any(e.between[t, other] >= DUPLICATE for other in held)],
    )
