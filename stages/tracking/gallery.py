"""Appearance of tracks that have ended, to give an object that returns its former id (re-identification)."""

import copy
from dataclasses import asdict
from typing import Any

import torch

from stages.tracking.cues import similarity
from stages.tracking.track_table import TrackRecord


class Gallery:
    """The records and colours of the last ``capacity`` tracks that ended. A full gallery drops its oldest entry."""

    def __init__(self, capacity: int, device: torch.device) -> None:
        self._colours = torch.zeros(capacity, 3, device=device)
        self.records: list[TrackRecord] = []  # oldest first

    @property
    def nbytes(self) -> int:
        """Bytes of tensor memory held; depends on the capacity alone."""
        return self._colours.numel() * self._colours.element_size()

    def copy(self) -> "Gallery":
        """An independent copy; the records themselves are shared."""
        other = copy.copy(self)
        other._colours, other.records = self._colours.clone(), self.records.copy()
        return other

    def add(self, record: TrackRecord, colour: torch.Tensor) -> None:
        """Add a track that has ended, with its colour (3,)."""
        if len(self.records) == len(self._colours):
            self.remove(self.records[0])
        self._colours[len(self.records)] = colour
        self.records.append(record)

    def resize(self, capacity: int) -> None:
        """Change the capacity; the newest entries stay."""
        for record in self.records[: max(0, len(self.records) - capacity)]:
            self.remove(record)
        colours = self._colours.new_zeros(capacity, 3)
        colours[: len(self.records)] = self._colours[: len(self.records)]
        self._colours = colours

    def remove(self, record: TrackRecord) -> None:
        """Remove a track's entry; those after it move up."""
        number = self.records.index(record)
        self._colours[number:-1] = self._colours[number + 1 :].clone()
        self.records.pop(number)

    def state_dict(self) -> dict[str, Any]:
        """Records and colours, on the host."""
        colours = self._colours[: len(self.records)].cpu()
        return {"records": [asdict(record) for record in self.records], "colours": colours}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Replace the entries by those of a `state_dict`; if there are too many, the newest stay."""
        first = max(0, len(state["records"]) - len(self._colours))
        records = [TrackRecord(**record) for record in state["records"][first:]]
        self._colours[: len(records)] = state["colours"][first:].to(self._colours)
        self.records = records

    def similarity(self, colours: torch.Tensor) -> torch.Tensor:
        """The colour similarity of D detections (D, 3) to the G entries, (D, G) in (0, 1]."""
        return similarity(colours, self._colours[: len(self.records)])
