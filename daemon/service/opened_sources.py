"""Live sources that are opened before their stream is started, so that it has its first frame at once.

A camera takes a second or more until its first whole picture comes. A stream that moves here is meanwhile published by
the daemon that it leaves.
"""

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace

from daemon.errors import BusyError
from stages.errors import ConfigError, SourceError, SourceStalled
from stages.source.source import Source
from stages.types import Frame

WAITS = 30.0  # seconds that an opened source waits for its stream
FIRST = 15.0  # seconds for its first frame
MOST = 16  # sources at a time

log = logging.getLogger(__name__)


class OpenedSource:
    """A live Source (see stages.source.source) whose frames are dropped until ``frames`` is called."""

    frames_expected = None

    def __init__(self, opener: Callable[[], Source]) -> None:
        """Begins to open it, in a thread of its own."""
        self._opener = opener
        self._source: Source | None = None
        self._frames: Iterator[Frame] = iter(())
        self._latest: Frame | None = None  # None before the first frame and after the end of the source
        self._error: Exception | None = None
        self._first, self._idle = threading.Event(), threading.Event()  # a frame has come; nobody reads it
        self._wanted, self._closed = threading.Event(), threading.Event()
        threading.Thread(target=self._drop, name="opened-source", daemon=True).start()

    def wait(self, seconds: float) -> None:
        """Until the first frame has come. Raises what opening it raised, and SourceStalled when none comes in time."""
        if not self._first.wait(seconds):
            raise SourceStalled(f"no frame within {seconds:.0f} s")
        if self._latest is None:
            raise self._error or SourceError("the source has ended")

    @property
    def over(self) -> bool:
        """It delivers no more."""
        return self._closed.is_set()

    @property
    def live(self) -> bool:
        return True

    @property
    def rate(self) -> float:
        return self._opened.rate

    @property
    def decode_errors(self) -> int:
        return self._opened.decode_errors

    @property
    def decoder(self) -> str:
        return self._opened.decoder

    @property
    def patience(self) -> float:
        return self._opened.patience

    def frames(self) -> Iterator[Frame]:
        """From the last frame that has come; ``index`` counts from that."""
        self._wanted.set()
        self._idle.wait()  # not longer than for the next frame, or until the source says that none comes
        if self._error is not None:
            raise self._error
        if self._latest is None:
            return
        first = self._latest.index
        yield replace(self._latest, index=0, dropped_before=0)
        for frame in self._frames:
            yield replace(frame, index=frame.index - first)

    def close(self) -> None:
        self._closed.set()
        if self._source is not None:
            self._source.close()

    @property
    def _opened(self) -> Source:
        assert self._source is not None  # `wait` has returned
        return self._source

    def _drop(self) -> None:
        """Read the frames until somebody wants them."""
        until: float | None = None
        try:
            source = self._source = self._opener()
            if not source.live:
                raise ConfigError("only a live source is opened before its stream is started")
            self._frames = source.frames()
            for frame in self._frames:
                self._latest = frame
                self._first.set()
                if self._wanted.is_set():
                    return
                if until is None:
                    until = time.monotonic() + WAITS
                elif self._closed.is_set() or time.monotonic() > until:
                    break
            self._latest = None
        except Exception as error:
            log.debug("a source that was opened before its stream", exc_info=True)
            self._latest, self._error = None, error
        finally:
            if self._latest is None:
                self.close()
            self._first.set()
            self._idle.set()


class OpenedSources:
    """Sources that wait for their streams, each for WAITS seconds. Any thread may call."""

    def __init__(self) -> None:
        self._waiting: dict[str, OpenedSource] = {}
        self._lock = threading.Lock()

    def open(self, opener: Callable[[], Source]) -> str:
        """Open a live source; returns its id once its first frame has come.

        Raises SourceError and ConfigError when it cannot be opened, BusyError when too many wait already.
        """
        name = str(uuid.uuid4())
        with self._lock:
            self._waiting = {name: source for name, source in self._waiting.items() if not source.over}
            if len(self._waiting) >= MOST:
                raise BusyError(f"{MOST} sources wait for their streams; start those, or try again")
            source = self._waiting[name] = OpenedSource(opener)
        try:
            source.wait(FIRST)
        except Exception:
            source.close()
            raise
        return name

    def take(self, name: str) -> OpenedSource | None:
        """The source with this id, for one stream; None where it does not deliver any more."""
        with self._lock:
            source = self._waiting.pop(name, None)
        return source if source is not None and not source.over else None

    def close(self) -> None:
        """Close those that wait."""
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        for source in waiting.values():
            source.close()
