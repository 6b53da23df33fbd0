"""What is left of tracks that have ended, so that who comes back gets the old id."""

import copy

import torch

from stages.tracking.cues import likeness
from stages.tracking.track_table import TrackRecord


class Gallery:
    """The last ``capacity`` tracks to end, each with the colour it had; the oldest make room."""

    def __init__(self, capacity: int, device: torch.device) -> None:
        self._colours = torch.zeros(capacity, 3, device=device)
        self.records: list[TrackRecord] = []

    @property
    def nbytes(self) -> int:
        return self._colours.numel() * self._colours.element_size()

    def copy(self) -> "Gallery":
        """One that changes by itself."""
        other = copy.copy(self)
        other._colours, other.records = self._colours.clone(), self.records.copy()
        return other

    def keep(self, record: TrackRecord, colour: torch.Tensor) -> None:
        if len(self.records) == len(self._colours):
            self.forget(self.records[0])
        self._colours[len(self.records)] = colour
        self.records.append(record)

    def resize(self, capacity: int) -> None:
        """Keep the last ``capacity``."""
        for record in self.records[: max(0, len(self.records) - capacity)]:
            self.forget(record)
        colours = self._colours.new_zeros(capacity, 3)
        colours[: len(self.records)] = self._colours[: len(self.records)]
        self._colours = colours

    def forget(self, record: TrackRecord) -> None:
        """It has come back, or must make room; those after it move up."""
        number = self.records.index(record)
        self._colours[number:-1] = self._colours[number + 1 :].clone()
        self.records.pop(number)

    def likeness(self, colours: torch.Tensor) -> torch.Tensor:
        """How much the detections (D, 3) look like each of them, (D, G)."""
        return likeness(colours, self._colours[: len(self.records)])
