"""The controller: a detached actor of Ray's on the head, which knows which worker runs which stream."""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import RayError

from daemon.fleet import cluster
from daemon.fleet.api import FleetApi
from daemon.fleet.assignments import Assignments
from daemon.fleet.forwarding import Forwarding
from daemon.fleet.node.keeper import CONCURRENT, KeeperActor
from daemon.fleet.node.worker import WorkerActor
from daemon.fleet.protocol import Answer, Report, Seat
from daemon.fleet.settings import FleetSettings
from daemon.fleet.state_file import load, save
from daemon.fleet.status import status
from daemon.lane.lease import boot_time
from stages.errors import ConfigError, MaskcastError, one_line

TICK = 0.25  # seconds between two looks at leases and placement
SCAN = 1.0  # seconds between two looks at the cluster's nodes
SILENT = 30.0  # seconds after which a worker that nobody hears is made anew, where its node lives
END = 20.0  # seconds that daemons have to end
AGAIN = 5.0  # seconds until a controller that could not begin tries again
CALLS = 32  # calls of workers at a time

log = logging.getLogger(__name__)


class Controller:
    """Answers workers, places streams, and makes an actor for each slot of each node.

    Ray starts it again when it ended, with the same arguments. ``_lock`` guards the assignments; they are in the file
    before anybody hears of them. Calls of GCS, which block while that is away, have a thread of their own.
    """

    def __init__(self, settings: FleetSettings) -> None:
        self._settings = settings
        self._lock, self._stopping = threading.Lock(), threading.Event()
        self._seats: dict[str, Seat] = {}
        self._workers: dict[str, tuple[str, Any, float]] = {}  # by worker: its node's id, handle, when made
        self._keepers: dict[str, Any] = {}  # by the node's id
        self._problem = self._unsaved = ""
        self._api: FleetApi | None = None
        self._forwarding = Forwarding(settings)
        self._forwards = threading.Lock()
        self._begin()
        if self._problem:  # one that Ray has started again has nobody who tries again
            threading.Thread(target=self._begin_again, name="begin", daemon=True).start()

    def _begin(self) -> None:
        try:
            self._assignments = Assignments(self._settings, boot_time(), load(self._settings.state_file))
            self._save()
            self._api = FleetApi(self._settings.http_of_fleet, self)
        except (MaskcastError, OSError) as error:  # Ray would show a traceback
            self._problem = one_line(error)
            return
        self._problem = ""
        for step, pause in ((self._tick, TICK), (self._scan, SCAN), (self._forward, TICK)):
            threading.Thread(target=self._repeat, args=(step, pause), name=step.__name__, daemon=True).start()

    def _begin_again(self) -> None:
        while self._problem and not self._stopping.wait(AGAIN):
            self._begin()

    @property
    def _fleet(self) -> Assignments:
        if self._problem:
            raise ConfigError(self._problem)
        return self._assignments

    def problem(self) -> str:
        """Why it could not start; "" when it did."""
        return self._problem

    def url(self) -> str:
        """Where its HTTP is."""
        return self._api.url if self._api is not None else ""

    def renew(self, report: Report) -> Answer:
        """A worker's renewal."""
        with self._lock:
            answer = self._fleet.renew(report, boot_time())
            self._save()
            news = self._assignments.news() - {report.seat.worker}
        self._poke(news)
        named = {answer.keeper, *answer.hand_over.values(), *(order.keeper for order in answer.orders.values())}
        keepers = {node: self._keepers[node] for node in named if node in self._keepers}
        witnesses = {name: self._workers[name][1] for name in answer.reply.witnesses if name in self._workers}
        return replace(answer, keepers=keepers, witnesses=witnesses)

    def status(self) -> dict[str, Any]:
        """See `daemon.fleet.status.status`."""
        with self._lock:
            return {
                "page": self.url() + "/",
                "problem": self._unsaved,
                **status(self._fleet, self._seats, boot_time()),
            }

    def move(self, stream: str, node: str) -> str:
        """See `Assignments.move`."""
        with self._lock:
            worker = self._fleet.move(stream, node, boot_time())
            news = self._assignments.news()
        self._poke(news)
        return worker

    def drain(self, node: str) -> int:
        """See `Assignments.drain`."""
        with self._lock:
            streams = self._fleet.drain(node)
            self._save()
        return streams

    def stop(self) -> None:
        """End all daemons and the actors of workers; this actor can be killed then."""
        self._stopping.set()
        with self._forwards:
            self._forwarding.stop()
        workers = [handle for _, handle, _ in self._workers.values()]
        if workers:
            ray.wait([worker.stop.remote() for worker in workers], num_returns=len(workers), timeout=END)
        for actor in (*workers, *self._keepers.values()):
            with suppress(RayError, ValueError):  # its node has gone
                ray.kill(actor)
        if not self._problem:
            with self._lock:
                self._assignments.end()
                self._save()

    def down(self) -> None:
        """Stop, and end this actor too; returns at once."""

        def end() -> None:
            self.stop()
            ray.kill(ray.get_runtime_context().current_actor)

        threading.Thread(target=end, name="down").start()

    def _repeat(self, step: Callable[[], None], pause: float) -> None:
        said = ""
        while not self._stopping.wait(pause):
            try:
                step()
                said = ""
            except Exception as error:  # a thread that ends would leave the fleet alone
                if one_line(error) != said:
                    said = one_line(error)
                    log.warning("%s", said, exc_info=error)

    def _tick(self) -> None:
        with self._lock:
            self._assignments.tick(boot_time(), self._seats)
            self._save()
            news = self._assignments.news()
        self._poke(news)

    def _forward(self) -> None:
        """Tell the forwarder which daemons publish."""
        with self._lock:
            members = self._assignments.members.all()
        daemons = [member.report.endpoint for member in members if member.report.endpoint]
        with self._forwards:
            if not self._stopping.is_set():
                self._forwarding.read_from(daemons, self._assignments.configured)

    def _scan(self) -> None:
        """Make a worker for each slot, and a keeper for each node that has one."""
        slot = self._settings.fleet.slot
        seats = {seat.worker: seat for seat in cluster.seats(slot)}
        self._seats = seats
        with self._lock:
            self._assignments.members.alive = frozenset(seat.node_id for seat in seats.values())
        me = ray.get_runtime_context().current_actor
        for node_id in {seat.node_id for seat in seats.values()} - self._keepers.keys():
            keeper = KeeperActor.options(
                name=f"keeper-{node_id}", max_concurrency=CONCURRENT, **cluster.on_node(node_id)
            ).remote()
            self._keepers[node_id] = keeper
        for name, seat in seats.items():
            if self._has_worker(seat):
                continue
            options = {**cluster.on_node(seat.node_id), **cluster.takes(slot)}
            worker: Any = WorkerActor.options(
                name=f"worker-{seat.node_id}-{seat.number}", max_concurrency=4, **options
            ).remote(seat, self._settings, me)
            worker.adopt.remote(me)
            self._workers[name] = seat.node_id, worker, time.monotonic()

    def _has_worker(self, seat: Seat) -> bool:
        node_id, _, made = self._workers.get(seat.worker, ("", None, 0.0))
        if node_id != seat.node_id:
            return False
        member = self._assignments.members.get(seat.worker)
        heard = member is not None and boot_time() - member.heard < SILENT
        return heard or time.monotonic() - made < SILENT

    def _poke(self, workers: Iterable[str]) -> None:
        for name in workers:
            if name in self._workers:
                self._workers[name][1].poke.remote()

    def _save(self) -> None:
        """Raises FleetError where it cannot: without an answer workers go on as without a controller."""
        if not self._assignments.changed:
            return
        path = self._settings.state_file
        try:
            save(path, self._assignments.state())
        except OSError as error:
            self._unsaved = f"fleet.state {path}: cannot be written: {error.strerror}; free space, or mend its folder"
            raise cluster.FleetError(self._unsaved) from None
        self._unsaved = ""
        self._assignments.saved()


ControllerActor = ray.remote(Controller)


def start(settings: FleetSettings) -> Any:
    """Make the controller on the head; this process is connected. Raises FleetError where a fleet runs already."""
    options: dict[str, Any] = {"namespace": cluster.NAMESPACE, "lifetime": "detached", "max_restarts": -1}
    try:
        return ControllerActor.options(
            name=cluster.CONTROLLER,
            num_cpus=0,
            resources={cluster.HEAD: 0.001},
            max_concurrency=CALLS,
            **options,
        ).remote(settings)
    except ValueError:  # the name is taken
        raise cluster.FleetError(
            "a fleet runs on this cluster already: see maskcast fleet status; maskcast fleet down ends it"
        ) from None


def ask(call: Any, timeout: float) -> Any:
    """The result of an actor's call. Raises the MaskcastError that it raised, and FleetError when no answer comes."""
    try:
        return ray.get(call, timeout=timeout)
    except (RayError, MaskcastError) as error:  # Ray's own error is of both kinds, and its text is the traceback
        cause = getattr(error, "cause", None)
        if isinstance(cause, MaskcastError):
            raise cause from None
        raise cluster.FleetError(f"the fleet does not answer: {type(error).__name__}; try again in a minute") from None
