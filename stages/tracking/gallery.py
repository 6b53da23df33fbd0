"""What is left of tracks that have ended, so that who comes back gets the old id."""

import copy

import torch

from stages.tracking.cues import likeness
from stages.tracking.track_table import Life


class Gallery:
    """The last ``capacity`` tracks to end, each with the colour it had; the oldest make room."""

    def __init__(self, capacity: int, device: torch.device) -> None:
        self._colours = torch.zeros(capacity, 3, device=device)
        self.lives: list[Life] = []

    @property
    def nbytes(self) -> int:
        return self._colours.numel() * self._colours.element_size()

    def copy(self) -> "Gallery":
        """One that changes by itself."""
        other = copy.copy(self)
        other._colours, other.lives = self._colours.clone(), self.lives.copy()
        return other

    def keep(self, life: Life, colour: torch.Tensor) -> None:
        if len(self.lives) == len(self._colours):
            self.forget(self.lives[0])
        self._colours[len(self.lives)] = colour
        self.lives.append(life)

    def resize(self, capacity: int) -> None:
        """Keep the last ``capacity``."""
        for life in self.lives[: max(0, len(self.lives) - capacity)]:
            self.forget(life)
        colours = self._colours.new_zeros(capacity, 3)
        colours[: len(self.lives)] = self._colours[: len(self.lives)]
        self._colours = colours

    def forget(self, life: Life) -> None:
        """It has come back, or must make room; those after it move up."""
        number = self.lives.index(life)
        self._colours[number:-1] = self._colours[number + 1 :].clone()
        self.lives.pop(number)

    def likeness(self, colours: torch.Tensor) -> torch.Tensor:
        """How much the detections (D, 3) look like each of them, (D, G)."""
        return likeness(colours, self._colours[: len(self.lives)])
