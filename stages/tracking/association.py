"""Hungarian association of a keyframe's detections with tracks and ended tracks, within each prompt."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

MIN_OVERLAP = 0.3  # least overlap of a detection with the track that it continues
DUPLICATE_OVERLAP = 0.6  # two tracks, or two detections, of one prompt with this overlap are on one object
MIN_LIKENESS_WHOLE = 2.0  # least likeness of a detection to a track that has a whole mask elsewhere
MIN_PROXIMITY = 0.3  # least proximity of a detection to a track that is out of sight, where it is expected
KNOWN = 3.0  # log odds, before looking, that a detection is of an object that is known
_LEAST = 0.1  # affinity of a match in place, whatever the looks: the light may have changed


@dataclass(frozen=True, slots=True)
class Matches:
    """How a keyframe's detections relate to the tracks; both by index."""

    matched: list[tuple[int, int]] = field(default_factory=list)  # (detection, track) that overlap
    relocated: list[tuple[int, int]] = field(default_factory=list)  # (detection, track) whose mask is elsewhere
    reidentified: list[tuple[int, int]] = field(default_factory=list)  # (detection, ended track) that has returned
    new: list[int] = field(default_factory=list)  # detections that start a track
    displaced: list[int] = field(default_factory=list)  # tracks without a detection, on another track's object

    @property
    def detected_tracks(self) -> set[int]:
        """The tracks that have a detection."""
        return {track for _, track in self.matched + self.relocated}


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """How D detections relate to T tracks and, in the last columns, to G tracks that have ended.

    Likeness and worth are log-likelihood ratios: that both are one object, against two.
    """

    same_prompt: NDArray[np.bool_]  # (D, T + G)
    overlap: NDArray[np.float32]  # (D, T) IoU in [0, 1]
    proximity: NDArray[np.float32]  # (D, T) in [0, 1], 1 at the predicted centre; 0 for tracks with a whole mask
    likeness: NDArray[np.float32]  # (D, T + G) of the looks
    track_overlap: NDArray[np.float32]  # (T, T) mask IoU of the tracks of one prompt
    whole: NDArray[np.bool_]  # (T,) the mask shows about the whole object, not only a part that is still visible
    worth: tuple[float, float] = (4.0, 2.0)  # of a match in place with full overlap, and of proximity 1

    def most_like(self, detection: int, track: int) -> bool:
        """Whether a detection looks like a track, and like no other track of its prompt more."""
        tracks = slice(len(self.whole))
        others = self.likeness[detection, tracks][self.same_prompt[detection, tracks]]
        return bool(self.likeness[detection, track] >= others.max(initial=0.0))

    @property
    def in_place(self) -> NDArray[np.bool_]:
        """(D, T) whether a detection is where a track's mask is."""
        return self.overlap >= MIN_OVERLAP


def assign(affinity: NDArray[np.float32], allowed: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """The allowed pairs (row, column) with the largest total affinity: the Hungarian method (Kuhn 1955)."""
    if not affinity.size:
        return []
    rows, columns = linear_sum_assignment(np.where(allowed, -affinity, 0))
    return [(int(r), int(c)) for r, c in zip(rows, columns, strict=True) if allowed[r, c]]


def associate(evidence: Evidence, reidentify: bool) -> Matches:
    """Associate detections with tracks; without ``reidentify`` by overlap alone."""
    e, tracks = evidence, len(evidence.whole)
    ended = np.zeros((len(e.overlap), e.same_prompt.shape[1] - tracks), np.float32)
    overlap, proximity = np.hstack([e.overlap, ended]), np.hstack([e.proximity, ended])
    in_place = np.hstack([e.in_place, ended.astype(bool)])
    if reidentify:
        whole = np.hstack([e.whole, np.zeros(ended.shape[1], bool)])
        motion = e.worth[0] * in_place * (1 + overlap) / 2 + e.worth[1] * proximity
        affinity = motion + e.likeness + KNOWN
        affinity = np.where(in_place, np.maximum(affinity, _LEAST), affinity).astype(np.float32)
        possible = np.where(whole & ~in_place, e.likeness >= MIN_LIKENESS_WHOLE, affinity > 0)
        pairs = assign(affinity, e.same_prompt & possible)
    else:
        pairs = assign(overlap, e.same_prompt & in_place)
    detected = {t for _, t in pairs if t < tracks}
    used = {d for d, _ in pairs}
    unmatched = [d for d in range(len(overlap)) if d not in used]
    # a second detection of an object that is already tracked starts no track
    duplicates = {d for d in unmatched for t in detected if e.same_prompt[d, t] and overlap[d, t] >= DUPLICATE_OVERLAP}
    undetected = [t for t in range(tracks) if t not in detected]
    return Matches(
        matched=[(d, t) for d, t in pairs if in_place[d, t]],
        relocated=[(d, t) for d, t in pairs if t < tracks and not in_place[d, t]],
        reidentified=[(d, t - tracks) for d, t in pairs if t >= tracks],
        new=[d for d in unmatched if d not in duplicates],
        displaced=[t for t in undetected if any(e.track_overlap[t, other] >= DUPLICATE_OVERLAP for other in detected)],
    )
