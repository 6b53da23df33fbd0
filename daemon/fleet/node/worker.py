"""The worker: an actor of Ray's for one GPU, which keeps a daemon running and makes it do what the controller says."""

import logging
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import ray
from ray.exceptions import RayError

from daemon.fleet.leases.renewal import ANSWER, ASK, RENEW, WORDS, Word
from daemon.fleet.node.daemon_client import DaemonClient, DaemonError
from daemon.fleet.node.daemon_process import DaemonProcess, environment_of_raylet
from daemon.fleet.node.hosted import Hosted
from daemon.fleet.protocol import Answer, Report, Seat
from daemon.fleet.settings import FleetSettings, daemon_toml
from daemon.lane.lease import boot_time
from stages.errors import one_line

LOOK = 1.0  # seconds between two looks at the daemon's streams and load
SNAPSHOT = 2.0  # seconds between two snapshots of each stream
PENDING = 10.0  # seconds after which a call that was not answered is followed by another
HANGS = 15.0  # seconds without an answer after which a daemon that was ready is killed

log = logging.getLogger(__name__)


class Worker:
    """Its threads work; calls from Ray only steer. ``controller`` is the handle of the controller's actor."""

    def __init__(self, seat: Seat, settings: FleetSettings, controller: Any) -> None:
        self._seat, self._controller = seat, controller
        self._views: Mapping[str, Mapping[str, Any]] = {}
        self._load: Mapping[str, Any] | None = None
        self._draining: DaemonClient | None = None  # the daemon that was told to drain
        self._pending: tuple[Any, float] = (None, 0.0)  # the renewal that was not answered, and when it was sent
        self._met: set[tuple[str, str]] = set()  # witnesses that have answered
        self._answered = time.monotonic()
        self._soon, self._stopping = threading.Event(), threading.Event()
        self._hosted = Hosted(seat.worker, uuid.uuid4().hex, self._soon.set)
        toml = partial(daemon_toml, settings, seat.address, seat.number)
        self._daemon = DaemonProcess(toml, environment_of_raylet(), settings.http.token)
        loops = ((self._renew, self._soon, RENEW), (self._look, self._stopping, LOOK))
        snapshots = (self._hosted.snapshot_all, self._hosted.keeper_changed, SNAPSHOT)
        for step, wake, pause in (*loops, (self._prolong, self._stopping, ASK), snapshots):
            arguments = (step, wake, pause)
            threading.Thread(target=self._repeat, args=arguments, name=step.__name__, daemon=True).start()

    def poke(self) -> None:
        """The controller has news: ask for it now."""
        self._soon.set()

    def adopt(self, controller: Any) -> None:
        """Another controller has taken over."""
        self._controller, self._pending = controller, (None, 0.0)
        self._soon.set()

    def word(self) -> Word:
        """What this worker says as a witness of another."""
        return self._hosted.word()

    def stop(self) -> None:
        """End the daemon; the actor can be killed then."""
        self._stopping.set()
        self._hosted.close()
        self._daemon.stop()

    def _repeat(self, step: Callable[[], None], wake: threading.Event, pause: float) -> None:
        """Run ``step`` every ``pause`` seconds, and at once when ``wake`` is set."""
        while not self._stopping.is_set():
            due = time.monotonic() + pause
            try:
                step()
            except DaemonError as error:
                log.info("%s", error)  # it is being started or has ended, which its process tells
            except Exception as error:  # a thread that ends would leave the streams alone
                log.warning("%s", one_line(error), exc_info=error)
            wake.wait(max(pause / 4, due - time.monotonic()))
            if wake is not self._stopping:
                wake.clear()

    def _renew(self) -> None:
        """Ask the controller, and hand the leases on."""
        self._hosted.on(self._daemon.client)
        answer = self._ask()
        if answer is None:
            return
        self._hosted.accept(answer)
        if self._hosted.retired:
            self.stop()
            return
        self._hosted.lease()
        client = self._daemon.client
        if answer.drain and client is not None and client is not self._draining:
            self._daemon.drain()
            client.drain()
            self._draining = client

    def _ask(self) -> Answer | None:
        """The controller's answer to a renewal; None when there is none in time."""
        pending, since = self._pending
        # calls of a controller that is away for hours would pile up in Ray
        if pending is not None and not ray.wait([pending], timeout=ANSWER)[0] and time.monotonic() - since < PENDING:
            return None
        call = self._controller.renew.remote(self._report())
        self._pending = call, time.monotonic()
        try:
            answer: Answer = ray.get(call, timeout=ANSWER)
        except RayError as error:
            log.warning("the controller does not answer: %s", type(error).__name__)
            return None
        self._pending = None, 0.0
        return answer

    def _prolong(self) -> None:
        """While the controller is away, let the leases last as long as most witnesses do not hear it either."""
        asked, away = boot_time(), self._hosted.alone
        witnesses = self._hosted.witnesses()
        # each is asked once before: Ray's GCS, which may go with the controller, tells where it is
        calls = {handle.word.remote(): of for of, handle in witnesses.items() if away or of not in self._met}
        if not calls and not away:
            return
        words = []
        for call in ray.wait(list(calls), num_returns=len(calls), timeout=WORDS)[0] if calls else ():
            with suppress(RayError):
                words.append(ray.get(call))
                self._met.add(calls[call])
        if away and self._hosted.prolong(words, asked):
            self._hosted.lease()

    def _report(self) -> Report:
        client, hosted = self._daemon.client, self._hosted
        return Report(
            self._seat,
            hosted.renewal(),
            time.time(),
            client.url if client else "",
            client.endpoint if client else "",
            self._load if client else None,
            self._views if client else {},
            dict(hosted.kept),
            dict(hosted.refused),
            hosted.prepared,
            self._daemon.problem,
            self._daemon.drained,
        )

    def _look(self) -> None:
        """Learn what the daemon does. Its load counts once its models are loaded."""
        client = self._daemon.client
        try:
            if client is None or not client.ready():
                self._load, self._views = None, {}
                self._answered = time.monotonic()
                return
            self._views, self._load = client.streams(), client.load()
            self._answered = time.monotonic()
        except DaemonError as error:
            if error.status is None and time.monotonic() - self._answered > HANGS:
                self._daemon.kill()
            raise


WorkerActor = ray.remote(Worker)
