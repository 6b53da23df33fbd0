"""The records of a stream's tracks and the events of their lives. No tensors.

A track's row in the table is its row in the memory bank; ids rise by one and are never reused.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any

from stages.types import Track, TrackChange, TrackEvent, TrackState


@dataclass(slots=True)
class TrackRecord:
    """One track. Frames are given by their index in the stream."""

    id: int
    prompt: int | None  # None for an object added by hand without a prompt
    born: int
    last_seen: int
    score: float
    confirmed: bool  # by a second keyframe, or added by hand
    area: int  # of its mask when last detected, in pixels of the mask
    detected_at: int  # the last frame with a detection
    visible: bool = True
    views: int = 1  # keyframes that have detected it
    misses: int = 0  # keyframes in a row on which it has a mask but no detection
    away: bool = False  # the camera has cut to another view since its last detection

    def renumbered(self, offset: int) -> "TrackRecord":
        """The same record with ``offset`` added to the index of each frame."""
        born, last_seen, detected_at = (index + offset for index in (self.born, self.last_seen, self.detected_at))
        return replace(self, born=born, last_seen=last_seen, detected_at=detected_at)

    def as_track(self, presence: float) -> Track:
        """The track as it stands now; ``presence`` in [0, 1]."""
        state = TrackState.OCCLUDED if not self.visible else TrackState.TRACKED if self.confirmed else TrackState.NEW
        return Track(self.id, self.prompt, self.born, self.last_seen, state, self.score, presence)


class TrackTable:
    """The tracks in the order of their rows, and the events since `take_events` was last called."""

    def __init__(self) -> None:
        self.rows: list[TrackRecord] = []
        self._next_id = 1
        self._events: list[TrackEvent] = []

    def start(self, prompt: int | None, frame: int, score: float, confirmed: bool, area: int, reason: str) -> int:
        """Start a track in the next row; returns its id."""
        record = TrackRecord(self._next_id, prompt, frame, frame, score, confirmed, area, frame)
        self._next_id += 1
        self.rows.append(record)
        self._add_event(TrackChange.STARTED, record, frame, reason)
        return record.id

    def skip_ids(self, count: int) -> None:
        """Give none of the next ``count`` ids."""
        self._next_id += count

    def record_detection(self, row: int, score: float, frame: int, area: int, relocated: bool = False) -> None:
        """A keyframe has detected the track of ``row``; ``relocated``: not where its mask was, so it counts as seen."""
        record = self.rows[row]
        record.views += 1
        record.score, record.confirmed, record.misses, record.area, record.detected_at = score, True, 0, area, frame
        if relocated:
            if not record.visible:
                self._add_event(TrackChange.RETURNED, record, frame, "detected again")
            record.visible, record.last_seen, record.away = True, frame, False

    def record_visibility(self, row: int, visible: bool, frame: int) -> None:
        """Record whether the track of ``row`` has a visible pixel on ``frame``."""
        record = self.rows[row]
        if visible and not record.visible:
            self._add_event(TrackChange.RETURNED, record, frame, "visible again")
        elif record.visible and not visible:
            self._add_event(TrackChange.OCCLUDED, record, frame, "not visible")
        record.visible = visible
        if visible:
            record.last_seen = frame

    def record_correction(self, row: int, frame: int, area: int) -> None:
        """The mask of ``row`` has been corrected by hand and now has ``area`` pixels."""
        self.record_visibility(row, area > 0, frame)
        self.rows[row].area, self.rows[row].away = area, False

    def end(self, row: int, frame: int, reason: str) -> TrackRecord:
        """End a track; the last row moves to its row, as in the memory bank."""
        record = self.rows[row]
        self._add_event(TrackChange.ENDED, record, frame, reason)
        self.rows[row] = self.rows[-1]
        self.rows.pop()
        return record

    def resume(self, record: TrackRecord, frame: int, score: float, area: int) -> None:
        """Continue a track that had ended, in the next row."""
        self.rows.append(record)
        record.visible = False
        self.record_detection(len(self.rows) - 1, score, frame, area, relocated=True)

    def row_of(self, track: int) -> int | None:
        """The row of a track id; None if it is not tracked."""
        return next((row for row, record in enumerate(self.rows) if record.id == track), None)

    def eviction_order(self) -> list[int]:
        """The rows in the order in which they are evicted: longest out of sight first, then lowest score."""
        return sorted(range(len(self.rows)), key=lambda row: (self.rows[row].last_seen, self.rows[row].score))

    def take_events(self) -> tuple[TrackEvent, ...]:
        """Return the events since the last call, and clear them."""
        events, self._events = tuple(self._events), []
        return events

    def renumber(self, offset: int) -> None:
        """Add ``offset`` to the index of each frame; events that are still to be told are on frame 0 or later."""
        self.rows = [record.renumbered(offset) for record in self.rows]
        self._events = [replace(event, frame=max(0, event.frame + offset)) for event in self._events]

    def state_dict(self) -> dict[str, Any]:
        """Records, events and the next id, as plain values."""
        events = [asdict(event) | {"change": event.change.value} for event in self._events]
        return {"rows": [asdict(record) for record in self.rows], "next_id": self._next_id, "events": events}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Replace the content by that of a `state_dict`."""
        self.rows = [TrackRecord(**record) for record in state["rows"]]
        self._next_id = state["next_id"]
        self._events = [TrackEvent(**event | {"change": TrackChange(event["change"])}) for event in state["events"]]

    def _add_event(self, change: TrackChange, record: TrackRecord, frame: int, reason: str) -> None:
        self._events.append(TrackEvent(change, record.id, record.prompt, frame, reason))
