"""The table of a stream's tracks: who is tracked, since when, and what became of them. No tensors.

A track's row here is its row in the memory bank; ids rise by one and are never used again.
"""

from dataclasses import dataclass

from stages.types import Track, TrackChange, TrackEvent, TrackState


@dataclass(slots=True)
class TrackRecord:
    """One track."""

    id: int
    prompt: int | None
    born: int
    last_seen: int
    score: float
    confirmed: bool
    area: int  # of its mask when last detected, in pixels of the decoder
    detected_at: int  # frame index
    visible: bool = True
    views: int = 1  # keyframes that have detected it
    misses: int = 0  # keyframes in a row that showed its mask but no detection there

    def as_track(self, presence: float) -> Track:
        state = TrackState.OCCLUDED if not self.visible else TrackState.TRACKED if self.confirmed else TrackState.NEW
        return Track(self.id, self.prompt, self.born, self.last_seen, state, self.score, presence)


class TrackTable:
    """The tracks in the order of their rows, and the events since they were last taken."""

    def __init__(self) -> None:
        self.rows: list[TrackRecord] = []
        self._next_id = 1
        self._events: list[TrackEvent] = []

    def start(self, prompt: int | None, frame: int, score: float, confirmed: bool, area: int, reason: str) -> int:
        """Begin a track in the next row; returns its id."""
        record = TrackRecord(self._next_id, prompt, frame, frame, score, confirmed, area, frame)
        self._next_id += 1
        self.rows.append(record)
        self._note(TrackChange.STARTED, record, frame, reason)
        return record.id

    def detected(self, row: int, score: float, frame: int, area: int, returned: bool = False) -> None:
        """A keyframe confirms the track of ``row``."""
        record = self.rows[row]
        record.views += 1
        record.score, record.confirmed, record.misses, record.area, record.detected_at = score, True, 0, area, frame
        if returned:
            if not record.visible:
                self._note(TrackChange.RETURNED, record, frame, "detected again")
            record.visible, record.last_seen = True, frame

    def look(self, row: int, visible: bool, frame: int) -> None:
        """Note whether the track of ``row`` has a visible pixel on ``frame``."""
        record = self.rows[row]
        if visible and not record.visible:
            self._note(TrackChange.RETURNED, record, frame, "visible again")
        elif record.visible and not visible:
            self._note(TrackChange.OCCLUDED, record, frame, "not visible")
        record.visible = visible
        if visible:
            record.last_seen = frame

    def corrected(self, row: int, frame: int, area: int) -> None:
        """The mask of ``row`` has been corrected by hand."""
        self.look(row, area > 0, frame)
        self.rows[row].area = area

    def end(self, row: int, frame: int, reason: str) -> TrackRecord:
        """End a track; the last row takes its place, as in the bank."""
        record = self.rows[row]
        self._note(TrackChange.ENDED, record, frame, reason)
        self.rows[row] = self.rows[-1]
        self.rows.pop()
        return record

    def resume(self, record: TrackRecord, frame: int, score: float, area: int) -> None:
        """A track that had ended is back, in the next row."""
        self.rows.append(record)
        record.visible = False
        self.detected(len(self.rows) - 1, score, frame, area, returned=True)

    def row_of(self, track: int) -> int | None:
        return next((row for row, record in enumerate(self.rows) if record.id == track), None)

    def by_use(self) -> list[int]:
        """The rows, the least useful first: out of sight for longest, then the lowest score."""
        return sorted(range(len(self.rows)), key=lambda row: (self.rows[row].last_seen, self.rows[row].score))

    def take_events(self) -> tuple[TrackEvent, ...]:
        events, self._events = tuple(self._events), []
        return events

    def _note(self, change: TrackChange, record: TrackRecord, frame: int, reason: str) -> None:
        self._events.append(TrackEvent(change, record.id, record.prompt, frame, reason))
