"""The workers of a fleet, as they were heard of."""

import time
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from daemon.fleet.clocks import ClockOffset
from daemon.fleet.leases.renewal import RECENT
from daemon.fleet.leases.table import LeaseTable
from daemon.fleet.placement.cost import Load, StreamLoad
from daemon.fleet.placement.state import Worker
from daemon.fleet.protocol import Report, Seat
from stages.errors import ConfigError

GONE = 600.0  # seconds after which a silent worker is forgotten


@dataclass(slots=True)
class Member:
    """A worker as it was heard of last."""

    report: Report
    heard: float
    learned: Mapping[str, Any] | None = None
    clock: ClockOffset = field(default_factory=ClockOffset)

    @property
    def seat(self) -> Seat:
        """Where it is."""
        return self.report.seat


class Members:
    """``now`` is CLOCK_BOOTTIME in seconds; who is heard, ``table`` tells. One thread at a time calls.

    ``draining`` are the ids of nodes that take no streams any more. ``alive`` are those of nodes in the cluster, None
    where that is not known.
    """

    def __init__(self, table: LeaseTable, draining: Iterable[str]) -> None:
        self._table = table
        self._members: dict[str, Member] = {}
        self.draining = set(draining)
        self.alive: frozenset[str] | None = None

    def get(self, worker: str | None) -> Member | None:
        """The worker; None for one that was never heard."""
        return self._members.get(worker or "")

    def all(self) -> list[Member]:
        """All of them."""
        return list(self._members.values())

    def hear(self, report: Report, now: float) -> Iterable[StreamLoad]:
        """Take a report in; returns what is new of its streams' loads."""
        member = self._members.setdefault(report.seat.worker, Member(report, now))
        member.report, member.heard = report, now
        member.clock.hear(now, report.wall - time.time())
        if report.load is None or report.load == member.learned:
            return ()
        member.learned = report.load
        return Load.from_json(report.load).streams

    def hears(self, worker: str, now: float) -> bool:
        """Whether its renewals come."""
        return worker in self._members and self._table.hears(worker, now)

    def is_draining(self, seat: Seat) -> bool:
        """Whether the node takes no streams any more."""
        return seat.node_id in self.draining

    def is_leaving(self, seat: Seat) -> bool:
        """Whether Ray has given the node up. Its worker may be heard for seconds more, and is about to be ended."""
        return self.alive is not None and seat.node_id not in self.alive

    def is_starting(self, worker: str) -> bool:
        """Its daemon is about to be ready; one that has ended before may never be."""
        member = self.get(worker)
        return member is None or (member.report.load is None and not member.report.problem)

    def for_placement(self, now: float) -> list[Worker]:
        """Those that may have streams."""
        return [
            Worker(
                member.seat.worker,
                member.seat.node,
                member.seat.labels,
                member.seat.kind,
                None if member.report.load is None else Load.from_json(member.report.load),
                self.is_draining(member.seat),
            )
            for member in self._recent(now)
            if not member.report.drained
        ]

    def silent(self, now: float) -> set[str]:
        """Workers that are not heard of now. They may be dead."""
        return self._members.keys() - {member.seat.worker for member in self._recent(now)}

    def keeper_for(self, seat: Seat, now: float) -> str | None:
        """The node that keeps this worker's snapshots: another one, the same one each time, and not one for all."""
        others = {member.seat.node_id for member in self._recent(now)} - {seat.node_id}
        # the highest hash wins (Thaler and Ravishankar, rendezvous hashing, 1998)
        return max(others, key=lambda node: zlib.crc32(f"{seat.worker} {node}".encode()), default=None)

    def nodes(self) -> dict[str, str]:
        """Ids of the nodes, by worker."""
        return {name: member.seat.node_id for name, member in self._members.items()}

    def on(self, node: str) -> list[Seat]:
        """The workers on a node. Raises ConfigError where there is no such node."""
        found = [member.seat for member in self._members.values() if member.seat.node == node]
        if not found:
            known = ", ".join(sorted({member.seat.node for member in self._members.values()})) or "none"
            raise ConfigError(f"no node is named {node[:60]}; the fleet has: {known}")
        return found

    def forget(self, used: Iterable[str | None], now: float) -> None:
        """Drop those that are gone, and have no stream."""
        used = set(used)
        for name in [name for name, member in self._members.items() if now - member.heard > GONE and name not in used]:
            del self._members[name]

    def _recent(self, now: float) -> list[Member]:
        return [
            member
            for name, member in self._members.items()
            if self._table.hears(name, now, RECENT) and not self.is_leaving(member.seat)
        ]
