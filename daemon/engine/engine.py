"""The one thread that runs the models."""

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from daemon.engine.call_queue import CallQueue
from daemon.engine.check_prompts import check_prompts
from daemon.engine.detect import KeyframeDetector
from daemon.engine.models import Models
from daemon.engine.run_window import run_window
from daemon.engine.scheduler import Scheduler
from daemon.engine.stream_state import StreamState, tracks_nothing
from daemon.errors import BusyError
from daemon.lane.lane import Lane
from daemon.lane.outcome import Outcome
from daemon.limits.memory_budget import MemoryUse
from stages.errors import ModelError

IDLE = 1.0  # seconds between two signs of life of an engine that has nothing to do
SICK = 20  # windows in a row that fail before an idle engine no longer counts as sound

Answer = TypeVar("Answer")

log = logging.getLogger(__name__)


class Engine:
    """Loads the models and runs them for all streams, in one thread, since compiled graphs belong to a thread.

    ``ready`` is set once the models are loaded; ``error`` says why the engine stopped by itself. All methods may be
    called from any thread.
    """

    def __init__(self, load: Callable[[], Models]) -> None:
        self.ready = threading.Event()
        self.error: Exception | None = None
        self.progress = time.monotonic()  # when a window was last done, or none was waiting
        self._failures = 0  # windows in a row, of all streams, that brought no result
        self._load = load
        self._models: Models | None = None
        self._scheduler = Scheduler()
        self._changed = threading.Event()
        self._closing = threading.Event()
        self._calls = CallQueue(self.wake)
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        """Start the thread; it loads the models first."""
        self._thread.start()

    def wake(self) -> None:
        """Look for work: a mailbox has changed, a notice or a call waits."""
        self._changed.set()

    def add(self, stream: StreamState) -> None:
        """Serve a stream until its inbox is drained; its outbox is closed then."""
        self._scheduler.add(stream)
        self.wake()
        if self._closing.is_set():
            self._abandon()

    def ask(self, request: Callable[[Models], Answer]) -> Answer:
        """Run ``request`` in the engine's thread between two windows; returns or raises what it does.

        Raises BusyError while the models are being loaded, and when its turn does not come in time.
        """
        if not self.ready.is_set():
            raise BusyError("the models are being loaded; try again in a moment")
        return self._calls.ask(request)

    def ask_stream(self, lane: Lane, request: Callable[[StreamState], Answer]) -> Answer:
        """The same with the state of the lane's stream. Raises ConfigError once the stream has ended."""

        def on_stream(_: Models) -> Answer:
            stream = self._scheduler.find(lane)
            if stream is None:
                raise tracks_nothing(lane.name)
            return request(stream)

        return self.ask(on_stream)

    def memory(self) -> MemoryUse:
        """What the memory budget is used for; all zero while the models are being loaded."""
        return self._models.memory() if self._models is not None else MemoryUse()

    def close(self, timeout: float) -> bool:
        """Stop after the current window; False when that takes longer than ``timeout`` seconds."""
        self._closing.set()
        self.wake()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            models = self._models = self._load()
            keyframes = KeyframeDetector(
                models.detector, self._scheduler.keyframes, self._scheduler.budget.detection.add
            )
            self.ready.set()
            while not self._closing.is_set():
                self._changed.clear()
                self._advance()
                served = self._calls.serve(models)
                if not self._run_next(models, keyframes) and not served:
                    self._changed.wait(IDLE)
        except Exception as error:
            log.debug("the engine stopped", exc_info=True)
            self.error = error
        except BaseException as error:  # as a debugger ends a thread; a daemon without an engine must not go on
            self.error = ModelError(f"the engine's thread was ended from outside: {type(error).__name__}")
        finally:
            self._closing.set()
            self._abandon()

    def _run_next(self, models: Models, keyframes: KeyframeDetector) -> bool:
        """Run the window that has waited longest; False when none can be run."""
        for stream in self._scheduler.streams():
            check_prompts(models.detector, stream)
        for stream in self._scheduler.retire():
            stream.lane.outbox.close()
            stream.tracker = None
            models.release(stream.lane.name)
        chosen = self._scheduler.next()
        if chosen is None:
            return False
        stream, window = chosen
        lane = stream.lane
        if window is None:
            lane.outbox.put(Outcome(notices=tuple(lane.take_notices(None))))
        else:
            began = time.perf_counter()
            outcome = run_window(models, keyframes, stream, window)
            spent = time.perf_counter() - began
            lane.busy.add(spent)
            if lane.live:
                self._scheduler.budget.work.add(spent)
            lane.outbox.put(outcome)
            self._failures = 0 if outcome.results else self._failures + 1
        self._advance()
        return True

    def _advance(self) -> None:
        """Note progress. Being idle is progress too, but not for models that have failed again and again."""
        if self._failures < SICK:
            self.progress = time.monotonic()

    def _abandon(self) -> None:
        self._calls.close()
        for stream in self._scheduler.clear():
            stream.lane.inbox.close(discard=True)
            stream.lane.outbox.close()
