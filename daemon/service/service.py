"""The daemon's life: startup, main loop, shutdown."""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Protocol

from daemon.api import Api
from daemon.changes.configuration import Configuration
from daemon.changes.state_file import NAME
from daemon.changes.wanted import Wanted
from daemon.engine.engine import Engine
from daemon.errors import ConflictError, UnknownNameError
from daemon.events.clips import Clips
from daemon.events.store import EventStore
from daemon.lane.handover import NOWHERE, Origin
from daemon.service.opened_sources import OpenedSources
from daemon.settings.schema import StreamSettings
from daemon.stream.stream import Stream
from stages.errors import MaskcastError, one_line
from stages.output.publisher import Publisher
from stages.source.source import Source
from stages.stop_signals import StopSignals

TICK = 0.1  # seconds between two looks at streams and signals
# with the second that the publisher lingers these stay below 10 s
DRAIN = 5.0  # seconds that what was read has to leave
ABORT = 3.0  # seconds that threads have to end after that
RETRYING = 60.0  # seconds for which a source that is tried again does not make the daemon unready

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Parts:
    """What the service is made of; ports are opened when it starts."""

    engine: Engine
    open_publisher: Callable[[], Publisher]
    open_api: Callable[["Service"], Api]
    new_stream: Callable[[StreamSettings, Publisher, Origin], Stream]
    source_of: Callable[[StreamSettings], Callable[[], Source]]  # opens it
    events: EventStore | None  # None: they are not kept
    clips: Clips


class Watcher(Protocol):
    """Follows the service, as progress bars and systemd do; all calls come from the main loop's thread."""

    def started(self, service: "Service") -> None:
        """All ports are open; models and sources are being opened."""

    def tick(self, service: "Service") -> None:
        """Called several times a second."""

    def close(self) -> None:
        """The service is about to shut down, or has failed to start."""


