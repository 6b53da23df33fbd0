"""Hungarian association of a keyframe's detections with tracks and ended tracks, within each prompt."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

MIN_OVERLAP = 0.3  # least overlap of a detection with the track that it continues
DUPLICATE_OVERLAP = 0.6  # two tracks, or two detections, of one prompt with this overlap are on one object
MIN_SIMILARITY = 0.01  # least similarity of a detection to a track that is out of sight
MIN_SIMILARITY_WHOLE = 0.3  # the same for a track that has a whole mask elsewhere
MIN_PROXIMITY = 0.3  # least proximity of a detection to a track that is out of sight
SIMILARITY_WEIGHT = 4.0  # of similarity 1 in the affinity, where a match in place counts 1 and a full overlap 1


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
    """Affinities of D detections to T tracks and, in the last columns, to G tracks that have ended."""

    same_prompt: NDArray[np.bool_]  # (D, T + G)
    overlap: NDArray[np.float32]  # (D, T) IoU in [0, 1]
    proximity: NDArray[np.float32]  # (D, T) in [0, 1], 1 at the predicted centre; 0 for tracks with a whole mask
    similarity: NDArray[np.float32]  # (D, T + G) of appearance, in [0, 1]
    track_overlap: NDArray[np.float32]  # (T, T) mask IoU of the tracks of one prompt
    whole: NDArray[np.bool_]  # (T,) the mask shows about the whole object, not only a part that is still visible

    def most_similar(self, detection: int, track: int) -> bool:
        """Whether a detection is similar to a track, and to no other track of its prompt more."""
        tracks = slice(len(self.whole))
        others = self.similarity[detection, tracks][self.same_prompt[detection, tracks]]
        return bool(self.similarity[detection, track] >= others.max(initial=MIN_SIMILARITY_WHOLE))


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
    in_place = overlap >= MIN_OVERLAP
    if reidentify:
        affinity = in_place * (1 + overlap) + proximity + SIMILARITY_WEIGHT * e.similarity
        whole = np.hstack([e.whole, np.zeros(ended.shape[1], bool)])
        similar = e.similarity >= np.where(whole, MIN_SIMILARITY_WHOLE, MIN_SIMILARITY)
        pairs = assign(affinity, e.same_prompt & (in_place | (proximity >= MIN_PROXIMITY) | similar))
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
