"""Compare a keyframe's detections with what is known, and learn from the matches what each cue tells."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from stages.tracking.association import MIN_PROXIMITY, Evidence, Matches
from stages.tracking.identity import looks
from stages.tracking.identity.trust import CERTAIN, LIMIT, Trust
from stages.tracking.identity.views import NEVER, VIEWS, Views


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """The looks of D detections compared with the views of M objects."""

    distances: NDArray[np.float32]  # (D, M, cues) to the view that is most like the detection
    likeness: NDArray[np.float32]  # (D, M) log-likelihood ratio of that view
    view: NDArray[np.int64]  # (D, M) which one it is

    def like(self, detection: int, track: int, trust: Trust) -> int | None:
        """The view that a detection resembles as much as usual; None if there is none."""
        usual = self.likeness[detection, track] >= trust.usual
        return int(self.view[detection, track]) if usual else None


def compare(described: torch.Tensor, known: Views, parts: tuple[int, ...], trust: Trust) -> Comparison:
    """Compare looks (D, dim) with the views of M objects. Reads the distances from the device once."""
    objects, cues = len(known.seen), len(looks.CUES)
    between = looks.distances(described, known.looks.flatten(0, 1), parts).cpu().numpy()
    between = between.reshape(len(described), objects, VIEWS, cues)
    ratios = np.where(known.seen != NEVER, trust.log_ratio(between), -LIMIT - 1)
    view = ratios.argmax(2)[..., None]
    nearest = np.take_along_axis(between, view[..., None], 2)[:, :, 0]
    return Comparison(nearest, np.take_along_axis(ratios, view, 2)[..., 0].clip(-LIMIT), view[..., 0])


def learn(trust: Trust, evidence: Evidence, matches: Matches, compared: Comparison, in_view: NDArray[np.bool_]) -> None:
    """Learn from tracks matched in place, each against itself and against the others of its prompt.

    What motion is worth is learned from all pairs that looks alone tell to be of one object, or of two, but not from
    tracks that a cut has put out of view: ``in_view`` (T,) is false for them.
    """
    matched = matches.matched
    same = [compared.distances[d, t] for d, t in matched]
    other = [
        compared.distances[d, t] for d, own in matched for _, t in matched if t != own and evidence.same_prompt[d, t]
    ]
    cues = compared.distances.shape[2]
    trust.learn(*(np.array(pairs, np.float32).reshape(-1, cues) for pairs in (same, other)))
    tracks = len(evidence.whole)
    likeness = np.where(evidence.same_prompt, compared.likeness, -np.inf)[:, :tracks]
    if likeness.size:
        best = (likeness == likeness.max(0)) & (likeness == likeness.max(1, keepdims=True))
        one, two = best & (likeness >= CERTAIN), (likeness <= -CERTAIN) & np.isfinite(likeness)
        hidden = np.broadcast_to(~evidence.whole, likeness.shape)
        near = np.where(hidden, evidence.proximity >= MIN_PROXIMITY, evidence.in_place)
        known = (one | two) & in_view
        trust.learn_motion(one[known], hidden[known], near[known])
