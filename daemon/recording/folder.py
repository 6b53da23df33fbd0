"""A folder of segments: which of them are kept, and whether there is room for more."""

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from daemon.limits.steady_clock import SteadyClock
from daemon.recording.folder_lock import FolderLock
from daemon.recording.room import Forecast, disk_of
from daemon.recording.shelf import Kept, Shelf, written
from stages.recording.segment import Segment, SegmentObserver

LOOK = 1.0  # seconds between two looks at the folder
SCAN = 600.0  # seconds between two looks at each of its files: some may have been deleted by hand
LEAST_SEGMENT = 256 << 10  # bytes; less does not end a segment
SHARES = 4  # so many segments of each stream have room, where old ones go

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Policy:
    """What is kept of a stream."""

    keep: float | None = None  # seconds; None: for ever
    keep_bytes: int | None = None  # of all the folder's segments; None: no bound


class Folder:
    """The segments in the folder ``path``, of all streams that are recorded there. Any thread may call.

    While streams are recorded a thread removes what has had its time, and the oldest segments where there is no room;
    where neither ``keep`` nor ``keep_bytes`` is set, nothing may go. ``observers`` are told of each segment.
    """

    def __init__(self, path: Path, observers: Sequence[SegmentObserver] = ()) -> None:
        self.path = path
        self.lock = FolderLock(path)
        self._observers = observers
        self._shelf, self._forecast, self._clock = Shelf(path), Forecast(), SteadyClock()
        self._policies: dict[str, Policy] = {}  # by stream
        self._writing: dict[str, tuple[Path, int]] = {}  # videos and bytes so far, by stream
        self._removing = threading.RLock()
        self._changed = threading.Condition()  # guards the dictionaries
        self._thread: threading.Thread | None = None
        self._scanned = -SCAN
        self._room: int | None = None  # bytes that can be written, with what may go for them; None: not known
        self._told = False  # that the last look failed

    def join(self, stream: str, policy: Policy) -> None:
        """A stream is recorded here from now on."""
        with self._changed:
            self._policies[stream] = policy
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=f"recordings-{self.path.name}", daemon=True)
                self._thread.start()

    def leave(self, stream: str) -> None:
        """A stream is not recorded any more."""
        with self._changed:
            self._policies.pop(stream, None)
            self._writing.pop(stream, None)
            self._changed.notify_all()

    def writes(self, stream: str, video: Path, written: int) -> None:
        """The segment of ``video`` is being written, and has so many bytes."""
        with self._changed:
            self._writing[stream] = video, written

    def closed(self, segment: Segment) -> None:
        """A segment is complete."""
        with self._changed:
            if self._writing.get(segment.stream, (None,))[0] == segment.video:
                del self._writing[segment.stream]
        self._shelf.add(Kept(segment.start, segment.video, segment.stream, written(segment.video)))
        for observer in self._observers:
            observer.segment_closed(segment)

    def remove(self, segment: Segment) -> None:
        """Remove a complete segment."""
        self._remove(Kept(segment.start, segment.video, segment.stream, segment.bytes))

    @property
    def free(self) -> int:
        """Free bytes of the disk; 0 where that cannot be told."""
        return disk_of(self.path)[0]

    def has_room(self, times: int = 1) -> bool:
        """Whether so many times as much is free as is to stay free."""
        free, reserve = disk_of(self.path)
        return free >= times * reserve

    @property
    def seconds_until_full(self) -> float:
        """At the present rate; 0 while it is not known, infinite where the room does not shrink."""
        return self._forecast.seconds

    @property
    def most_bytes(self) -> int | None:
        """Of one segment, so that the old ones that go leave others; None where none go, or the room is not known."""
        room, bound = self._room, self._bound()
        if room is None or not self._may_go(None):
            return None
        room = room if bound is None else min(room, bound)
        return max(LEAST_SEGMENT, room // (SHARES * max(1, len(self._policies))))

    def make_room(self, wanted: int = 0) -> bool:
        """Remove the oldest segments that may go while there is no room, for ``wanted`` bytes where old segments go.

        Whether anything can be written now.
        """
        with self._removing:
            bound = self._bound()
            for kept in self._shelf:
                free, reserve = disk_of(self.path)
                if free >= reserve + wanted and (bound is None or self._total() + wanted <= bound):
                    break
                if self._may_go(kept.stream) and not self._is_written(kept):
                    self._remove(kept)
            return self.has_room()

    def look(self) -> None:
        """Remove what has had its time, then measure the room. Raises OSError."""
        if time.monotonic() - self._scanned >= SCAN:  # takes long with many files, so it holds up nobody
            with self._changed:
                writing = {video for video, _ in self._writing.values()}
            self._shelf.scan(writing)
            self._scanned = time.monotonic()
        with self._removing:
            oldest = {stream: self._oldest(stream) for stream in {kept.stream for kept in self._shelf}}
            for kept in self._shelf:
                if kept.start < oldest.get(kept.stream, 0.0) and not self._is_written(kept):
                    self._remove(kept)
            self.make_room()
            room = self._room = self.free + (self._total() if self._may_go(None) else 0)
        self._forecast.note(room)

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._policies:
                    self._thread = None
                    return
            self._try_to_look()
            with self._changed:
                if self._policies:
                    self._changed.wait(LOOK)

    def _try_to_look(self) -> None:
        try:
            self.look()
        except FileNotFoundError as error:  # the folder has gone: recordings say so
            log.debug("%s: %s", self.path, error)
            self._room = None
        except Exception as error:
            self._room = None
            if not self._told:
                log.warning("%s: old recordings are not removed: %s; see that it can be read", self.path, error)
            self._told = True
        else:
            self._told = False

    def _remove(self, kept: Kept) -> None:
        try:
            self._shelf.remove(kept)
        except OSError as error:
            log.warning("%s cannot be removed: %s", kept.video, error.strerror or error)
            return
        for observer in self._observers:
            observer.segment_removed(kept.stream, kept.video)

    def _is_written(self, kept: Kept) -> bool:
        """A look at all files may have come upon it."""
        return self._writing.get(kept.stream, (None,))[0] == kept.video

    def _of(self, stream: str) -> Policy | None:
        """The policy of a stream; of one that is recorded no more, that of the stream kept for longest."""
        with self._changed:
            others = list(self._policies.values())
            return self._policies.get(stream) or max(others, key=lambda policy: policy.keep or 1e18, default=None)

    def _oldest(self, stream: str) -> float:
        """Start, in Unix seconds, before which segments of the stream have had their time."""
        policy = self._of(stream)
        return 0.0 if policy is None or policy.keep is None else self._clock.now() - policy.keep

    def _bound(self) -> int | None:
        with self._changed:
            bounds = [policy.keep_bytes for policy in self._policies.values() if policy.keep_bytes is not None]
        return min(bounds, default=None)

    def _may_go(self, stream: str | None) -> bool:
        """Whether old segments of the stream go where there is no room; None: of any stream."""
        if self._bound() is not None:
            return True
        if stream is None:
            with self._changed:
                return any(policy.keep is not None for policy in self._policies.values())
        policy = self._of(stream)
        return policy is not None and policy.keep is not None

    def _total(self) -> int:
        """Bytes of all segments, with those being written."""
        with self._changed:
            writing = sum(written for _, written in self._writing.values())
        return self._shelf.bytes + writing
