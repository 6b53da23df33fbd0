"""How full the workers are while decisions are made."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from daemon.fleet.placement.cost import Cost, Costs
from daemon.fleet.placement.state import Limits, Stream, Worker

Floats: TypeAlias = NDArray[np.float64]
Mask: TypeAlias = NDArray[np.bool_]


class Room:
    """The time and memory that the streams need on each worker, kept current with each decision.

    Arrays have an element for each worker, in order of names. A stream that is being moved counts at both its ends.
    """

    def __init__(
        self, workers: Iterable[Worker], streams: Iterable[Stream], costs: Costs, now: float, limits: Limits
    ) -> None:
        self.workers = sorted(workers, key=lambda worker: worker.name)
        self.index = {worker.name: i for i, worker in enumerate(self.workers)}
        self.here: dict[str, list[Stream]] = defaultdict(list)  # by worker
        self.busy: Counter[str] = Counter()  # moves under way, by worker that takes part in them
        self.now, self.limits = now, limits
        self._costs = costs
        self._kinds = sorted({worker.kind for worker in self.workers})
        self._kind = np.array([self._kinds.index(worker.kind) for worker in self.workers], int)
        self._draining = np.array([worker.draining for worker in self.workers], bool)
        self._open = np.array([worker.load is not None for worker in self.workers], bool) & ~self._draining
        self._site: dict[str, Mask] = {}
        self._share = np.zeros(len(self.workers))
        self._memory = np.array([worker.load.used if worker.load else 0 for worker in self.workers], float)
        self._budget = np.array([worker.load.budget if worker.load else 0 for worker in self.workers], float)
        self._going = np.zeros((2, len(self.workers)))  # share and memory of the streams that are moving away
        self._count(list(streams))

    def _count(self, streams: list[Stream]) -> None:
        """Take in all streams where they are."""
        share, memory = self._share.tolist(), self._memory.tolist()  # ten thousand additions are faster in lists
        for stream in streams:
            if stream.worker in self.index:
                place = self.index[stream.worker]
                self.here[stream.worker].append(stream)
                cost = self._costs.expect(stream.name, stream.work, self.workers[place].kind)
                share[place] += cost.share
                memory[place] += self._unreported(stream, place, cost)
        self._share, self._memory = np.array(share), np.array(memory)
        for stream in streams:
            if stream.target is not None:
                self._move(stream, stream.worker, stream.target)

    def _unreported(self, stream: Stream, place: int, cost: Cost) -> int:
        """Bytes that ``stream`` will need at a worker beyond those that are reported of it."""
        load = self.workers[place].load
        return max(0, cost.memory - load.memory.get(stream.name, 0)) if load is not None else cost.memory

    def _move(self, stream: Stream, source: str | None, target: str) -> None:
        if source in self.index:
            self.busy[source] += 1
            self._going[:, self.index[source]] += self.cost(stream, self.index[source])
        if target in self.index:
            self.busy[target] += 1
            self.add(stream, self.index[target])

    def add(self, stream: Stream, place: int) -> None:
        """Count ``stream`` at the worker with the index ``place``."""
        cost = self.cost(stream, place)
        self._share[place] += cost.share
        self._memory[place] += self._unreported(stream, place, cost)

    def move(self, stream: Stream, source: Worker, place: int) -> str:
        """Count a move that begins; returns the target's name."""
        target = self.workers[place].name
        self.here[source.name].remove(stream)
        self._move(stream, source.name, target)
        return target

    def cost(self, stream: Stream, place: int) -> Cost:
        """Expected cost of ``stream`` at the worker with the index ``place``."""
        return self._costs.expect(stream.name, stream.work, self.workers[place].kind)

    def fill(self) -> Floats:
        """How full each worker is without the streams that are moving away: 1 is its limit, of time or of memory."""
        return self._fill(self._share - self._going[0], self._memory - self._going[1])

    def _fill(self, share: Floats, memory: Floats) -> Floats:
        fill: Floats = np.maximum(share / self.limits.full, memory / np.maximum(self._budget, 1))
        return fill

    def excess(self, place: int) -> tuple[float, float]:
        """By how much a worker's streams, without those moving away, are over its limits of time and memory."""
        share = self._share[place] - self._going[0, place] - self.limits.full
        return float(share), float(self._memory[place] - self._going[1, place] - self._budget[place])

    def find(self, stream: Stream, may: Mask | None = None, share: float | None = None) -> int | None:
        """The index of the worker that stays least full with ``stream``: of those in ``may``, up to ``share``.

        ``share`` of its time is `Limits.full` where it is not given.
        """
        shares, memory = self._needs(stream)
        fits = self._fits(stream, shares, memory, may, self.limits.full if share is None else share)
        for name, until in stream.avoid.items():
            if until > self.now and name in self.index:
                fits[self.index[name]] = False
        if not fits.any():
            return None
        return int(np.where(fits, self._fill(self._share + shares, self._memory + memory), np.inf).argmin())

    def _needs(self, stream: Stream) -> tuple[Floats, Floats]:
        """Share and memory of ``stream`` at each worker."""
        kinds = [self._costs.expect(stream.name, stream.work, kind) for kind in self._kinds]
        expected = np.array(kinds, float).reshape(-1, 2)[self._kind]
        return expected[:, 0], expected[:, 1]

    def _fits(self, stream: Stream, share: Floats, memory: Floats, may: Mask | None, full: float) -> Mask:
        group = self._open & self._with_label(stream.site)
        fits: Mask = group & (self._share + share <= full) & (self._memory + memory <= self._budget)
        return fits if may is None else fits & may

    def _with_label(self, site: str | None) -> Mask:
        if site is None:
            return np.ones(len(self.workers), bool)
        if site not in self._site:
            self._site[site] = np.array([worker.labels.get("site") == site for worker in self.workers], bool)
        return self._site[site]

    def why(self, stream: Stream, may: Mask | None = None) -> str:
        """One line on why `find` finds nothing."""
        group = self._with_label(stream.site) if may is None else self._with_label(stream.site) & may
        label = f' with the label site = "{stream.site}"' if stream.site is not None else ""
        allowed = group & self._open
        if not group.any():
            return f"there is no worker{label}"
        if self._draining[group].all():
            return f"every worker{label} is draining"
        if not allowed.any():
            return f"no worker{label} has reported its load yet"
        share, memory = self._needs(stream)
        if self._fits(stream, share, memory, may, self.limits.full).any():
            until = min(until for until in stream.avoid.values() if until > self.now)
            return f"every worker{label} with room for it refused it; the next try is in {until - self.now:.0f} s"
        return self._short_of(label, allowed, share, memory)

    def _short_of(self, label: str, allowed: Mask, share: Floats, memory: Floats) -> str:
        time = np.where(allowed, self.limits.full - self._share - share, -np.inf)
        space = np.where(allowed, self._budget - self._memory - memory, -np.inf)
        if time.max() < 0:
            i = int(time.argmax())
            need, left = f"{share[i]:.1%} of a worker's time", f"{max(0.0, time[i] + share[i]):.1%}"
        elif space.max() < 0:
            i = int(space.argmax())
            need, left = f"{_gib(memory[i])} of memory", _gib(max(0.0, space[i] + memory[i]))
        else:
            need = f"{share[allowed].min():.1%} of a worker's time and {_gib(memory[allowed].min())} of memory"
            return f"it needs {need}; no worker{label} has both left"
        return f"it needs {need}; the worker{label} with the most left, {self.workers[i].name}, has {left}"

    def rested(self, since: float | None) -> bool:
        """Whether a stream that was moved or placed at ``since`` may be moved."""
        return since is None or self.now - since >= self.limits.rest


def _gib(size: float) -> str:
    return f"{size / (1 << 30):.2f} GiB"