class Service:
    """Runs streams until all have ended, a signal comes or the engine fails.

    ``run`` is the main thread; once it has started, all else may be called from any.
    """

    publisher: Publisher
    api: Api

    def __init__(self, parts: Parts, configuration: Configuration) -> None:
        self.streams: dict[str, Stream] = {}  # replaced, never changed: any thread may iterate over it
        self.engine, self.events, self.clips = parts.engine, parts.events, parts.clips
        self.configuration = configuration
        self.opened_sources = OpenedSources()  # of streams to come
        self._stays = False  # streams were added or removed while it runs, and more may be
        self._draining = False  # no stream is added any more
        self._parts = parts
        self._opened = ExitStack()  # closes in reverse order, past failures
        self._lock = threading.RLock()  # guards the set of streams
        self._arriving: frozenset[str] = frozenset()  # streams that are being added
        self._leaving: frozenset[str] = frozenset()  # streams that are being removed
        self._held = 0  # hands that are about to add streams
        self._closing = False
        self._failed: dict[str, Exception] = {}
        self._signals = StopSignals(now=lambda number: os._exit(128 + number))

    def run(self, *watchers: Watcher) -> int:
        """Start, serve and shut down; returns the exit code. Raises the error that stopped it."""
        with self._signals:
            try:
                with ExitStack() as stack:
                    stack.callback(self.shutdown)
                    for watcher in watchers:
                        stack.callback(watcher.close)
                    self.startup()
                    for watcher in watchers:
                        watcher.started(self)
                    self.main_loop(watchers)
            except Exception as error:
                log.critical("the daemon stops: %s", one_line(error), extra={"event": "stopped"})
                raise
        code = next((_exit_code(error) for error in self._failed.values()), 0)
        log.info("stopped, exit code %d", code, extra={"event": "stopped"})
        return code

    def startup(self) -> None:
        """Open database and ports, then start the threads; models and sources are opened while the main loop runs."""
        if self.events is not None:
            self._opened.callback(self.events.close)
            self.events.start()
        self.publisher = self._parts.open_publisher()
        self._opened.callback(self.publisher.close)
        with self.configuration.lock:  # no change comes between
            self.api = self._parts.open_api(self)
            self._opened.callback(self.api.close)
            self.engine.start()
            self._add_wanted(self.configuration.wanted)

    def _add_wanted(self, wanted: Wanted) -> None:
        """Start the first streams. One that only came over HTTP does not keep the others from running."""
        for name, settings in wanted.streams.items():
            try:
                self.add(settings)
            except MaskcastError as error:
                if name not in wanted.changes or wanted.changes[name].stream is None:
                    raise
                told = "stream %s, which %s keeps, does not run: %s"
                log.error(told, name, NAME, one_line(error), extra={"event": "error"})

    def main_loop(self, watchers: Iterable[Watcher]) -> None:
        """Run until the last stream has ended or a signal asks to stop. Raises the engine's error."""
        while not self._signals.requested:
            time.sleep(TICK)
            for watcher in watchers:
                watcher.tick(self)
            self._note_failures()
            if self.engine.error is not None:
                raise self.engine.error
            if self.ended:
                return
        log.info("%s: stopping", signal.Signals(self._signals.number or 0).name, extra={"event": "stopping"})

    def shutdown(self) -> None:
        """Publish what was read, within bounded time, and close everything that was opened."""
        with self._lock:
            self._closing = True
        self.opened_sources.close()
        with self._opened:
            streams = tuple(self.streams.values())
            for stream in streams:
                stream.stop() if self.models_loaded else stream.abort()
            if not _join(streams, time.monotonic() + DRAIN):
                log.warning(
                    "not all results could leave within %.0f s; the rest is dropped",
                    DRAIN,
                    extra={"event": "results_dropped"},
                )
                for stream in streams:
                    stream.abort()
            end = time.monotonic() + ABORT
            # while the models are loading, the engine has nothing to finish
            self.engine.close(ABORT if self.models_loaded else 0.0)
            _join(streams, end)
            self._note_failures()

    def add(self, settings: StreamSettings, origin: Origin = NOWHERE) -> Stream:
        """Start one more stream; one that is handed over waits for the engine.

        Raises ConflictError when its name is taken or the daemon takes no streams; ConfigError, SnapshotError and
        BusyError when it cannot be as it is asked for.
        """
        name = settings.name
        with self._lock:
            self.check_room(name)
            self._arriving |= {name}
        try:
            stream = self._parts.new_stream(settings, self.publisher, origin)
            with self._lock:
                try:
                    self._check_open(name)
                except ConflictError:
                    stream.abort()
                    stream.metrics.close()
                    raise
                stream.start()
                self.streams = {**self.streams, name: stream}
        finally:
            with self._lock:
                self._arriving -= {name}
        return stream

    def open_source(self, settings: StreamSettings) -> str:
        """Open the source of a stream that is added next; see `OpenedSources.open`."""
        return self.opened_sources.open(self._parts.source_of(settings))

    def check_room(self, name: str) -> None:
        """Raises ConflictError when a stream of this name cannot be added now."""
        with self._lock:
            self._check_open(name)
            if name in self.streams or name in self._arriving:
                raise ConflictError(f'a stream is already named "{name}"; remove it first or choose another name')

    def _check_open(self, name: str) -> None:
        """Raises ConflictError when no stream is taken any more."""
        if self._closing or self._draining:
            why = "stopping" if self._closing else "draining: it takes no new streams"
            raise ConflictError(f'stream "{name}" cannot be added: the daemon is {why}')

    def remove(self, name: str) -> None:
        """End a stream and forget it; what was read is published first. Raises UnknownNameError."""
        with self._lock:
            stream = _find(self._staying(), name)
            self._leaving |= {name}
        stream.stop()
        if not stream.join(DRAIN):
            stream.abort()
            stream.join(ABORT)
        with self._lock:
            self.streams = {other: kept for other, kept in self.streams.items() if other != name}
            self._leaving -= {name}
            self._failed.pop(name, None)
            stream.metrics.close()
        log.info("stream %s: removed", name, extra={"event": "stream_removed"})

    def find(self, name: str) -> Stream:
        """The stream with this name. Raises UnknownNameError."""
        return _find(self.streams, name)

    def stay(self) -> None:
        """Go on when all streams have ended: others may be added."""
        self._stays = True

    @contextmanager
    def held(self) -> Iterator[None]:
        """Within it the service does not end by itself: streams that have ended may be about to be replaced."""
        with self._lock:
            self._held += 1
        try:
            yield
        finally:
            with self._lock:
                self._held -= 1

    def drain(self) -> None:
        """Take no more streams, and end once none is left. Those there are run on until they are removed or end."""
        with self._lock:
            self._draining = True
        log.info("draining: no more streams; the daemon ends once none is left", extra={"event": "draining"})

    @property
    def draining(self) -> bool:
        """No stream is added any more."""
        return self._draining

    @property
    def models_loaded(self) -> bool:
        """The engine can run windows."""
        return self.engine.ready.is_set()

    @property
    def ended(self) -> bool:
        """All streams have ended, and none is to be added. Without any stream the service waits for one, or drains."""
        with self._lock:
            if self._draining:
                going = self._leaving | self._arriving
                return not going and all(stream.ended for stream in self.streams.values())
        staying = self._staying()
        return not (self._stays or self._held) and bool(staying) and all(stream.ended for stream in staying.values())

    @property
    def progress(self) -> float:
        """Monotonic seconds of the last moment at which the engine and every stream had made progress."""
        running = (stream.progress for stream in self.streams.values() if not stream.ended)
        return min((self.engine.progress, *running))

    def not_ready(self) -> str | None:
        """Why the service is not ready; None when it is."""
        if not self.models_loaded:
            return "the models are being loaded"
        down = [s.name for s in self.streams.values() if s.error or (s.down_for > RETRYING and not s.ended)]
        if down:
            return f"no frames from: {', '.join(down)}"
        unrecorded = [stream.name for stream in self.streams.values() if stream.not_recorded]
        return f"not recorded: {', '.join(unrecorded)}" if unrecorded else None

    def _staying(self) -> dict[str, Stream]:
        """The streams that are not being removed."""
        with self._lock:
            return {name: stream for name, stream in self.streams.items() if name not in self._leaving}

    def _note_failures(self) -> None:
        for name, stream in self._staying().items():
            if stream.error is not None and name not in self._failed:
                self._failed[name] = stream.error
                log.error("stream %s: %s", name, one_line(stream.error), extra={"event": "error"})


def _find(streams: Mapping[str, Stream], name: str) -> Stream:
    if name not in streams:
        raise UnknownNameError.of_stream(name, streams)
    return streams[name]


def _join(streams: Iterable[Stream], deadline: float) -> bool:
    joined = [stream.join(max(0.0, deadline - time.monotonic())) for stream in streams]
    return all(joined)


def _exit_code(error: Exception) -> int:
    return error.exit_code if isinstance(error, MaskcastError) else 1
