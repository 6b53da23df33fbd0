"""Takes the packets of a live source as they arrive, however slowly they are decoded."""

import threading
import time
from collections import deque
from contextlib import AbstractContextManager
from dataclasses import replace

from stages.errors import MaskcastError
from stages.source.demuxer import Arrival, Demuxer

MOST_BYTES = 32 << 20  # of compressed packets: 25 s at 10 Mbit/s
_AT_ONCE = 0.02  # seconds from the start in which what FFmpeg read while opening is taken over
_QUIET = 0.05  # seconds without a packet after which a burst has ended
_LONGEST_LOOK = 0.3  # seconds


class PacketQueue:
    """A thread that reads a demuxer, and the packets that wait to be decoded.

    The socket is thus emptied at once: the time of arrival is true, a server finds no slow reader, and a segment or a
    group of pictures that comes at once can wait here. Waiting packets take at most ``MOST_BYTES``; then the thread
    stops reading, until there is room. It closes the demuxer after ``close``.
    """

    def __init__(self, demuxer: Demuxer, decoding: AbstractContextManager[object]) -> None:
        """Start the thread. ``decoding`` is entered to close the demuxer: its packets must not be decoded then."""
        self.started = time.monotonic()
        self._demuxer, self._decoding = demuxer, decoding
        self._waiting: deque[Arrival] = deque()
        self._bytes = 0
        self._ended = self._closed = False
        self._error: MaskcastError | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="packets", daemon=True)
        self._thread.start()

    def first(self) -> list[Arrival]:
        """The packets of video that came at once, from the first on; they stay in the queue. Waits for 0.3 s at most.

        FFmpeg reads some while it opens a source, and many servers begin with a group of pictures.
        """
        with self._changed:
            look = self.started + _LONGEST_LOOK - time.monotonic()
            while look > 0 and not (self._ended or self._closed) and self._changed.wait(min(_QUIET, look)):
                look = self.started + _LONGEST_LOOK - time.monotonic()
            return [] if self._closed else [one for one in self._waiting if self._demuxer.of_video(one.packet)]

    def spread(self, opening: float) -> None:
        """Give the packets that FFmpeg read in ``opening`` seconds, while it opened the source, times of arrival in it.

        For a source without time stamps: the packets are taken for evenly spaced.
        """
        with self._changed:
            early = sum(arrival.monotonic - self.started < _AT_ONCE for arrival in self._waiting)
            for n in range(early if early > 1 else 0):
                ago = opening * (1 - (n + 1) / early)
                arrival = self._waiting[n]
                shift = arrival.monotonic - (self.started - ago)
                self._waiting[n] = replace(arrival, monotonic=arrival.monotonic - shift, wall=arrival.wall - shift)

    def read(self) -> Arrival | None:
        """The next packet, of any stream; None at the end or after ``close``. Raises the error that ended it."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ended or self._closed)
            if self._closed:
                return None
            if self._waiting:
                arrival = self._waiting.popleft()
                self._bytes -= arrival.packet.size
                self._changed.notify_all()
                return arrival
        if self._error is not None:
            raise self._error
        return None

    def close(self) -> None:
        """Drop what waits; the thread ends, and closes the demuxer, when its read has ended. Safe to call twice."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()

    def join(self) -> None:
        """Wait until the demuxer is closed."""
        self._thread.join()

    def _run(self) -> None:
        try:
            while (arrival := self._demuxer.read()) is not None and self._put(arrival):
                pass
        except MaskcastError as error:
            self._error = error
        with self._changed:
            self._ended = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._closed)
        with self._decoding:
            self._demuxer.close()

    def _put(self, arrival: Arrival) -> bool:
        """Add a packet; False once closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._bytes <= MOST_BYTES or self._closed)
            self._waiting.append(arrival)
            self._bytes += arrival.packet.size
            self._changed.notify_all()
            return not self._closed
