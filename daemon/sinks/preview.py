"""The sink that keeps the latest pictures of a stream for viewers over HTTP: annotated ones, and plain ones."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from daemon.sinks.sink import FrameOutput, Need
from stages.output import wire
from stages.output.wire import Header, Kind

PAUSE = 0.1  # seconds between two pictures


@dataclass(frozen=True, slots=True)
class Picture:
    """A JPEG of one frame, and which frame of which session that is."""

    jpeg: bytes
    frame: int = 0  # its index
    session: str = ""
    masks: bytes | None = None  # of a plain picture: the header of the frame's masks message, as JSON


class Feed:
    """The latest picture of one kind. Pictures are due only while somebody watches. All calls from any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._watchers = 0
        self._number = 0
        self._picture: Picture | None = None
        self._closed = False
        self._shown_at = 0.0  # monotonic seconds

    def due(self) -> bool:
        """Whether somebody watches and the picture shown is old enough."""
        return self._watchers > 0 and time.monotonic() - self._shown_at >= PAUSE

    def show(self, picture: Picture) -> None:
        """Give a picture to all watchers."""
        with self._changed:
            self._number, self._picture, self._shown_at = self._number + 1, picture, time.monotonic()
            self._changed.notify_all()

    def finish(self) -> None:
        """Tell all watchers that no picture follows."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Within it pictures are made."""
        with self._changed:
            self._watchers += 1
        try:
            yield
        finally:
            with self._changed:
                self._watchers -= 1

    def next(self, seen: int, timeout: float) -> tuple[int, Picture] | None:
        """The newest picture and its number, once that is not ``seen``; None when none comes in ``timeout`` seconds.

        Number 0 has never been seen. Raises EOFError when no picture will follow.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._number != seen, timeout)
            if self._picture is not None and self._number != seen:
                return self._number, self._picture
            if self._closed:
                raise EOFError
            return None

    def newest(self, timeout: float) -> Picture | None:
        """A picture that is made from now on, or the last one of a stream that has ended.

        None when none comes in ``timeout`` seconds.
        """
        with self._changed:
            seen, ended = self._number, self._closed
        if ended:
            return self._picture
        with self.watching():
            try:
                found = self.next(seen, timeout)
            except EOFError:
                return self._picture
        return None if found is None else found[1]


class Preview:
    """Needs pictures only while somebody watches. A Sink (see daemon.sinks.sink)."""

    def __init__(self, jpeg_quality: int = 85) -> None:
        self.annotated, self.plain = Feed(), Feed()
        self._jpeg_quality = jpeg_quality  # of plain pictures
        self._annotated_due = self._plain_due = False  # the next frame is to be shown

    def feed(self, plain: bool) -> Feed:
        """The plain pictures, or the annotated ones."""
        return self.plain if plain else self.annotated

    @property
    def due(self) -> bool:
        """Whether the next frame is to be shown, as `need` has found."""
        return self._annotated_due or self._plain_due

    def need(self) -> Need:
        """A JPEG while an annotated picture is due; a plain one needs no drawing."""
        self._annotated_due, self._plain_due = self.annotated.due(), self.plain.due()
        return Need.JPEG if self._annotated_due else Need.NOTHING

    def message(self, kind: Kind, header: Header) -> bool:  # noqa: ARG002 - as of all sinks
        """Nothing: viewers see pictures."""
        return True

    def frame(self, frame: FrameOutput) -> None:
        """Show the annotated picture, and the plain one with its masks, to those who watch them."""
        index, session = frame.header["frame"], frame.header["session"]
        if self._annotated_due and frame.jpeg is not None:
            self.annotated.show(Picture(frame.jpeg, index, session))
        if self._plain_due:
            from stages.output.annotate import encode_jpeg  # with supervision, as in daemon.stream.rendering

            jpeg = encode_jpeg(frame.result.frame.image, self._jpeg_quality)
            self.plain.show(Picture(jpeg, index, session, wire.to_json(frame.header)))

    def finish(self) -> None:
        """Tell all watchers that no picture follows."""
        self.annotated.finish()
        self.plain.finish()
