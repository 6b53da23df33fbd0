"""``subscribe`` and ``events``."""

import time
from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import replace
from typing import Protocol, TypeVar

from maskcast_client.connection import Connection, log
from maskcast_client.errors import KeysError, MaskcastError, NothingReceivedError
from maskcast_client.keys import Keys
from maskcast_client.messages import Event, Frame, read_event, read_frame
from maskcast_client.sequence import Sequence
from maskcast_client.wire import Message, topics

ENDPOINT = "tcp://127.0.0.1:5555"
_PICTURE_WAIT = 1.0  # seconds that a frame waits for its picture when nothing else comes

Item = TypeVar("Item")


def subscribe(
    endpoint: str = ENDPOINT,
    stream: str | Iterable[str] | None = None,
    *,
    images: bool = False,
    keys: Keys | None = None,
    timeout: float | None = None,
) -> Generator[Frame, None, None]:
    """The frames that a daemon publishes, as they come. The subscription begins with this call.

    ``stream``: the name of a stream, several names, or None for all streams (then their pictures travel, too). With
    ``images`` each frame waits for its annotated picture, which the daemon draws only where somebody asks for it.
    ``keys``: where the daemon wants keys.

    The loop ends when the named streams are files and have ended, or after ``timeout`` seconds without a frame; without
    ``timeout`` it waits for ever, also for a daemon that comes back. Ctrl-C raises KeyboardInterrupt, as everywhere.

    Raises MaskcastError for a wrong endpoint or stream, NothingReceivedError when no frame at all came within
    ``timeout``, KeysError, VersionError, and MessageError for what is not a maskcast message. One thread at a time may
    use it.
    """
    names = _names(stream)
    kinds = ("frame", "event", "masks") if images else ("event", "masks")
    return _items(Connection(endpoint, topics(names, kinds), keys), _Frames(names, images), timeout, endpoint)


def events(
    endpoint: str = ENDPOINT,
    stream: str | Iterable[str] | None = None,
    *,
    keys: Keys | None = None,
    timeout: float | None = None,
) -> Generator[Event, None, None]:
    """The events that a daemon publishes, as they come; of named streams no masks travel.

    Everything else is as with ``subscribe``, but the end of a file does not end the loop: it is the event
    ``source_down``.
    """
    return _items(Connection(endpoint, topics(_names(stream), ("event",)), keys), _Events(), timeout, endpoint)


class _Reader(Protocol[Item]):
    """Makes items of messages."""

    @property
    def ended(self) -> bool:
        """Nothing more is to come."""

    @property
    def pending(self) -> bool:
        """An item waits for another message."""

    def take(self, message: Message | None) -> list[Item]:
        """The items that are complete with this message; None: those that wait no longer."""


def _items(
    connection: Connection, reader: _Reader[Item], timeout: float | None, endpoint: str
) -> Generator[Item, None, None]:
    received = False
    last = time.monotonic()
    with closing(connection):
        while not reader.ended:
            left = None if timeout is None else max(0.0, last + timeout - time.monotonic())
            if reader.pending:
                left = _PICTURE_WAIT if left is None else min(left, _PICTURE_WAIT)
            message = connection.receive(left)
            over = message is None and not reader.pending
            for item in reader.take(message):
                received = True
                yield item
                last = time.monotonic()
            if over and received:
                return
            if over and connection.refusal:
                raise KeysError(connection.refusal)
            if over:
                raise NothingReceivedError(
                    f"nothing from {endpoint} within {timeout:g} s: is the stream's name right, and does maskcast run "
                    "publish there?"
                )


class _Frames:
    """Frames of masks messages, joined with their pictures by ``seq`` if ``images``."""

    def __init__(self, streams: list[str] | None, images: bool) -> None:
        self._streams, self._images = streams, images
        self._sequence = Sequence()
        self._prompts: dict[str, int] = {}  # numbers of the prompts
        self._clocks: dict[str, str] = {}  # by stream, of its last frame
        self._over: set[str] = set()  # files that have ended
        self._waiting: dict[str, Frame] = {}  # by stream: a frame whose picture has not come

    @property
    def ended(self) -> bool:
        return self._streams is not None and self._over.issuperset(self._streams) and not self.pending

    @property
    def pending(self) -> bool:
        return bool(self._waiting)

    def take(self, message: Message | None) -> list[Frame]:
        if message is None:
            return self._release(*self._waiting)
        stream = message.header["stream"]
        if message.kind == "masks":
            return self._masks(message)
        if message.kind == "frame":
            frame = self._waiting.get(stream)
            if frame is None or (frame.session, frame.seq) != (message.header["session"], message.header["seq"]):
                return []
            del self._waiting[stream]
            return [replace(frame, picture=message.blob)]
        if message.kind == "event":
            return self._event(read_event(message.header, 0, False))
        return []

    def _masks(self, message: Message) -> list[Frame]:
        frame = read_frame(message.header, *self._sequence.follow(message.header), self._prompts)
        before = self._release(frame.stream)
        self._clocks[frame.stream] = frame.clock
        self._over.discard(frame.stream)
        if not self._images:
            return [frame]
        self._waiting[frame.stream] = frame
        return before

    def _event(self, event: Event) -> list[Frame]:
        if event.type != "source_down":
            return []
        if self._clocks.get(event.stream) == "file":  # a file is never opened again
            self._over.add(event.stream)
        else:
            log.warning("%s: the source is down: %s", event.stream, event.reason)
        return self._release(event.stream)

    def _release(self, *streams: str) -> list[Frame]:
        """Give up the pictures of these streams' frames."""
        return [self._waiting.pop(stream) for stream in streams if stream in self._waiting]


class _Events:
    ended = pending = False

    def __init__(self) -> None:
        self._sequence = Sequence()

    def take(self, message: Message | None) -> list[Event]:
        if message is None or message.kind != "event":
            return []
        return [read_event(message.header, *self._sequence.follow(message.header))]


def _names(stream: str | Iterable[str] | None) -> list[str] | None:
    """The names of streams, checked: a wrong one would be waited for in silence."""
    if stream is None:
        return None
    names = [stream] if isinstance(stream, str) else list(stream)
    for name in names:
        if not name or "/" in name or not isinstance(name, str):
            raise MaskcastError(f"stream {name!r}: not the name of a stream; maskcast watch shows the names")
    if not names:
        raise MaskcastError("no stream is named; leave stream out for all of them")
    return names
