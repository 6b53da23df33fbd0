"""The controller's table of leases."""

import math
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from daemon.fleet.leases.renewal import ABANDONED, EXPIRY, GAP, STEADY, Renewal, Reply, Stamp, Witnesses

RETIRED = 16  # former incarnations of a worker that the table remembers
SKIPPED = 1000  # fences left out by a table that is read back: some may have been given after it was written
WITNESSES = 5  # at most
REPLACED = 10.0  # seconds after which another worker is witness instead of a silent one


class Lapsed(NamedTuple):
    """A stream that was taken from a worker."""

    stream: str
    worker: str
    fence: int


@dataclass(slots=True)
class _Holder:
    """One incarnation of a worker, and the streams that it was given, with the times at which it was.

    ``stamp`` is the newest that came back, ``steady`` the first since the last gap. ``witnesses``: those that it may
    have, with the times at which they were first sent.
    """

    heard: float
    sequence: int = -1
    stamp: float = -math.inf
    steady: float = math.inf
    granted: dict[str, float] = field(default_factory=dict)
    witnesses: list[tuple[float, Witnesses]] = field(default_factory=list)

    def take(self, stamp: float) -> None:
        """A stamp has come back: what was sent to the worker before, it does not have any more."""
        if stamp - self.stamp > GAP:
            self.steady = stamp
        self.stamp = max(self.stamp, stamp)
        sent = [place for place, (since, _) in enumerate(self.witnesses) if since <= self.stamp]
        self.witnesses = self.witnesses[max(sent, default=0) :]


@dataclass(frozen=True, slots=True)
class _Lease:
    worker: str
    incarnation: str
    fence: int


