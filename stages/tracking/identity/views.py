"""Several views of each of N objects: their looks at different times, each with the time when it was last seen."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

VIEWS = 4  # of each object
RATE = 0.2  # how fast a view follows what looks like it
NEVER = -1  # the time of an empty view


class Views(NamedTuple):
    """Looks (N, VIEWS, D) on the device, and on the host the clock (N, VIEWS) when each was last seen."""

    looks: torch.Tensor
    seen: NDArray[np.int64]

    @classmethod
    def empty(cls, rows: int, dim: int, device: torch.device) -> "Views":
        """Rows without a view, of looks with ``dim`` numbers."""
        return cls(torch.zeros(rows, VIEWS, dim, device=device), np.full((rows, VIEWS), NEVER, np.int64))

    @classmethod
    def first(cls, looks: torch.Tensor, clock: int) -> "Views":
        """Rows with one view each, of looks (N, D) at ``clock``."""
        views = cls.empty(len(looks), looks.shape[1], looks.device)
        views.looks[:, 0], views.seen[:, 0] = looks, clock
        return views

    def take(self, rows: Sequence[int]) -> "Views":
        """A copy of these rows, in this order."""
        chosen = list(rows)
        return Views(self.looks[chosen], self.seen[chosen])

    def and_also(self, other: "Views") -> "Views":
        """These rows, and after them those of ``other``."""
        return Views(torch.cat([self.looks, other.looks]), np.concatenate([self.seen, other.seen]))

    def put(self, row: int, other: "Views", other_row: int) -> None:
        """Replace a row by one of ``other``."""
        self.looks[row], self.seen[row] = other.looks[other_row], other.seen[other_row]

    def see(self, row: int, looks: torch.Tensor, clock: int, like: int | None) -> None:
        """Add looks (D,), seen at ``clock``: to the view ``like``, which they resemble, or else as a new one.

        Where there is no empty view, the one that was not seen for longest goes.
        """
        view = int(self.seen[row].argmin()) if like is None else like
        self.looks[row, view] += (1.0 if like is None else RATE) * (looks - self.looks[row, view])
        self.seen[row, view] = clock

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Both parts, on the host."""
        looks = self.looks.cpu().clone()  # not the storage that it may be a part of
        return {"looks": looks, "seen": torch.from_numpy(self.seen.copy())}

    def like(self, state: dict[str, Any], rows: Sequence[int]) -> "Views":
        """The rows of a `state_dict`, on this device."""
        chosen = list(rows)
        return Views(state["looks"][chosen].to(self.looks), state["seen"].numpy()[chosen])
