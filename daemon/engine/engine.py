"""The one thread that runs the models: takes windows from all streams in turn."""

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from daemon.control import BusyError
from daemon.engine.calls import EngineCalls
from daemon.engine.process import process
from daemon.lane.lane import Lane, Models
from daemon.lane.outcome import Outcome
from stages.errors import ModelError

IDLE = 1.0  # seconds between two signs of life of an engine that has nothing to do
SICK = 20  # windows in a row that fail before an idle engine no longer counts as sound

Answer = TypeVar("Answer")

log = logging.getLogger(__name__)


class Engine:
    """Runs the models of all lanes in one thread; the thread also loads them, since compiled graphs belong to it.

    ``ready`` is set once the models are there; ``error`` says why the engine stopped by itself.
    """

    def __init__(self, load: Callable[[], Models]) -> None:
        self.ready = threading.Event()
        self.error: Exception | None = None
        self.progress = time.monotonic()  # when a window was last done, or none was waiting
        self._failures = 0  # windows in a row, of all lanes, that brought no result
        self._load = load
        self._lanes: list[Lane] = []
        self._lock = threading.Lock()  # guards the list and the moment it is given up
        self._changed = threading.Event()
        self._closing = threading.Event()
        self._calls = EngineCalls(self._changed.set)
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def add(self, lane: Lane) -> None:
        """Serve a lane until its inbox is drained; its outbox is closed then."""
        lane.inbox.watch(self._changed.set)
        lane.outbox.watch(self._changed.set)
        lane.wake = self._changed.set
        with self._lock:
            self._lanes.append(lane)
        self._changed.set()
        if self._closing.is_set():
            self._abandon()

    def ask(self, request: Callable[[Models], Answer]) -> Answer:
        """Have the engine's thread do something between two windows; returns or raises what that does.

        Raises BusyError while the models are loaded, and when its turn does not come in time.
        """
        if not self.ready.is_set():
            raise BusyError("the models are being loaded; try again in a moment")
        return self._calls.ask(request)

    def close(self, timeout: float) -> bool:
        """Stop after the window at hand; False when that takes longer than ``timeout`` seconds."""
        self._closing.set()
        self._changed.set()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            models = self._load()
            self.ready.set()
            while not self._closing.is_set():
                self._changed.clear()
                self._advance()
                served = self._calls.serve(models)
                if not self._turn(models) and not served:
                    self._changed.wait(IDLE)
        except Exception as error:
            log.debug("the engine stopped", exc_info=True)
            self.error = error
        except BaseException as error:  # as a debugger ends a thread; a daemon without an engine must not go on
            self.error = ModelError(f"the engine's thread was ended from outside: {type(error).__name__}")
        finally:
            self._closing.set()
            self._abandon()

    def _abandon(self) -> None:
        self._calls.close()
        with self._lock:
            lanes, self._lanes = self._lanes, []
        for lane in lanes:
            lane.inbox.close(discard=True)
            lane.outbox.close()

    def _advance(self) -> None:
        """Being idle is progress, but not for models that have failed again and again."""
        if self._failures < SICK:
            self.progress = time.monotonic()

    def _turn(self, models: Models) -> bool:
        """One window of every lane that has one waiting; False when none had."""
        with self._lock:
            ended = [lane for lane in self._lanes if lane.over]
            self._lanes = [lane for lane in self._lanes if lane not in ended]
            ready = [lane for lane in self._lanes if lane.ready]
        for lane in ended:
            lane.outbox.close()
            lane.tracker = None
            models.release(lane.name)
        for lane in ready:
            if self._closing.is_set():
                break
            window = lane.inbox.get(0)
            outcome = process(models, lane, window) if window else Outcome(notices=tuple(lane.due(None)))
            lane.outbox.put(outcome)
            if window:
                self._failures = 0 if outcome.results else self._failures + 1
            self._advance()
        return bool(ready)
