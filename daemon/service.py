"""The daemon's life: startup, main loop, shutdown."""

import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Protocol

from daemon.api import Api
from daemon.engine import Engine, one_line
from daemon.settings import StreamSettings
from daemon.stream import Stream
from stages.errors import ConfigError, MaskcastError
from stages.publish import Publisher

TICK = 0.1  # seconds between two looks at streams and signals
DRAIN = 10.0  # seconds that what was read has to leave
ABORT = 2.0  # seconds that threads have to end after that

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Parts:
    """What the service is put together from; each is opened when it starts."""

    engine: Engine
    open_publisher: Callable[[], Publisher]
    open_api: Callable[[Callable[[], str | None]], Api]  # given why the service is not ready
    new_stream: Callable[[StreamSettings, Publisher], Stream]


class Watcher(Protocol):
    """Whoever shows the service's progress."""

    def started(self, service: "Service") -> None: ...

    def tick(self, service: "Service") -> None: ...

    def close(self) -> None: ...


class Service:
    """Runs streams until all have ended, a signal comes or the engine fails."""

    publisher: Publisher
    api: Api

    def __init__(self, parts: Parts, streams: Iterable[StreamSettings]) -> None:
        self.streams: dict[str, Stream] = {}
        self.engine = parts.engine
        self._parts = parts
        self._configured = tuple(streams)
        self._opened = ExitStack()  # closes in reverse order, past failures
        self._failed: dict[str, Exception] = {}
        self._signals = 0
        self._stuck = False

    def run(self, watcher: Watcher) -> int:
        """The daemon's whole life; returns the exit code. Raises what kept it from starting or stopped the engine."""
        with _signals_to(self._on_signal):
            try:
                self.startup()
                watcher.started(self)
                self.main_loop(watcher)
            finally:
                watcher.close()
                self.shutdown()
        return next((_exit_code(error) for error in self._failed.values()), 0)

    def leave(self, code: int) -> int:
        """The last act of a process: the interpreter's own exit may crash threads that are still inside a library."""
        if self._stuck:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        return code

    def startup(self) -> None:
        """Take the ports, then start; models load and sources open while the main loop already runs."""
        self.publisher = self._parts.open_publisher()
        self._opened.callback(self.publisher.close)
        self.api = self._parts.open_api(self.not_ready)
        self._opened.callback(self.api.close)
        self.engine.start()
        for settings in self._configured:
            self.add(settings)

    def main_loop(self, watcher: Watcher) -> None:
        """Until the last stream has ended or a signal asks to stop. Raises the engine's error."""
        while not self._signals:
            time.sleep(TICK)
            watcher.tick(self)
            self._note_failures()
            if self.engine.error is not None:
                raise self.engine.error
            if all(stream.ended for stream in self.streams.values()):
                return

    def shutdown(self) -> None:
        """Let what was read leave, within bounds, and close everything that was opened."""
        with self._opened:
            streams = tuple(self.streams.values())
            for stream in streams:
                stream.stop() if self.engine.ready.is_set() else stream.abort()
            if not _join(streams, DRAIN):
                log.warning("not all results could leave within %.0f s; the rest is dropped", DRAIN)
                for stream in streams:
                    stream.abort()
            # while it still loads, it has nothing to finish
            engine_ended = self.engine.close(ABORT if self.engine.ready.is_set() else 0.0)
            self._stuck = not (_join(streams, ABORT) and engine_ended)
            self._note_failures()

    def add(self, settings: StreamSettings) -> Stream:
        """Start one more stream. Raises ConfigError when its name is taken or its prompts make no sense."""
        if settings.name in self.streams:
            raise ConfigError(f'a stream is already named "{settings.name}"; remove it first or choose another name')
        stream = self._parts.new_stream(settings, self.publisher)
        self.streams = {**self.streams, settings.name: stream}  # other threads may be going through the old one
        self.engine.add(stream.lane)
        stream.start()
        return stream

    def remove(self, name: str) -> None:
        """End a stream and forget it; what was read leaves first. Raises ConfigError for an unknown name."""
        if name not in self.streams:
            raise ConfigError(f'no stream is named "{name}"; there are: {", ".join(self.streams) or "none"}')
        stream = self.streams[name]
        stream.stop()
        if not stream.join(DRAIN):
            stream.abort()
            stream.join(ABORT)
        self.streams = {other: kept for other, kept in self.streams.items() if other != name}
        self._failed.pop(name, None)
        stream.metrics.close()

    def not_ready(self) -> str | None:
        """Why the service cannot do its work now; None when it can."""
        if not self.engine.ready.is_set():
            return "the models are being loaded"
        down = [stream.name for stream in self.streams.values() if not stream.up and (stream.error or not stream.ended)]
        return f"no frames from: {', '.join(down)}" if down else None

    def _note_failures(self) -> None:
        for name, stream in self.streams.items():
            if stream.error is not None and name not in self._failed:
                self._failed[name] = stream.error
                log.error("stream %s: %s", name, one_line(stream.error))

    def _on_signal(self, number: int, _: object) -> None:
        self._signals += 1
        if self._signals > 1:
            os._exit(128 + number)


def _join(streams: Iterable[Stream], timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    return all(stream.join(max(0.0, deadline - time.monotonic())) for stream in streams)


def _exit_code(error: Exception) -> int:
    return error.exit_code if isinstance(error, MaskcastError) else 1


@contextmanager
def _signals_to(handler: Callable[[int, object], None]) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
