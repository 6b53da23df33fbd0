"""Workers, a controller and a network in true time, around the real leases of both sides.

Every machine has a clock of its own: hours off, and up to 1 % too fast or too slow. Messages are late, lost and
doubled; workers are killed, stopped, cut off and started again under their names, while the former process may run on;
the network is parted in two; the controller is cut off, or away, or started again from the state that it wrote.
"""

import heapq
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from random import Random

from daemon.fleet.leases.held import HeldLeases
from daemon.fleet.leases.renewal import ASK, RECENT, RENEW, WORDS, Renewal, Reply, Word
from daemon.fleet.leases.table import LeaseTable

TICK = 0.5  # seconds between two ticks of the controller
PROMPT = 0.05  # seconds, the longest that a message takes while nothing is wrong


@dataclass(frozen=True)
class Clock:
    offset: float
    rate: float

    def __call__(self, true: float) -> float:
        return self.offset + self.rate * true

    @classmethod
    def drawn(cls, random: Random) -> "Clock":
        return cls(random.uniform(-5, 5) * 3600, random.uniform(0.99, 1.01))


@dataclass
class Process:
    """One process of a worker, on a machine of its own."""

    worker: str
    clock: Clock
    leases: HeldLeases
    runs: bool = True  # not killed
    stopped_until: float = 0.0
    cut_off_until: float = 0.0
    side: int = 0  # of a parted network

    def publishes(self, true: float) -> dict[str, int]:
        """Streams with a valid lease, and their fences: what its daemon would publish, stopped or not."""
        now = self.clock(true)
        return {name: held.fence for name, held in self.leases.streams.items() if self.runs and held.until > now}


