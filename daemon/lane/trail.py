"""The last frames of a stream, so that a prompt can refer to the picture that a person has seen."""

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import cv2
import numpy as np

from daemon.errors import BusyError, ConflictError
from stages.output import rle
from stages.output.wire import Header
from stages.types import Frame, Image, Window

MOST_PICTURES = 100  # published ones; ten seconds of a live stream
MOST_BYTES = 16 << 20  # of their pictures
APART = 0.1  # seconds between the pictures that are kept, unless more of them are shown
SMALL, SHARP = 512, 1280  # most pixels of a side: of pictures that nobody watches, and of those that are shown
PATIENCE = 10.0  # seconds that an object waits for the one before it
_MOST_NUMBERS = 1000  # of published frames, to tell those that were seen from those that were dropped
_QUALITY = 90
_EARLY = 0.01  # seconds; frames are never exactly apart


@dataclass(slots=True, eq=False)
class Seen:
    """One frame of a trail. Its picture is compressed once the frame has been published."""

    number: int  # how many frames were tracked before it
    index: int  # as in `Frame`
    epoch: int
    cut: bool  # it shows another scene than the frame before it in the trail
    size: tuple[int, int]  # height and width of its picture
    picture: Image | bytes
    objects: Sequence[Header] | None = None  # of its masks message; None until that is sent

    @property
    def image(self) -> Image:
        """Its picture, RGB, perhaps smaller than ``size``."""
        if isinstance(self.picture, bytes):
            return np.ascontiguousarray(cv2.imdecode(np.frombuffer(self.picture, np.uint8), cv2.IMREAD_COLOR_RGB))
        return self.picture

    def object(self, track: int) -> Header | None:
        """What its masks message says of a track; None where it does not name it."""
        return next((entry for entry in self.objects or () if entry["id"] == track), None)

    def track_at(self, places: Sequence[tuple[float, float]]) -> int | None:
        """The track whose mask has all of these pixels (x, y); of several the one with the smallest mask."""
        hits = [entry for entry in self.objects or () if _holds(entry, places)]
        return min(hits, key=lambda entry: entry["area"])["id"] if hits else None


def _holds(entry: Header, places: Sequence[tuple[float, float]]) -> bool:
    left, top, right, bottom = entry["box"]
    if not all(left <= x < right and top <= y < bottom for x, y in places):
        return False
    mask = rle.decode(entry["mask"])
    return all(bool(mask[int(y), int(x)]) for x, y in places)


class Trail:
    """The frames of one stream that were tracked last: all that are still to be published, and of the published ones
    some pictures, compressed, with their masks.

    The engine adds frames when they have been tracked; the stream's writer tells which were published; any thread may
    look. At most ``in_flight`` frames wait to be published. The frame tracked last is always there.
    """

    def __init__(self, in_flight: int = 64) -> None:
        self._carrying = threading.Lock()
        self._in_flight = in_flight
        self._kept: deque[Seen] = deque()  # published ones, oldest first
        self._flying: deque[Seen] = deque()  # still to be published: all of them come after those
        self._published: deque[int] = deque(maxlen=_MOST_NUMBERS)  # indices
        self._bytes = 0
        self._tracked = 0  # frames so far
        self._cut = False  # there was a cut since the last frame of the trail
        self._kept_at = float("-inf")  # capture time of the picture that was kept last
        self._lock = threading.Lock()

    @contextmanager
    def one_at_a_time(self) -> Iterator[None]:
        """Within it an object is carried from a past frame; raises BusyError while others are, for long."""
        if not self._carrying.acquire(timeout=PATIENCE):
            raise BusyError("objects that others pointed at are still on their way to the present; try again")
        try:
            yield
        finally:
            self._carrying.release()

    def ago(self, seen: Seen) -> int:
        """How many frames were tracked after it."""
        return self._tracked - 1 - seen.number

    def tracked(self, window: Window) -> None:
        """Add the frames of a window that has been tracked."""
        with self._lock:
            if self._flying and self._published and self._flying[0].index == self._published[-1]:
                self._lose()  # it stayed only for being the newest
            for frame in window.frames:
                height, width = frame.image.shape[:2]
                cut, self._cut = self._cut or frame.cut, False
                self._flying.append(Seen(self._tracked, frame.index, window.epoch, cut, (height, width), frame.image))
                self._tracked += 1
            while len(self._flying) > self._in_flight:
                self._lose()

    def announced(self, index: int, objects: Sequence[Header]) -> None:
        """The masks message of the frame of that index is about to be sent with these objects."""
        with self._lock:
            for seen in self._flying:
                if seen.index == index:
                    seen.objects = tuple(objects)

    def published(self, frame: Frame, objects: Sequence[Header], shown: bool) -> None:
        """A frame has been published with these objects; ``shown``: somebody watches this very picture."""
        with self._lock:
            keeps = shown or not 0 <= frame.captured_at - self._kept_at < APART - _EARLY
        picture = _compressed(frame.image, SHARP if shown else SMALL) if keeps else b""
        with self._lock:
            self._published.append(frame.index)
            while self._flying and self._flying[0].index < frame.index:
                self._lose()  # on its way to be published
            if not self._flying or self._flying[0].index > frame.index:
                return
            seen = self._flying[0]
            seen.objects = tuple(objects)
            if not keeps:
                if self.ago(seen):
                    self._lose()
                return
            seen.picture, self._kept_at = picture, frame.captured_at
            self._kept.append(self._flying.popleft())
            self._bytes += len(picture)
            while self._bytes > MOST_BYTES or len(self._kept) > MOST_PICTURES:
                self._bytes -= len(self._kept.popleft().picture)

    def find(self, index: int) -> Seen:
        """The frame of that index, or the nearest that was kept. Raises ConflictError for one that is of no use now."""
        with self._lock:
            frames, published = [*self._kept, *self._flying], list(self._published)
        if not frames:
            raise ConflictError("no frame has been tracked yet; try again once pictures come")
        newest = frames[-1]
        if index > newest.index:
            raise ConflictError(f"frame {index} is still to come: the newest is {newest.index}")
        if index < frames[0].index:
            raise ConflictError(
                f"frame {index} is too old: those from {frames[0].index} on are kept; point at a newer picture"
            )
        nearest = min(frames, key=lambda seen: abs(seen.index - index))
        if nearest.index != index and index not in published:
            raise ConflictError(f"frame {index} was dropped, nobody has seen it; the nearest is {nearest.index}")
        if nearest.epoch != newest.epoch:
            raise ConflictError(f"the source was opened again after frame {index}; point at a newer picture")
        return nearest

    def after(self, number: int) -> list[Seen]:
        """The frames after the one of that ``Seen.number``, oldest first; the frame tracked last ends them."""
        with self._lock:
            return [seen for seen in (*self._kept, *self._flying) if seen.number > number]

    def _lose(self) -> None:
        """Take out the oldest frame in flight; a cut on it is one on the frame after it."""
        lost = self._flying.popleft()
        if lost.cut and self._flying:
            self._flying[0].cut = True
        self._cut = self._cut or (lost.cut and not self._flying)


def _compressed(image: Image, most: int) -> bytes:
    """The picture as JPEG, made smaller by a whole number until no side has more than ``most`` pixels."""
    factor = -(-max(image.shape[:2]) // most)
    if factor > 1:
        height, width = image.shape[:2]
        image = cv2.resize(image, (max(1, width // factor), max(1, height // factor)), interpolation=cv2.INTER_AREA)
    _, code = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return code.tobytes()