class LeaseTable:
    """The controller's table of leases: at most one worker holds a valid lease of a stream.

    `state` is plain values for JSON. Write it after each call that sets ``changed``, before anybody hears of what it
    returned. A table that is made from it counts every lease as just renewed, and goes on above all fences that were
    ever given. Without a state, ``first`` must be above the fences of any table before it (Unix time in seconds is); a
    table that hears of higher ones goes on above those. No stream is free during the first `EXPIRY` seconds: leases
    that the state does not know may be out. It has no clock of its own: ``now`` is the controller's. One thread calls.
    """

    def __init__(self, now: float, state: Mapping[str, Any] | None = None, first: int = 1) -> None:
        state = state or {
            "next": first - SKIPPED,
            "leases": {},
            "workers": {},
            "retired": {},
            "witnesses": {},
            "sent": [],
        }
        self._id = uuid.uuid4().hex
        self._next: int = state["next"] + SKIPPED
        self._current: dict[str, str] = dict(state["workers"])
        self._retired: dict[str, list[str]] = {name: list(ids) for name, ids in state["retired"].items()}
        self._leases = {stream: _Lease(**values) for stream, values in state["leases"].items()}
        self._holders = {of: _Holder(now) for of in self._current.items()}
        for stream, lease in self._leases.items():
            holder = self._holders.setdefault((lease.worker, lease.incarnation), _Holder(now))
            holder.granted[stream] = now
        self._witnesses: Witnesses = state["witnesses"]
        for worker, incarnation, sets in state["sent"]:
            self._holders[worker, incarnation].witnesses = [(-math.inf, witnesses) for witnesses in sets]
        self._ready = now + EXPIRY
        self.changed = True

    def state(self) -> dict[str, Any]:
        """All that a new table needs, without times."""
        leases = {
            stream: {"worker": lease.worker, "incarnation": lease.incarnation, "fence": lease.fence}
            for stream, lease in self._leases.items()
        }
        return {
            "next": self._next,
            "leases": leases,
            "workers": dict(self._current),
            "retired": {name: list(ids) for name, ids in self._retired.items()},
            "witnesses": self._witnesses,
            "sent": [[*of, [one for _, one in holder.witnesses]] for of, holder in self._holders.items()],
        }

    def renew(self, renewal: Renewal, now: float) -> Reply:
        """Take a worker's renewal in. One that comes twice, or after a later one, renews nothing."""
        for stream, fence in renewal.released.items():
            self.release(stream, fence)
        self._next = max(self._next, 1 + max((*renewal.held.values(), *renewal.released.values()), default=0))
        stamp = Stamp(self._id, now)
        if renewal.incarnation in self._retired.get(renewal.worker, ()):
            return Reply(renewal.sequence, None, stamp)
        self._take_name(renewal.worker, renewal.incarnation)
        holder = self._holders.setdefault((renewal.worker, renewal.incarnation), _Holder(now))
        if renewal.sequence > holder.sequence:
            holder.sequence, holder.heard = renewal.sequence, now
            if renewal.answered is not None and renewal.answered.controller == self._id:
                holder.take(renewal.answered.at)
        if not holder.witnesses or holder.witnesses[-1][1] != self._witnesses:
            holder.witnesses.append((now, self._witnesses))
            self.changed = True
        fences = {stream: self._leases[stream].fence for stream in holder.granted}
        return Reply(renewal.sequence, fences, stamp, self._witnesses)

    def _take_name(self, worker: str, incarnation: str) -> None:
        """The newest incarnation has the name. What an older one was given lapses as that of a dead worker."""
        older = self._current.get(worker)
        if older == incarnation:
            return
        if older is not None:
            self._retired[worker] = [*self._retired.get(worker, ()), older][-RETIRED:]
            if not self._holders[worker, older].granted:
                del self._holders[worker, older]
        self._current[worker] = incarnation
        self.changed = True

    def hears(self, worker: str, now: float, within: float = EXPIRY) -> bool:
        """Whether a renewal of the worker came in the last ``within`` seconds."""
        return worker in self._current and now - self._holders[worker, self._current[worker]].heard <= within

    def choose_witnesses(self, nodes: Mapping[str, str], now: float) -> None:
        """Witnesses among workers, given their ``nodes``: one of a node, and the same ones while they are heard."""
        chosen = {
            worker: incarnation
            for worker, incarnation in self._witnesses.items()
            if self._current.get(worker) == incarnation and self.hears(worker, now, REPLACED)
        }
        taken = {nodes.get(worker) for worker in chosen}
        for worker, node in nodes.items():
            if len(chosen) < WITNESSES and node not in taken and self.hears(worker, now):
                chosen[worker] = self._current[worker]
                taken.add(node)
        if chosen != self._witnesses:
            self._witnesses, self.changed = chosen, True

    def free(self, stream: str, now: float) -> bool:
        """Whether nobody can hold a lease of ``stream``."""
        return stream not in self._leases and now > self._ready

    def grant(self, stream: str, worker: str, now: float) -> int:
        """Give a free stream to a worker that has renewed before; returns its fence. Raises ValueError otherwise.

        The worker hears of it by its next renewal.
        """
        if not self.free(stream, now):
            raise ValueError(f"stream {stream} is not free: a worker may hold its lease")
        if worker not in self._current:
            raise ValueError(f"worker {worker} has not renewed yet")
        incarnation = self._current[worker]
        fence, self._next = self._next, self._next + 1
        self._leases[stream] = _Lease(worker, incarnation, fence)
        self._holders[worker, incarnation].granted[stream] = now
        self.changed = True
        return fence

    def release(self, stream: str, fence: int) -> None:
        """The worker has stopped publishing ``stream`` under ``fence``: it is free. Another fence changes nothing."""
        lease = self._leases.get(stream)
        if lease is not None and lease.fence == fence:
            self._remove(stream, lease)

    def expire(self, now: float) -> list[Lapsed]:
        """Take away the streams of workers that were not heard of for `EXPIRY` seconds: they are free.

        Those of a worker whose witnesses are not heard either stay, until `ABANDONED`: it may go on with them.
        """
        steady = {
            of for of, holder in self._holders.items() if now - holder.stamp <= GAP and now - holder.steady >= STEADY
        }

        def stopped(holder: _Holder) -> bool:
            silent = now - holder.heard
            sets = [witnesses for _, witnesses in holder.witnesses]
            return silent > EXPIRY and (
                silent > ABANDONED or all(2 * len(steady & one.items()) >= len(one) for one in sets)
            )

        silent = [holder for holder in self._holders.values() if holder.granted and stopped(holder)]
        streams = [s for holder in silent for s, granted in holder.granted.items() if now - granted > EXPIRY]
        lapsed = []
        for stream in streams:
            lease = self._leases[stream]
            self._remove(stream, lease)
            lapsed.append(Lapsed(stream, lease.worker, lease.fence))
        return lapsed

    def _remove(self, stream: str, lease: _Lease) -> None:
        of = (lease.worker, lease.incarnation)
        del self._leases[stream], self._holders[of].granted[stream]
        if not self._holders[of].granted and self._current.get(lease.worker) != lease.incarnation:
            del self._holders[of]
        self.changed = True

    def fence(self, stream: str) -> int | None:
        """The fence under which ``stream`` is given to a worker, None where it is free."""
        lease = self._leases.get(stream)
        return lease.fence if lease is not None else None
