"""A fleet in simulated time, around the daemon's real placement, costs and leases."""

import heapq
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import count

import numpy as np

from daemon.fleet.leases.renewal import EXPIRY, RECENT, RENEW, Renewal
from daemon.fleet.leases.table import LeaseTable
from daemon.fleet.placement.cost import SETTLE, Costs, Load, StreamLoad
from daemon.fleet.placement.decisions import Decision, Move, Place, Wait
from daemon.fleet.placement.state import Stream, Worker
from tests.benchmarks.fleet.demand import BUDGET, MODELS, SITES, Asked, Demand, failures

TICK = 0.5  # seconds between two ticks of the controller
TRAVEL = 1.0  # seconds that a move takes
PAUSE = (0.3, 1.0)  # seconds of a move in which nobody publishes
START = (0.6, 2.5)  # seconds from a worker's hearing of a stream to its first message: connection, keyframe

Policy = Callable[[Iterable[Worker], Iterable[Stream], Costs, float], list[Decision]]


@dataclass(frozen=True)
class Sample:
    """At one round of reports: hours since the warm-up, and of the workers that are up their demands over capacity."""

    hour: float
    mean: float
    low: float
    high: float
    most: float
    spread: float
    lost: float  # share of all frames that overloaded engines lose
    waiting: int


@dataclass
class Run:
    """What happened after the warm-up. Times in seconds; a gap is one time without a watcher of one stream."""

    samples: list[Sample] = field(default_factory=list)
    moves: list[float] = field(default_factory=list)
    failures: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)  # after failures; moves have their pauses
    unwatched: np.ndarray = field(default_factory=lambda: np.zeros(0))  # by stream
    begin: float = 0.0  # when the warm-up ended


