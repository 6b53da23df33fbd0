"""The book of a stream's tracks: who is tracked, since when, and what became of them. No tensors.

A track's place in the book is its row in the memory bank; ids rise by one and are never used again.
"""

from dataclasses import dataclass

from stages.types import Track, TrackChange, TrackEvent, TrackState


@dataclass(slots=True)
class Life:
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


class Lives:
    """The tracks in the order of their rows, and the events since they were last taken."""

    def __init__(self) -> None:
        self.rows: list[Life] = []
        self._next_id = 1
        self._events: list[TrackEvent] = []

    def start(self, prompt: int | None, frame: int, score: float, confirmed: bool, area: int, reason: str) -> int:
        """Begin a track in the next row; returns its id."""
        life = Life(self._next_id, prompt, frame, frame, score, confirmed, area, frame)
        self._next_id += 1
        self.rows.append(life)
        self._note(TrackChange.STARTED, life, frame, reason)
        return life.id

    def detected(self, row: int, score: float, frame: int, area: int, returned: bool = False) -> None:
        """A keyframe confirms the track of ``row``."""
        life = self.rows[row]
        life.views += 1
        life.score, life.confirmed, life.misses, life.area, life.detected_at = score, True, 0, area, frame
        if returned:
            if not life.visible:
                self._note(TrackChange.RETURNED, life, frame, "detected again")
            life.visible, life.last_seen = True, frame

    def look(self, row: int, visible: bool, frame: int) -> None:
        """Note whether the track of ``row`` has a visible pixel on ``frame``."""
        life = self.rows[row]
        if visible and not life.visible:
            self._note(TrackChange.RETURNED, life, frame, "visible again")
        elif life.visible and not visible:
            self._note(TrackChange.OCCLUDED, life, frame, "not visible")
        life.visible = visible
        if visible:
            life.last_seen = frame

    def corrected(self, row: int, frame: int, area: int) -> None:
        """The mask of ``row`` has been corrected by hand."""
        self.look(row, area > 0, frame)
        self.rows[row].area = area

    def end(self, row: int, frame: int, reason: str) -> Life:
        """End a track; the last row takes its place, as in the bank."""
        life = self.rows[row]
        self._note(TrackChange.ENDED, life, frame, reason)
        self.rows[row] = self.rows[-1]
        self.rows.pop()
        return life

    def resume(self, life: Life, frame: int, score: float, area: int) -> None:
        """A track that had ended is back, in the next row."""
        self.rows.append(life)
        life.visible = False
        self.detected(len(self.rows) - 1, score, frame, area, returned=True)

    def row_of(self, track: int) -> int | None:
        return next((row for row, life in enumerate(self.rows) if life.id == track), None)

    def by_use(self) -> list[int]:
        """The rows, the least useful first: out of sight for longest, then the lowest score."""
        return sorted(range(len(self.rows)), key=lambda row: (self.rows[row].last_seen, self.rows[row].score))

    def take_events(self) -> tuple[TrackEvent, ...]:
        events, self._events = tuple(self._events), []
        return events

    def _note(self, change: TrackChange, life: Life, frame: int, reason: str) -> None:
        self._events.append(TrackEvent(change, life.id, life.prompt, frame, reason))
