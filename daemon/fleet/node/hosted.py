"""The streams of one worker on its daemon: started, leased, handed over and stopped as the controller says."""

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from ray.exceptions import RayError

from daemon.fleet.leases.held import HeldLeases
from daemon.fleet.leases.renewal import Renewal, Word
from daemon.fleet.node.daemon_client import DaemonClient, DaemonError
from daemon.fleet.node.keepers import Keepers
from daemon.fleet.node.openings import Openings
from daemon.fleet.protocol import Answer, Order
from daemon.lane.lease import boot_time
from stages.errors import one_line

JOBS = 8  # streams that start or stop at a time
COPIES = 4  # snapshots under way at a time

log = logging.getLogger(__name__)


class Hosted:
    """Keeps a daemon's streams as the controller's answers say.

    A stream is ``running`` from when the daemon has taken it, under the fence of its order. What takes seconds is a
    job in a thread of its own; a stream in ``_busy`` has one, and is left alone by all else. Any thread may call;
    ``_lock`` guards everything but the calls of the daemon and of keepers.
    """

    def __init__(self, worker: str, incarnation: str, news: Callable[[], None]) -> None:
        """``news`` is called when the controller should hear of something at once."""
        self._leases, self._news = HeldLeases(worker, incarnation), news
        self._lock = threading.RLock()
        # held while leases are told: the end of one must not come before an older word
        self._leasing = threading.Lock()
        self._client: DaemonClient | None = None
        self._orders: dict[str, Order] = {}
        self._leaving: Mapping[str, str] = {}  # streams to hand over, by the node of the keeper
        self._keeper: str | None = None
        self.keeper_changed = threading.Event()
        self._keepers = Keepers()
        self._witnesses: Mapping[str, Any] = {}
        self.running: dict[str, int] = {}
        self.kept: dict[str, tuple[str, int]] = {}  # node of the keeper that has the last snapshot, and its bytes
        self.refused: dict[str, str] = {}
        self._openings = Openings(news)
        self._busy: set[str] = set()
        self._jobs = ThreadPoolExecutor(JOBS, "stream")
        self._copies = ThreadPoolExecutor(COPIES, "snapshot")

    @property
    def retired(self) -> bool:
        """Another incarnation of this worker has taken over."""
        return self._leases.retired

    def on(self, client: DaemonClient | None) -> None:
        """The daemon of now. With another one than before, all streams have stopped: the process has ended."""
        with self._lock:
            if client is self._client:
                return
            self._client = client
            self.running.clear()
            self._busy.clear()
            for stream, held in list(self._leases.streams.items()):
                self._release(stream, held.fence)

    @property
    def prepared(self) -> frozenset[str]:
        """Streams that may come at once."""
        return self._openings.ready

    def renewal(self) -> Renewal:
        """To be sent at once."""
        with self._lock:
            return self._leases.renewal(boot_time())

    def word(self) -> Word:
        """What this worker says as a witness."""
        with self._lock:
            return self._leases.word(boot_time())

    @property
    def alone(self) -> bool:
        """See `HeldLeases.alone`."""
        with self._lock:
            return self._leases.alone(boot_time())

    def witnesses(self) -> dict[tuple[str, str], Any]:
        """The actors of the other witnesses, by worker and incarnation."""
        with self._lock:
            known = self._leases.witnesses.items()
            return {
                of: self._witnesses[of[0]] for of in known if of[0] in self._witnesses and of[0] != self._leases.worker
            }

    def prolong(self, words: Iterable[Word], asked: float) -> bool:
        """See `HeldLeases.prolong`."""
        with self._lock:
            return self._leases.prolong(words, asked, boot_time())

    def accept(self, answer: Answer) -> None:
        """Take the controller's answer, and begin what it asks for."""
        with self._lock:
            self._leases.accept(answer.reply, boot_time())
            self._orders = {name: order for name, order in self._orders.items() if name in self._leases.streams}
            self._orders |= {name: order for name, order in answer.orders.items() if name in self._leases.streams}
            self._witnesses = answer.witnesses
            self._keepers.learn(answer.keepers)
            if answer.keeper != self._keeper:  # the one before may have died with all that it had
                self.keeper_changed.set()
            self._leaving, self._keeper = answer.hand_over, answer.keeper
            self._openings.want(self._client, answer.prepare, self._orders)
            self._start_jobs()

    def lease(self) -> None:
        """Hand the leases on to the daemon. Raises DaemonError."""
        with self._leasing:
            self._lease()

    def _lease(self) -> None:
        with self._lock:
            client = self._client
            held = {name: self._leases.streams[name] for name in self.running if name in self._leases.streams}
            leases = {
                name: {"fence": lease.fence, "until": lease.until}
                for name, lease in held.items()
                if name not in self._busy and self.running[name] == lease.fence
            }
        if client is None or not leases:
            return
        for name, reason in client.lease(leases).items():
            log.warning("stream %s: %s; it is started again", name, reason)
            with self._lock:
                if client is self._client:
                    self.running.pop(name, None)

    def snapshot_all(self) -> None:
        """Give the keeper what the identities of all streams need, until it takes one no more."""
        with self._lock:
            client, keeper = self._client, self._keeper
            streams = {name: fence for name, fence in self.running.items() if name not in self._busy}
        if client is None or keeper is None:
            return
        failed = threading.Event()  # each further one would wait as long: another keeper will be named

        def copy(name: str) -> None:
            if failed.is_set():
                return
            taken = boot_time()
            try:
                data = client.snapshot(name, full=False)
            except DaemonError as error:
                if error.status not in (404, 409):  # it has ended, or has no frame yet
                    log.warning("stream %s: no snapshot: %s", name, error)
                return
            if not self._keepers.put(keeper, name, streams[name], taken, data):
                failed.set()
                return
            with self._lock:
                if name not in self._busy:  # else a later one may have gone with it to another node
                    self.kept[name] = keeper, len(data)

        list(self._copies.map(copy, streams))

    def close(self) -> None:
        """Wait for no job that has not begun."""
        self._openings.close()
        for pool in (self._jobs, self._copies):
            pool.shutdown(wait=False, cancel_futures=True)

    def _start_jobs(self) -> None:
        client, held = self._client, self._leases.streams
        if client is None:
            return
        for name, lease in held.items():
            order = self._orders.get(name)
            if name in self._busy or order is None or order.fence != lease.fence:
                continue
            if self.running.get(name) != lease.fence:
                self._begin(client, name, partial(self._start, client, name, order))
            elif name in self._leaving:
                self._begin(client, name, partial(self._hand, client, name, lease.fence, self._leaving[name]))
        for name in self.running.keys() - held.keys() - self._busy:
            self._begin(client, name, partial(self._stop, client, name))

    def _begin(self, client: DaemonClient, name: str, job: Callable[[], None]) -> None:
        self._busy.add(name)

        def run() -> None:
            try:
                job()
            except Exception as error:
                log.warning("stream %s: %s", name, one_line(error), exc_info=error)
            finally:
                with self._lock:
                    if client is self._client:
                        self._busy.discard(name)
                self._news()

        self._jobs.submit(run)

    def _start(self, client: DaemonClient, name: str, order: Order) -> None:
        with self._lock:
            self.refused.pop(name, None)
            self.kept.pop(name, None)
            replaced = self.running.pop(name, None) is not None
        if replaced:
            client.remove(name)
        body = {**order.body, "fence": order.fence}
        if order.predecessor is not None:
            body["predecessor"] = order.predecessor
        brought = {"snapshot": self._fetch(client, name, order), "opened": self._openings.take(name)}
        try:
            self._add(client, body, {key: value for key, value in brought.items() if value})
        except DaemonError as error:
            if error.status is None:  # it may have been added
                client.remove(name)
            with self._lock:
                if error.status is not None:
                    self.refused[name] = str(error)
                self._release(name, order.fence)
            return
        with self._lock:
            if client is not self._client:
                return
            self.running[name] = order.fence
            lease = self._leases.streams.get(name)
        if lease is not None and lease.fence == order.fence:
            client.lease({name: {"fence": lease.fence, "until": lease.until}})

    def _add(self, client: DaemonClient, body: Mapping[str, Any], brought: Mapping[str, str]) -> None:
        name = body["name"]
        try:
            client.add({**body, **brought})
        except DaemonError as error:
            if error.status == 409:  # one of that name is left from before
                client.remove(name)
                client.add({**body, **brought})
            elif "snapshot" in brought and str(error).startswith("snapshot: "):
                log.warning("stream %s: %s; it starts without its earlier state", name, error)
                client.add(body)
            else:
                raise

    def _fetch(self, client: DaemonClient, name: str, order: Order) -> str | None:
        """The snapshot of the stream, handed over to the daemon; None where there is none that it takes."""
        try:
            data = self._keepers.get(order.keeper or "", name)
            return None if data is None else client.keep_snapshot(data)
        except (RayError, DaemonError) as error:
            log.warning("stream %s: starts without its earlier state: %s", name, one_line(error))
            return None

    def _hand(self, client: DaemonClient, name: str, fence: int, keeper: str) -> None:
        """Stop publishing first: what is tracked after that is in the snapshot, and nobody has seen it."""
        self._end_lease(client, name, fence)
        try:
            taken, data = boot_time(), client.snapshot(name, full=True)
        except DaemonError as error:
            log.warning("stream %s: moves with an earlier state: %s", name, error)
        else:
            if self._keepers.put(keeper, name, fence, taken, data):
                self.kept[name] = keeper, len(data)
        with self._lock:
            self._release(name, fence)
        self._news()
        self._stop(client, name)

    def _stop(self, client: DaemonClient, name: str) -> None:
        """End the stream here. It runs elsewhere, so its end here is nothing to tell subscribers."""
        self._end_lease(client, name, self.running[name])
        client.remove(name)
        with self._lock:
            if client is self._client:
                self.running.pop(name, None)

    def _end_lease(self, client: DaemonClient, name: str, fence: int) -> None:
        with self._leasing:
            client.lease({name: {"fence": fence, "until": 0.0}})

    def _release(self, name: str, fence: int) -> None:
        self._leases.release(name, fence)
        self._orders.pop(name, None)