@dataclass
class World:
    """Runs ``streams`` on ``workers`` until `now`, in true seconds. ``faults`` a minute strike each kind of thing."""

    random: Random
    workers: int = 3
    streams: int = 4
    faults: float = 6.0
    now: float = 0.0
    away_until: float = 0.0  # the controller
    parted_until: float = 0.0
    side: int = 0  # the controller's
    processes: list[Process] = field(default_factory=list)
    given: list[tuple[float, str, str, int]] = field(default_factory=list)  # true time, stream, worker, fence

    def __post_init__(self) -> None:
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._names = [f"camera-{i}" for i in range(self.streams)]
        self.clock = Clock.drawn(self.random)
        self.table = LeaseTable(self.clock(0))
        self._written = json.dumps(self.table.state())
        for i in range(self.workers):
            self._start(f"worker-{i}")
        self.at(TICK, self._tick)
        if self.faults:
            self.at(self.random.expovariate(self.faults / 60), self._fault)

    def publishing(self) -> dict[str, int]:
        """All streams that some process may publish now, with their fences."""
        return {stream: fence for process in self.processes for stream, fence in process.publishes(self.now).items()}

    def leave(self, seconds: float) -> None:
        """The controller dies, and comes back after ``seconds``."""
        self.away_until = self.now + seconds
        self.at(self.away_until, self._restart)

    def part(self, seconds: float, workers: set[str], controller: bool) -> None:
        """``workers`` hear the others no more; the ``controller`` may be with them."""
        self.parted_until, self.side = self.now + seconds, int(controller)
        for process in self.processes:
            process.side = int(process.worker in workers)

    def at(self, true: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._events, (true, next(self._order), do))

    def run(self, until: float) -> None:
        """Let time pass. Raises AssertionError at the first moment at which two processes hold a lease of a stream."""
        while self._events[0][0] <= until:
            self.now, _, do = heapq.heappop(self._events)
            do()
            self.check()
        self.now = until

    def check(self) -> None:
        holders: dict[str, Process] = {}
        for process in self.processes:
            for stream in process.publishes(self.now):
                assert stream not in holders, f"{stream}: {holders[stream].leases.streams} and {process.leases.streams}"
                holders[stream] = process

    def _start(self, worker: str) -> None:
        clock = Clock.drawn(self.random)
        process = Process(worker, clock, HeldLeases(worker, f"{self.random.getrandbits(64):x}"))
        self.processes.append(process)
        self._renew(process)
        self._prolong(process)

    def _renew(self, process: Process) -> None:
        if not process.runs or process.leases.retired:
            process.runs = False
            return
        self.at(max(self.now + RENEW / process.clock.rate, process.stopped_until), lambda: self._renew(process))
        if process.stopped_until > self.now:
            return
        renewal = process.leases.renewal(process.clock(self.now))
        self._send(process, None, lambda: self._receive(process, renewal))

    def _receive(self, process: Process, renewal: Renewal) -> None:
        if self.away_until > self.now:
            return
        reply = self.table.renew(renewal, self.clock(self.now))
        self._written = json.dumps(self.table.state())
        self._send(None, process, lambda: self._accept(process, reply))

    def _accept(self, process: Process, reply: Reply) -> None:
        process.leases.accept(reply, process.clock(self.now))

    def _prolong(self, process: Process) -> None:
        """Ask all witnesses, and count what has come back after a while."""
        if not process.runs:
            return
        self.at(
            max(self.now + (ASK + WORDS) / process.clock.rate, process.stopped_until), lambda: self._prolong(process)
        )
        asked = process.clock(self.now)
        if process.stopped_until > self.now or not process.leases.word(asked).quiet:
            return
        words: list[Word] = []
        for witness in [one for one in self.processes if one.worker in process.leases.witnesses and one.runs]:
            self._send(process, witness, lambda witness=witness: self._say(witness, process, words))

        def count() -> None:
            if process.runs:
                process.leases.prolong(words, asked, process.clock(self.now))

        self.at(max(self.now + WORDS, process.stopped_until), count)

    def _say(self, witness: Process, process: Process, words: list[Word]) -> None:
        word = witness.leases.word(witness.clock(self.now))
        self._send(witness, process, lambda: words.append(word))

    def _send(self, source: Process | None, target: Process | None, arrive: Callable[[], None]) -> None:
        """A message between two processes; None is the controller. Sometimes it is lost, late or doubled."""
        random = self.random
        copies = random.choices([0, 1, 2], [0.03, 0.94, 0.03] if self.faults else [0, 1, 0])[0]
        for _ in range(copies):
            late = random.uniform(0, 10) if self.faults and random.random() < 0.05 else 0.0
            cut_until = max((one.cut_off_until for one in (source, target) if one is not None), default=0.0)
            if self.parted_until > self.now and self._side(source) != self._side(target):
                cut_until = max(cut_until, self.parted_until)
            if cut_until <= self.now:
                self.at(self.now + random.uniform(0, PROMPT) + late, lambda: self._arrive(target, arrive))
            elif random.random() < 0.5:  # TCP sends it again when the link is back
                self.at(cut_until + random.uniform(0, 3), lambda: self._arrive(target, arrive))

    def _arrive(self, target: Process | None, do: Callable[[], None]) -> None:
        if target is not None and target.stopped_until > self.now:  # it waits in the socket
            self.at(target.stopped_until, lambda: self._arrive(target, do))
        elif target is None or target.runs:
            do()

    def _side(self, process: Process | None) -> int:
        return self.side if process is None else process.side

    def _tick(self) -> None:
        """Gives every free stream to some worker that is heard."""
        self.at(self.now + TICK / self.clock.rate, self._tick)
        if self.away_until > self.now:
            return
        now = self.clock(self.now)
        self.table.choose_witnesses({process.worker: process.worker for process in self.processes}, now)
        self.table.expire(now)
        heard = sorted({process.worker for process in self.processes if self.table.hears(process.worker, now, RECENT)})
        for stream in self._names:
            if heard and self.table.free(stream, now):
                worker = self.random.choice(heard)
                fence = self.table.grant(stream, worker, now)
                self.given.append((self.now, stream, worker, fence))
                # the controller may die before it has written what nobody heard of yet
                if self.faults and self.random.random() < 0.1:
                    self._restart()
                    return
                self._written = json.dumps(self.table.state())
        self._written = json.dumps(self.table.state())

    def _restart(self) -> None:
        """A controller on another machine goes on with what was written."""
        self.clock = Clock.drawn(self.random)
        self.table = LeaseTable(self.clock(self.now), json.loads(self._written))

    def _fault(self) -> None:
        self.at(self.now + self.random.expovariate(self.faults / 60), self._fault)
        process = self.random.choice([one for one in self.processes if one.runs] or self.processes)
        strikes = [self._kill, self._stop, self._cut_off, self._replace, self._hand_over]
        names = {one.worker for one in self.processes if self.random.random() < 0.5}
        whole = [
            self._restart,
            lambda: self.leave(self.random.uniform(0, 30)),
            lambda: self.part(self.random.uniform(0, 30), names, self.random.random() < 0.5),
        ]
        self.random.choice([*strikes, *(lambda _, do=do: do() for do in whole)])(process)

    def _kill(self, process: Process) -> None:
        process.runs = False
        self.at(self.now + self.random.uniform(0, 8), lambda: self._start(process.worker))

    def _stop(self, process: Process) -> None:
        process.stopped_until = self.now + self.random.uniform(0, 12)

    def _cut_off(self, process: Process) -> None:
        process.cut_off_until = self.now + self.random.uniform(0, 12)

    def _replace(self, process: Process) -> None:
        """Ray starts the worker elsewhere while the former process runs on."""
        self._cut_off(process)
        self._start(process.worker)

    def _hand_over(self, process: Process) -> None:
        """A planned move: the daemon stops a stream, and the worker says so."""
        for stream, held in list(process.leases.streams.items())[:1]:
            process.leases.release(stream, held.fence)
