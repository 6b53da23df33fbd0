"""How much each cue tells about identity in this stream, as learned from the tracks themselves.

A cue's distance is small between two views of one object, and larger between two objects of one prompt, if the cue
tells them apart. Both distributions are learned: the first from a track that is matched again on a keyframe, the second
from two tracks of one prompt that are visible on the same keyframe. Their logarithms are taken as Gaussian with one
covariance, and cues are weighed by their own separation: a cue whose distances are as large for one object as for two
has no weight. What the cues say together is then scaled by the spread of their weighted sum, so that cues that say the
same do not count twice. All of it is on the host, in numbers for one stream.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stages.tracking.identity.looks import CUES

Floats = NDArray[np.float64]

MEMORY = 200.0  # pairs; older ones count less and less
LIMIT = 6.0  # largest log-likelihood ratio, in either direction
CERTAIN = 3.0  # from which on a pair counts as known, to learn from it what motion is worth
_SMALLEST = 1e-3  # added to a distance before its logarithm
_LEAST_VARIANCE = 0.05  # of a logarithm: a cue is never trusted without bounds
_PRIOR = 8.0  # pairs for which the values below count
_SAME = np.array([-2.7, -4.6, -3.9, -3.3, -1.7, -3.2])  # mean logarithm for one object
_OTHER = np.array([-1.8, -3.4, -3.0, -2.4, -1.1, -2.9])  # for two
_VARIANCE = np.array([0.9, 1.0, 0.4, 0.35, 0.3, 0.9])
_NEAR_SAME = 0.9, 0.6  # prior share of pairs of one object that are near: of tracks in sight, out of sight
_NEAR_OTHER = 0.1, 0.15  # the same of pairs of two objects


class Trust:
    """The statistics of one stream's cues, and what they say about pairs of views."""

    def __init__(self) -> None:
        self.means = np.stack([_SAME, _OTHER])  # (2, cues) of log distances: of one object, of two
        self.covariance = np.diag(_VARIANCE)
        self.pairs = np.full(2, _PRIOR)  # as many as the means and the covariance stand for
        prior = np.array([_NEAR_SAME, _NEAR_OTHER]) * _PRIOR
        self.near = np.stack([prior, _PRIOR - prior], axis=2)  # (2 one object or two, 2 in sight or not, 2 near or far)

    @property
    def separation(self) -> Floats:
        """(cues,) by how much a log distance is larger for two objects than for one."""
        apart: Floats = self.means[1] - self.means[0]
        return np.maximum(apart, 0)

    def log_ratio(self, distances: NDArray[np.float32]) -> NDArray[np.float32]:
        """log p(distances | one object) - log p(distances | two), within +-LIMIT, of distances (..., cues)."""
        separation = self.separation
        weights = separation / np.diag(self.covariance)
        spread = weights @ self.covariance @ weights
        if spread <= 0:
            return np.zeros(distances.shape[:-1], np.float32)
        offset = self.means.mean(0) - np.log(distances + _SMALLEST)
        ratio = offset @ weights * (separation @ weights / spread)
        clipped: NDArray[np.float32] = ratio.clip(-LIMIT, LIMIT).astype(np.float32)
        return clipped

    @property
    def usual(self) -> float:
        """Half the log-likelihood ratio of the mean distances of one object; most views of it are as near."""
        mean = np.exp(self.means[0]) - _SMALLEST
        return float(self.log_ratio(mean.clip(min=0).astype(np.float32))) / 2

    def learn(self, same: NDArray[np.float32], other: NDArray[np.float32]) -> None:
        """Learn from the distances (A, cues) of pairs of views of one object, and (B, cues) of two."""
        for which, pairs in enumerate((same, other)):
            if not len(pairs):
                continue
            logs = np.log(pairs.astype(np.float64) + _SMALLEST)
            self.pairs[which] = min(self.pairs[which] + len(logs), MEMORY)
            self.means[which] += min(1.0, len(logs) / self.pairs[which]) * (logs.mean(0) - self.means[which])
            errors = logs - self.means[which]
            rate = min(1.0, len(logs) / self.pairs.sum())
            self.covariance += rate * (errors.T @ errors / len(logs) - self.covariance)
        np.fill_diagonal(self.covariance, np.diag(self.covariance).clip(min=_LEAST_VARIANCE))

    def motion_ratio(self) -> tuple[float, float]:
        """What it is worth that a detection is where a track is expected: of tracks in sight, and out of sight.

        As a log-likelihood ratio against a detection elsewhere, at least 0.
        """
        shares = self.near / self.near.sum(2, keepdims=True)
        log = np.log(shares)
        worth = (log[0] - log[1]) @ (1, -1)
        return float(worth[0].clip(0, 2 * LIMIT)), float(worth[1].clip(0, 2 * LIMIT))

    def learn_motion(self, one: NDArray[np.bool_], hidden: NDArray[np.bool_], near: NDArray[np.bool_]) -> None:
        """Learn from pairs of detection and track that looks alone tell to be of one object or of two."""
        np.add.at(self.near, (1 - one.astype(int), hidden.astype(int), 1 - near.astype(int)), 1)
        self.near *= (MEMORY / self.near.sum(2, keepdims=True)).clip(max=1)
        self.near = self.near.clip(min=0.5)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """All numbers."""
        return {name: torch.from_numpy(value.copy()) for name, value in vars(self).items()}

    @staticmethod
    def fits(state: dict[str, torch.Tensor]) -> bool:
        """Whether the numbers of a `state_dict` are possible ones."""
        positive = state["pairs"], state["near"], state["covariance"].diagonal()
        return all(bool(value.isfinite().all()) for value in state.values()) and all(
            bool((value > 0).all()) for value in positive
        )

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Replace the numbers by those of a `state_dict`."""
        for name in vars(self):
            setattr(self, name, state[name].numpy().copy())


assert len(CUES) == len(_SAME) == len(_OTHER) == len(_VARIANCE)
