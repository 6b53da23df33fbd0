"""Which worker runs which stream: the controller's knowledge, without Ray, threads and clocks of its own."""

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from daemon.fleet.leases.table import LeaseTable
from daemon.fleet.members import Members
from daemon.fleet.placement.cost import SETTLE, Costs, Work
from daemon.fleet.placement.decide import decide, place
from daemon.fleet.placement.decisions import Move, Place, Wait
from daemon.fleet.placement.room import Room
from daemon.fleet.placement.state import Limits, Stream
from daemon.fleet.protocol import Answer, Order, Report
from daemon.fleet.settings import FleetSettings
from stages.errors import ConfigError

AVOID = 60.0  # seconds in which a worker that refused a stream is not asked again
GATHER = 60.0  # seconds that new streams wait for the daemons of a new fleet, so that not all run on the first one


@dataclass(slots=True)
class Running:
    """What is known of a stream beside its `Stream`; ``since`` is Unix time."""

    since: float
    session: str | None = None
    keeper: str | None = None
    view: Mapping[str, Any] = field(default_factory=dict)
    waiting: str = ""
    refused: str = ""  # why a worker did not run it
    order: Order | None = None
    prepared: str | None = None  # the worker at which its source is open
    moves: int = 0


class Assignments:
    """Streams and workers of one fleet. ``now`` is CLOCK_BOOTTIME in seconds. One thread at a time calls.

    `state` must be saved after each call that sets ``changed``, before a worker gets the answer; call `saved` then.
    """

    def __init__(self, settings: FleetSettings, now: float, saved: Mapping[str, Any] | None = None) -> None:
        saved = saved or {}
        self.settings = settings
        self.configured = {stream.name: stream for stream in settings.streams}
        self._changed = True
        self._began = now
        self._limits = Limits(full=settings.fleet.full)
        self._news: set[str] = set()
        self._expected: dict[str, str] = {}  # by stream of a worker that is silent, where it will go if that is dead
        self._moving: set[str] = set()  # streams that have a target, or had one a moment ago
        self._table = LeaseTable(now, saved.get("leases"), first=int(time.time()))
        self._costs = Costs(saved.get("costs"))
        self.members = Members(self._table, saved.get("draining", ()))
        leases = self._table.state()["leases"]
        work = Work(model=f"{settings.models.segmenter} {settings.tracking.max_objects}")
        kept = saved.get("streams", {})
        self.streams = {
            name: Stream(
                name,
                work,
                stream.weight,
                stream.site or None,
                leases[name]["worker"] if name in leases else None,
                since=now,
                ran=kept.get(name, {}).get("session") is not None,
            )
            for name, stream in self.configured.items()
        }
        self.running = {name: Running(**{"since": time.time(), **kept.get(name, {})}) for name in self.streams}

    def state(self) -> dict[str, Any]:
        """All that is to last, as plain values for JSON."""
        streams = {
            name: {"since": running.since, "session": running.session, "keeper": running.keeper, "moves": running.moves}
            for name, running in self.running.items()
        }
        return {
            "leases": self._table.state(),
            "costs": self._costs.state(),
            "streams": streams,
            "draining": sorted(self.members.draining),
        }

    @property
    def changed(self) -> bool:
        """Whether something is to be saved."""
        return self._changed or self._table.changed

    def saved(self) -> None:
        """The state of now is in the file."""
        self._changed = self._table.changed = False

    def renew(self, report: Report, now: float) -> Answer:
        """Take a worker's report in, and answer what it is to do."""
        seat, renewal = report.seat, report.renewal
        stopped = [name for name, fence in renewal.released.items() if self._table.fence(name) == fence]
        reply = self._table.renew(renewal, now)
        for name in stopped:
            self._stopped(name, seat.worker, report, now)
        if reply.fences is None:
            return Answer(reply)
        for load in self.members.hear(report, now):
            stream = self.streams.get(load.name)
            if stream is not None and stream.worker == seat.worker and now - stream.since > SETTLE:
                self._costs.learn(stream.work, seat.kind, load, now)
        mine = {name: fence for name, fence in reply.fences.items() if name in self.streams}
        for name, fence in mine.items():
            if renewal.held.get(name) == fence:
                self._note(name, report)
        for name in report.prepared:
            self._prepared(name, seat.worker)
        orders = {name: self._order(name, fence) for name, fence in mine.items() if renewal.held.get(name) != fence}
        leaving = [name for name in mine if self._may_leave(name) and name not in orders]
        targets = {name: self.members.get(self.streams[name].target) for name in leaving}
        return Answer(
            reply,
            orders,
            {name: target.seat.node_id for name, target in targets.items() if target is not None},
            self.members.keeper_for(seat, now),
            drain=self.members.is_draining(seat),
            prepare={name: self.configured[name].for_daemon() for name in self._coming(seat.worker)},
        )

    def tick(self, now: float, expected: Iterable[str] = ()) -> None:
        """Take streams from workers that were not heard of, and place what waits.

        ``expected``: workers that are there or about to come. Nothing is placed before all workers could renew after a
        controller's restart.
        """
        self._table.choose_witnesses(self.members.nodes(), now)
        for lapsed in self._table.expire(now):
            if lapsed.stream in self.streams:
                self._set_free(lapsed.stream, now)
        self.members.forget({stream.worker for stream in self.streams.values()}, now)
        self._cancel_moves(now)
        for running in self.running.values():
            running.waiting = ""
        streams = list(self.streams.values())
        if now - self._began < GATHER and any(map(self.members.is_starting, expected)):
            streams = [stream for stream in streams if stream.worker or self.running[stream.name].session]
        for decision in decide(self.members.for_placement(now), streams, self._costs, now, self._limits):
            match decision:
                case Place(name, worker):
                    if self._table.free(name, now):
                        self._grant(name, worker, now)
                case Move(name, _, target, _):
                    self._begin_move(name, target)
                case Wait(name, reason):
                    self.running[name].waiting = "; ".join(filter(None, (reason, self.running[name].refused)))
        self._expect(now)

    def news(self) -> set[str]:
        """Workers that have something new to do since the last call."""
        found, self._news = self._news, set()
        return found

    def move(self, name: str, node: str, now: float) -> str:
        """Begin to move a stream to a node; returns its worker there. Raises ConfigError."""
        if name not in self.streams:
            known = ", ".join(self.streams) or "none"
            raise ConfigError(f'no stream is named "{name[:60]}"; the fleet has: {known}')
        stream, there = self.streams[name], [seat.worker for seat in self.members.on(node)]
        if stream.worker in there:
            raise ConfigError(f"stream {name} is on {node} already")
        if stream.worker is None:
            raise ConfigError(f"stream {name} runs nowhere yet: {self.running[name].waiting or 'it is being placed'}")
        if stream.target is not None:
            raise ConfigError(f"stream {name} is being moved; wait until it has arrived")
        # memory is a limit for everybody; how busy a GPU may be is up to who asks
        limits = replace(self._limits, full=math.inf)
        room = Room(self.members.for_placement(now), list(self.streams.values()), self._costs, now, limits)
        found = place(room, replace(stream, avoid={}), node)
        if isinstance(found, Wait):
            raise ConfigError(f"stream {name} cannot run on {node}: {found.reason}")
        self._begin_move(name, found.worker)
        return found.worker

    def drain(self, node: str) -> int:
        """Begin to empty a node; returns the number of its streams. Raises ConfigError."""
        seats = self.members.on(node)
        self.members.draining |= {seat.node_id for seat in seats}
        self._changed = True
        workers = {seat.worker for seat in seats}
        return sum(stream.worker in workers for stream in self.streams.values())

    def end(self) -> None:
        """All workers have stopped: nobody holds a lease. Fences go on rising."""
        for name in self.streams:
            fence = self._table.fence(name)
            if fence is not None:
                self._table.release(name, fence)
        self._changed = True

    def fence(self, name: str) -> int | None:
        """The fence under which a stream is given to a worker."""
        return self._table.fence(name)

    def _note(self, name: str, report: Report) -> None:
        """Keep what a report says of a stream that runs there under its present fence."""
        running, stream = self.running[name], self.streams[name]
        if name in report.kept:
            keeper, size = report.kept[name]
            if running.keeper != keeper:
                running.keeper, self._changed = keeper, True
            self.streams[name] = stream = replace(stream, snapshot=size)
        view = report.views.get(name)
        if view is None or view.get("fence") != self._table.fence(name):
            return
        running.view, running.refused = view, ""
        if running.session != view["session"]:
            running.session, self._changed = view["session"], True
        if view["width"] and stream.work.size is None:
            work = replace(stream.work, size=(view["width"], view["height"]))
            self.streams[name] = replace(stream, work=work)

    def _stopped(self, name: str, worker: str, report: Report, now: float) -> None:
        """A worker has stopped a stream: it goes to where it was to move, else it waits."""
        stream, running = self.streams.get(name), self.running.get(name)
        if stream is None or running is None:
            return
        if name in report.kept:
            running.keeper = report.kept[name][0]
        target = stream.target
        if name in report.refused:
            running.refused = report.refused[name]
            stream = replace(stream, avoid={**stream.avoid, worker: now + AVOID})
        self.streams[name] = replace(stream, moved=now if target else stream.moved)
        self._set_free(name, now)
        if target is not None and self.members.hears(target, now) and self._table.free(name, now):
            self._grant(name, target, now)

    def _begin_move(self, name: str, target: str) -> None:
        """First the target opens the source; then the old worker hands the stream over."""
        self.streams[name] = replace(self.streams[name], target=target)
        self.running[name].prepared = None
        self._moving.add(name)
        self._news.add(target)

    def _coming(self, worker: str) -> list[str]:
        """The streams that are being moved to a worker, or probably will be."""
        moving = [name for name in self._moving if self.streams[name].target == worker]
        return moving + [name for name, target in self._expected.items() if target == worker]

    def _expect(self, now: float) -> None:
        """Let the sources of silent workers' streams be opened elsewhere while their leases still may hold."""
        silent = self.members.silent(now)
        lost = [stream for stream in self.streams.values() if stream.worker in silent] if silent else []
        before, self._expected = self._expected, {}
        if not lost:
            return
        room = Room(self.members.for_placement(now), list(self.streams.values()), self._costs, now, self._limits)
        for stream in sorted(lost, key=lambda one: (-one.weight, one.name)):
            found = place(room, replace(stream, worker=None, target=None, ran=True))
            if isinstance(found, Place):
                self._expected[stream.name] = found.worker
                if before.get(stream.name) != found.worker:
                    self._news.add(found.worker)

    def _prepared(self, name: str, worker: str) -> None:
        stream = self.streams.get(name)
        if stream is not None and stream.target == worker and self.running[name].prepared != worker:
            self.running[name].prepared = worker
            self._news.add(stream.worker or worker)

    def _may_leave(self, name: str) -> bool:
        """It is being moved, and its target is ready for it."""
        target = self.streams[name].target
        return target is not None and self.running[name].prepared == target

    def _set_free(self, name: str, now: float) -> None:
        self.streams[name] = replace(self.streams[name], worker=None, target=None, since=now, ran=True)
        running = self.running[name]
        running.since, running.view = time.time(), {}
        self._changed = True

    def _grant(self, name: str, worker: str, now: float) -> None:
        fence, running = self._table.grant(name, worker, now), self.running[name]
        self.streams[name] = replace(self.streams[name], worker=worker, target=None, since=now)
        running.since, running.view, running.waiting = time.time(), {}, ""
        running.moves += running.session is not None
        self._order(name, fence)
        self._changed = True
        self._news.add(worker)

    def _order(self, name: str, fence: int) -> Order:
        """The order for a lease, made when it is granted; a controller that came back makes it again."""
        running = self.running[name]
        if running.order is None or running.order.fence != fence:
            running.order = Order(self.configured[name].for_daemon(), fence, running.session, running.keeper)
        return running.order

    def _cancel_moves(self, now: float) -> None:
        for name in sorted(self._moving):
            target = self.streams[name].target
            if target is not None and not self.members.hears(target, now):
                self.streams[name] = replace(self.streams[name], target=None)
            if self.streams[name].target is None:
                self._moving.discard(name)
