"""What other threads have the engine do between two windows: the models and all that is on the GPU are its own."""

import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from daemon.engine.models import Models
from daemon.errors import BusyError
from daemon.limits.out_of_memory import let_go
from stages.errors import MaskcastError, one_line

AT_ONCE = 2  # requests before windows have their turn again
PATIENCE = 10.0  # seconds until the engine must have begun, and again until it must be done

Answer = TypeVar("Answer")
Request = Callable[[Models], Any]

log = logging.getLogger(__name__)


class EngineCalls:
    """Waiting requests, oldest first; ``wake`` is called whenever one comes."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._waiting: deque[tuple[Request, Future[Any]]] = deque()
        self._lock = threading.Lock()  # guards the moment from which nothing is taken
        self._closed = False

    def ask(self, request: Callable[[Models], Answer]) -> Answer:
        """Have ``request`` done; returns or raises what it does. Raises BusyError when its turn does not come."""
        answer: Future[Answer] = Future()
        with self._lock:
            if self._closed:
                raise BusyError("the daemon is stopping")
            self._waiting.append((request, answer))
        self._wake()
        try:
            return answer.result(PATIENCE)
        except TimeoutError:
            if answer.cancel():
                raise BusyError("the engine is busy: nothing was changed; try again") from None
        try:
            return answer.result(PATIENCE)
        except TimeoutError:
            raise BusyError("the engine is still at work on it; look whether it was done before trying again") from None

    def serve(self, models: Models) -> bool:
        """Engine only: do some of what waits; False when nothing did. What goes wrong is the asker's alone."""
        served = False
        for _ in range(AT_ONCE):
            if not self._waiting:
                break
            request, answer = self._waiting.popleft()
            if not answer.set_running_or_notify_cancel():
                continue
            served = True
            try:
                answer.set_result(request(models))
            except MaskcastError as error:
                answer.set_exception(error.with_traceback(None))
            except Exception as error:
                log.debug("a request failed", exc_info=True)
                let_go(error)
                answer.set_exception(BusyError(f"the model failed: {one_line(error)}; try again"))
        return served

    def close(self) -> None:
        """Take no more, and refuse what waits."""
        with self._lock:
            self._closed = True
        while True:
            try:
                _, answer = self._waiting.popleft()
            except IndexError:  # whoever adds a stream to an engine that has died closes too
                return
            if answer.set_running_or_notify_cancel():
                answer.set_exception(BusyError("the daemon is stopping"))
