"""The sink that keeps a stream's events, and the best view of each of its tracks, in the database."""

from dataclasses import dataclass

from daemon.events.records import Box, EventRecord, TrackRecord
from daemon.events.store import EventStore
from daemon.sinks.sink import FrameOutput, Need
from daemon.sinks.views import qualities
from stages.output.wire import Header, Kind
from stages.recording.thumbnail import thumbnail
from stages.types import Clock, TrackChange

BETTER = 1.2  # how many times as good a view must be to take the place of the one kept
PAUSE = 1.0  # seconds between two pictures of one track
MOST = 2  # pictures made of one frame
REFRESH = 10.0  # seconds after which it is written that a track is still there


@dataclass(slots=True)
class _Seen:
    """A track that is alive."""

    prompt: str | None
    first: float  # Unix seconds, as all times here
    last: float
    score: float = 0.0  # best
    now: float = 0.0  # the last score
    box: Box | None = None  # last
    best: float = 0.0  # how good the view kept is; 0: none is
    best_box: Box | None = None
    pictured: float = 0.0  # when
    written: float = 0.0  # when


class Remembering:
    """Gives the database what happens on one stream. A Sink (see daemon.sinks.sink)."""

    def __init__(self, stream: str, store: EventStore) -> None:
        self._stream, self._store = stream, store
        self._session = ""
        self._tracks: dict[int, _Seen] = {}  # by id
        self._frame: int | None = None  # the last
        self._time, self._at = 0.0, 0.0  # of that, in Unix seconds and by the recording's clock

    def need(self) -> Need:
        """Nothing: small pictures are cut out of the plain frame."""
        return Need.NOTHING

    def message(self, kind: Kind, header: Header) -> bool:
        """Note what a ``masks`` message tells of the tracks; hand on an event."""
        if kind is Kind.MASKS:
            self._note(header)
        elif kind is Kind.EVENT:
            self._event(header)
        return True

    def frame(self, frame: FrameOutput) -> None:
        """Make pictures of tracks that are seen better than before."""
        better: list[tuple[bool, float, int]] = []
        for track, good in qualities(frame.result, frame.header).items():
            seen = self._tracks.get(track)
            if seen is not None and good > BETTER * seen.best and self._time - seen.pictured >= PAUSE:
                better.append((seen.best == 0, good, track))
        for _, good, track in sorted(better, reverse=True)[:MOST]:  # those without a picture first
            seen = self._tracks[track]
            seen.best, seen.best_box, seen.pictured = good, seen.box, self._time
            assert seen.box is not None  # it has an area
            self._write(track, seen, thumbnail(frame.result.frame.image, seen.box))

    def finish(self) -> None:
        """Hand on when the tracks that are alive were last seen."""
        for track, seen in self._tracks.items():
            self._write(track, seen)
        self._tracks.clear()

    def _note(self, header: Header) -> None:
        self._session, self._frame, self._at = header["session"], header["frame"], header["captured_at"]
        self._time = header["published_at"] if header["clock"] == Clock.FILE else self._at
        for entry in header["objects"]:
            seen = self._tracks.get(entry["id"])
            if seen is None:
                seen = self._tracks[entry["id"]] = _Seen(entry["prompt"], self._time, self._time)
            seen.now, seen.score = entry["score"], max(seen.score, entry["score"])
            if entry["area"]:
                x0, y0, x1, y1 = entry["box"]
                seen.box, seen.last = (x0, y0, x1, y1), self._time
            if seen.best and self._time - seen.written >= REFRESH:
                self._write(entry["id"], seen)

    def _event(self, header: Header) -> None:
        frame, track = header["frame"], header["track"]
        of_last = frame is not None and frame == self._frame
        seen = self._tracks.get(track) if track is not None else None
        self._store.add(
            EventRecord(
                stream=self._stream,
                session=header["session"],
                type=header["type"],
                time=self._time if of_last else header["published_at"],
                reason=header["reason"],
                at=self._at if of_last else None,
                frame=frame,
                track=track,
                prompt=header["prompt"],
                score=None if seen is None else seen.now,
                box=None if seen is None else seen.box,
            )
        )
        if seen is not None and header["type"] == TrackChange.ENDED:
            self._write(track, seen)
            del self._tracks[track]

    def _write(self, track: int, seen: _Seen, snapshot: bytes | None = None) -> None:
        """Hand on a track; one that was never seen well enough for a picture is of no use."""
        if seen.best_box is None:
            return
        seen.written = self._time
        about = seen.prompt, seen.first, seen.last, seen.score, seen.best_box, seen.best, snapshot
        self._store.add(TrackRecord(self._stream, self._session, track, *about))
