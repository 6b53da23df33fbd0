"""Looks of tracks that have ended, to give an object that returns its former id (re-identification)."""

import copy
from dataclasses import asdict
from typing import Any

import torch

from stages.tracking.identity.views import VIEWS, Views
from stages.tracking.track_table import TrackRecord


def gallery_bytes(capacity: int, dim: int) -> int:
    """The ``nbytes`` of a Gallery, computed without allocating one."""
    return capacity * VIEWS * dim * torch.float32.itemsize


class Gallery:
    """The records and views of the last ``capacity`` tracks that ended. A full gallery drops its oldest entry."""

    def __init__(self, capacity: int, dim: int, device: torch.device) -> None:
        """``dim``: how many numbers the looks have."""
        self._views = Views.empty(capacity, dim, device)
        self.records: list[TrackRecord] = []  # oldest first

    @property
    def nbytes(self) -> int:
        """Bytes of tensor memory held; depends on the capacity alone."""
        return self._views.looks.nbytes

    @property
    def views(self) -> Views:
        """The views of the entries."""
        count = len(self.records)
        return Views(self._views.looks[:count], self._views.seen[:count])

    def copy(self) -> "Gallery":
        """An independent copy; the records themselves are shared."""
        other = copy.copy(self)
        other._views, other.records = Views(self._views.looks.clone(), self._views.seen.copy()), self.records.copy()
        return other

    def add(self, record: TrackRecord, views: Views, row: int) -> None:
        """Add a track that has ended, with the views in ``row``."""
        if len(self.records) == len(self._views.seen):
            self.remove(self.records[0])
        self._views.put(len(self.records), views, row)
        self.records.append(record)

    def resize(self, capacity: int) -> None:
        """Change the capacity; the newest entries stay."""
        for record in self.records[: max(0, len(self.records) - capacity)]:
            self.remove(record)
        kept = self.views
        self._views = Views.empty(capacity, kept.looks.shape[2], kept.looks.device)
        self._views.looks[: len(kept.seen)], self._views.seen[: len(kept.seen)] = kept

    def remove(self, record: TrackRecord) -> None:
        """Remove a track's entry; those after it move up."""
        number = self.records.index(record)
        looks, seen = self._views
        looks[number:-1], seen[number:-1] = looks[number + 1 :].clone(), seen[number + 1 :].copy()
        self.records.pop(number)

    def state_dict(self) -> dict[str, Any]:
        """Records and views, on the host."""
        return {"records": [asdict(record) for record in self.records], **self.views.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Replace the entries by those of a `state_dict`; if there are too many, the newest stay."""
        total = len(state["records"])
        first = max(0, total - len(self._views.seen))
        records = [TrackRecord(**record) for record in state["records"][first:]]
        loaded = self._views.like(state, range(first, total))
        self._views.looks[: len(records)], self._views.seen[: len(records)] = loaded
        self.records = records
