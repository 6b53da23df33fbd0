"""Clips of events: cut out of the recordings when they are asked for, and kept for a while."""

import os
import tempfile
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from daemon.errors import BusyError, UnknownNameError
from daemon.events.questions import StoredEvent
from stages.errors import OutputError
from stages.recording.clip import Piece, cut
from stages.recording.find import Listing
from stages.recording.headers import captured, first_header
from stages.recording.segment import lines_of, start_of

MOST = 8  # clips kept: a browser asks for one in several parts
FRESH = 2.0  # seconds for which a clip is kept whose end is not recorded yet
KEPT = 300.0  # seconds for which nobody asks for a clip, after which it is dropped: it may be in memory
SETTLED = 30.0  # seconds after its end from which nothing is added to a clip


@dataclass(frozen=True, slots=True)
class Place:
    """Where a stream is recorded, and how much of it a clip shows, in seconds."""

    folder: Path | None  # None: nowhere
    before: float
    after: float


class Clip:
    """An MP4 without a name: its disk space is free again once nobody holds it. Any thread may read."""

    def __init__(self, file: int, whole: bool) -> None:
        """``file``: its descriptor, which is the clip's from now on."""
        self.whole, self.made, self.tag = whole, time.monotonic(), uuid.uuid4().hex
        self.asked = self.made
        self._file, self.size = file, os.fstat(file).st_size

    def read(self, start: int, count: int) -> bytes:
        """At most ``count`` bytes from ``start`` on."""
        return os.pread(self._file, count, start)

    def __del__(self) -> None:
        os.close(self._file)


class Clips:
    """Cuts clips. Any thread may call; one clip is cut at a time."""

    def __init__(self, usual: Place) -> None:
        """``usual``: of streams that are not running now."""
        self._usual = usual
        self._places: dict[str, Place] = {}
        # by event, the last asked for at the end; ids alone begin again with a new database
        self._kept: OrderedDict[tuple[str, int, float], Clip] = OrderedDict()
        self._timer: threading.Timer | None = None  # while any is kept
        self._lock = threading.Lock()

    def know(self, stream: str, place: Place) -> None:
        """Where a stream is recorded from now on."""
        self._places[stream] = place

    def there(self, events: Iterable[StoredEvent]) -> set[int]:
        """The ids of those events of which something is recorded, as far as names and times of files tell."""
        read: dict[str, Listing] = {}
        return {event.id for event in events if self._pieces(event, read)}

    def of(self, event: StoredEvent) -> Clip:
        """The clip of an event. Raises UnknownNameError where nothing is recorded, BusyError where there is no room."""
        with self._lock:
            key = event.session, event.id, event.time
            clip = self._kept.pop(key, None)
            if clip is None or not (clip.whole or time.monotonic() - clip.made < FRESH):
                clip = self._cut(event)
            self._kept[key], clip.asked = clip, time.monotonic()
            while len(self._kept) > MOST:
                self._kept.popitem(last=False)
            if self._timer is None:
                self._wait()
            return clip

    def _wait(self) -> None:
        self._timer = threading.Timer(KEPT / 4, self._drop_old)
        self._timer.daemon = True
        self._timer.start()

    def _drop_old(self) -> None:
        with self._lock:
            oldest = time.monotonic() - KEPT
            while self._kept and next(iter(self._kept.values())).asked <= oldest:
                self._kept.popitem(last=False)
            self._timer = None
            if self._kept:
                self._wait()

    def _cut(self, event: StoredEvent) -> Clip:
        first, last = self._span(event)
        try:
            with tempfile.TemporaryDirectory(prefix="maskcast-clip-") as folder:
                target = Path(folder) / "clip.mp4"
                frames, whole = cut(self._pieces(event), first, last, target)
                if not frames:
                    raise UnknownNameError(f"nothing is recorded of event {event.id}, or it has had its time")
                settled = whole or time.time() > event.time + last - first + SETTLED
                return Clip(os.open(target, os.O_RDONLY | os.O_CLOEXEC), settled)
        except OutputError as error:
            raise BusyError(str(error)) from None
        except OSError as error:
            text = f"a clip cannot be written: {error.strerror}; free some space in the folder TMPDIR"
            raise BusyError(text) from None

    def _span(self, event: StoredEvent) -> tuple[float, float]:
        """First and last moment of the clip, by the recording's clock."""
        place, at = self._place(event), event.time if event.at is None else event.at
        return at - place.before, at + place.after

    def _place(self, event: StoredEvent) -> Place:
        return self._places.get(event.stream, self._usual)

    def _pieces(self, event: StoredEvent, read: dict[str, Listing] | None = None) -> list[Piece]:
        """The videos that show the event; with ``read``, names that were read before, their starts are not exact."""
        folder = self._place(event).folder
        if folder is None:
            return []
        with suppress(OSError):
            if event.at is None or event.at == event.time:  # of a camera
                listing = (read or {}).get(event.stream) or Listing(folder, event.stream)
                if read is not None:
                    read[event.stream] = listing
                videos = listing.between(*self._span(event))
                if videos:
                    return [Piece(video, _start(video) if read is None else 0.0) for video in videos]
            return _in_one_file(folder, event)
        return []


def _start(video: Path) -> float:
    """Capture time of a segment's first frame, in Unix seconds."""
    with suppress(OSError):
        start = captured(first_header(lines_of(video)))
        if start is not None:
            return start
    return start_of(video) or 0.0


def _in_one_file(folder: Path, event: StoredEvent) -> list[Piece]:
    """The recording of a file, where it is still that of the event's session. Raises OSError."""
    video = folder / f"{event.stream}.mp4"
    header = first_header(lines_of(video)) if event.at is not None else {}
    start = captured(header)
    return [Piece(video, start)] if start is not None and header.get("session") == event.session else []