class Simulation:
    """Runs one policy. Only moments at which something can change are looked at: reports, failures, what follows them.

    Each worker renews every `RENEW` seconds at a phase of its own; the table gets the latest renewal before each look.
    """

    def __init__(self, asked: Asked, policy: Policy) -> None:
        self.asked, self.policy, self.run = asked, policy, Run()
        self.random = np.random.default_rng([asked.seed, 4])
        self.demand = Demand(asked)
        self.costs = Costs()
        self.table = LeaseTable(0.0)
        self.phase = self.random.uniform(0, RENEW, asked.nodes)
        self.up = [True] * asked.nodes
        self.started = [0] * asked.nodes  # how often: a new process each time
        self.sequence = count(1)
        empty = Load((), MODELS, BUDGET)
        names = [f"node-{i:03}" for i in range(asked.nodes)]
        self.workers = [Worker(n, n, {"site": SITES[i % len(SITES)]}, "", empty) for i, n in enumerate(names)]
        self.index = {name: i for i, name in enumerate(names)}
        d = self.demand
        self.streams = [
            Stream(f"camera-{i:05}", d.works[i], site=d.sites[i], snapshot=d.snapshots[i]) for i in range(asked.streams)
        ]
        self.number = {stream.name: i for i, stream in enumerate(self.streams)}
        self.where = np.full(asked.streams, -1)
        self.down_since = np.zeros(asked.streams)
        self.up_at = np.full(asked.streams, np.inf)
        self.run.unwatched = np.zeros(asked.streams)
        self.run.begin = asked.warm_up
        self.needs = self.demand.next(0.0)
        self.waiting = 0
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._order = count()
        self._ticks: set[float] = set()

    def at(self, when: float, do: Callable[[float], None]) -> None:
        heapq.heappush(self._events, (when, next(self._order), do))

    def tick_after(self, when: float) -> None:
        """The controller's first tick after ``when``."""
        tick = TICK * (math.floor(when / TICK) + 1)
        if tick not in self._ticks:
            self._ticks.add(tick)
            self.at(tick, self.tick)

    def simulate(self) -> Run:
        for when, node, back in failures(self.asked):
            self.at(when, lambda now, node=node: self.fail(node, now))
            self.at(back, lambda now, node=node: self.come_back(node, now))
        for i in range(round(self.asked.seconds / self.asked.every)):
            self.at(EXPIRY + i * self.asked.every, self.report)
        while self._events and self._events[0][0] <= self.asked.seconds:
            now, _, do = heapq.heappop(self._events)
            do(now)
        for stream in range(self.asked.streams):
            self.end_gap(stream, min(self.up_at[stream], self.asked.seconds))
        return self.run

    def renewed(self, node: int, now: float) -> None:
        """The table receives the node's latest renewal before ``now``."""
        latest = now - (now - self.phase[node]) % RENEW
        self.table.renew(Renewal(self.workers[node].name, str(self.started[node]), next(self.sequence)), latest)

    def fail(self, node: int, now: float) -> None:
        self.renewed(node, now)
        self.up[node] = False
        self.run.failures.append(now)
        for i in np.flatnonzero(self.where == node).tolist():
            if self.up_at[i] <= now:
                self.end_gap(i, self.up_at[i])
                self.down_since[i] = now
            self.up_at[i] = np.inf
        self.tick_after(now + EXPIRY)

    def come_back(self, node: int, now: float) -> None:
        self.up[node] = True
        self.started[node] += 1
        self.workers[node] = replace(self.workers[node], load=Load((), MODELS, BUDGET))
        if self.waiting:
            self.tick_after(now)

    def report(self, now: float) -> None:
        """All workers tell their loads of the last minute; then new ones hold."""
        total = np.bincount(self.where[self.where >= 0], self.needs[self.where >= 0], self.asked.nodes)
        slowed = np.maximum(total, 1.0)[self.where]
        fps, shares = (self.demand.rates / slowed).tolist(), (self.needs / slowed).tolist()
        loads: list[list[StreamLoad]] = [[] for _ in self.workers]
        for i, (stream, node) in enumerate(zip(self.streams, self.where.tolist(), strict=True)):
            if node >= 0 and self.up_at[i] <= now:
                load = StreamLoad(stream.name, shares[i], fps[i], int(self.demand.memory[i]))
                loads[node].append(load)
                if now - stream.since >= SETTLE:
                    self.costs.learn(stream.work, "", load, now)
        for node, of_node in enumerate(loads):
            if self.up[node]:
                used = MODELS + sum(load.memory for load in of_node)
                self.workers[node] = replace(self.workers[node], load=Load(tuple(of_node), used, BUDGET))
        self.needs = self.demand.next(now)
        self.sample(now)
        self.tick_after(now)

    def sample(self, now: float) -> None:
        if now < self.asked.warm_up:
            return
        here = self.where >= 0
        total = np.bincount(self.where[here], self.needs[here], self.asked.nodes)
        loads = total[np.array(self.up)]
        low, high = np.percentile(loads, [5, 95])
        lost = ((self.demand.rates * (1 - 1 / np.maximum(total, 1)[self.where]))[here]).sum() / self.demand.rates.sum()
        spread = (loads.mean(), low, high, loads.max(), loads.std(), lost)
        hour = (now - self.asked.warm_up) / 3600
        self.run.samples.append(Sample(hour, *map(float, spread), waiting=self.waiting))

    def tick(self, now: float) -> None:
        """The controller's, as in `daemon.fleet.placement.decide`."""
        for node, up in enumerate(self.up):
            if up:
                self.renewed(node, now)
        for lapsed in self.table.expire(now):
            i = self.number[lapsed.stream]
            self.streams[i] = replace(self.streams[i], worker=None, target=None, since=now, ran=True)
            self.where[i] = -1
        heard = [worker for worker in self.workers if self.table.hears(worker.name, now, within=RECENT)]
        decisions = self.policy(heard, self.streams, self.costs, now)
        self.waiting = 0
        for decision in decisions:
            match decision:
                case Place(name, worker):
                    self.place(self.number[name], self.index[worker], now)
                case Move(name, _, target):
                    i = self.number[name]
                    self.streams[i] = replace(self.streams[i], target=target)
                    self.at(now + TRAVEL, lambda when, i=i, to=target: self.arrive(i, to, when))
                case Wait():
                    self.waiting += 1

    def place(self, stream: int, node: int, now: float) -> None:
        """The worker hears of it by its next renewal and starts it; a dead one that is still counted on does not."""
        name = self.workers[node].name
        self.table.grant(self.streams[stream].name, name, now)
        self.streams[stream] = replace(self.streams[stream], worker=name, since=now)
        self.where[stream] = node
        if self.up[node]:
            hears = now + (self.phase[node] - now) % RENEW
            self.up_at[stream] = hears + self.random.uniform(*START)
        else:
            self.tick_after(now + EXPIRY)

    def arrive(self, stream: int, target: str, now: float) -> None:
        """The end of a move: given up where one of the two workers died meanwhile."""
        one = self.streams[stream]
        self.tick_after(now)
        if one.target != target or one.worker is None:
            return
        both_up = self.up[self.index[one.worker]] and self.up[self.index[target]] and self.table.hears(target, now)
        if not both_up:
            self.streams[stream] = replace(one, target=None)
            return
        fence = self.table.fence(one.name)
        self.table.release(one.name, fence if fence is not None else -1)
        self.table.grant(one.name, target, now)
        self.streams[stream] = replace(one, worker=target, target=None, since=now, moved=now)
        self.where[stream] = self.index[target]
        if now > self.asked.warm_up:
            self.run.moves.append(now)
            self.run.unwatched[stream] += self.random.uniform(*PAUSE)

    def end_gap(self, stream: int, end: float) -> None:
        """Count the time until ``end`` in which nobody published ``stream``."""
        since = max(self.down_since[stream], self.asked.warm_up)
        if end > since:
            self.run.gaps.append(end - since)
            self.run.unwatched[stream] += end - since
            self.down_since[stream] = end
