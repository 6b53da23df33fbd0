"""Requests of other threads that the engine runs between two windows, since the models belong to its thread."""

import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from daemon.engine.models import Models
from daemon.errors import BusyError
from daemon.limits.out_of_memory import free_memory_of
from stages.errors import MaskcastError, one_line

AT_ONCE = 2  # requests that are run before the next windows
PATIENCE = 10.0  # seconds for a request to begin, and as many again for it to end

Answer = TypeVar("Answer")
Request = Callable[[Models], Any]

log = logging.getLogger(__name__)


class CallQueue:
    """A queue of requests, oldest first; ``wake`` is called for each. Any thread may call all but ``serve``."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._waiting: deque[tuple[Request, Future[Any]]] = deque()
        self._lock = threading.Lock()  # guards the moment of closing
        self._closed = False

    def ask(self, request: Callable[[Models], Answer]) -> Answer:
        """Run ``request`` in the engine's thread; returns or raises what it does. BusyError when it is late."""
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
        """Run some waiting requests; False when there were none. An error goes to the caller of its request only."""
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
                free_memory_of(error)
                answer.set_exception(BusyError(f"the model failed: {one_line(error)}; try again"))
        return served

    def close(self) -> None:
        """Refuse the waiting requests and all later ones."""
        with self._lock:
            self._closed = True
        while True:
            try:
                _, answer = self._waiting.popleft()
            except IndexError:  # another thread closes too, when it adds a stream to an engine that has ended
                return
            if answer.set_running_or_notify_cancel():
                answer.set_exception(BusyError("the daemon is stopping"))
