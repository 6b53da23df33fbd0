"""Where streams run: a pure function of what the controller knows, which answers with decisions.

`daemon.fleet.assignments` asks at each tick, and carries the decisions out.
"""

from collections.abc import Iterable
from operator import attrgetter

import numpy as np

from daemon.fleet.placement.cost import Costs
from daemon.fleet.placement.decisions import Decision, Place, Wait
from daemon.fleet.placement.moves import hand_on, leave
from daemon.fleet.placement.room import Room
from daemon.fleet.placement.state import Limits, Stream, Worker


def decide(
    workers: Iterable[Worker], streams: Iterable[Stream], costs: Costs, now: float, limits: Limits | None = None
) -> list[Decision]:
    """What to do now. The same arguments give the same decisions, in whatever order they come.

    ``workers`` are those that the controller hears of. A stream on any other worker is left alone: its lease must lapse
    before it can be given away.

    1. Waiting streams, the heaviest first, go where the fuller of time and memory stays least full. Those that lost
       their worker may strain another one.
    2. Streams leave workers that drain, and nodes that have not their label, a few at a time.
    3. A worker that has too little time or memory hands on what is cheapest to move.
    """
    streams = sorted(streams, key=attrgetter("name"))
    room = Room(workers, streams, costs, now, limits or Limits())
    waiting = (stream for stream in streams if stream.worker is None)
    placed = [place(room, stream) for stream in sorted(waiting, key=lambda one: (-one.weight, one.since))]
    return [*placed, *leave(room), *hand_on(room)]


def place(room: Room, stream: Stream, node: str | None = None) -> Place | Wait:
    """The best worker for ``stream``, of ``node`` alone where it is given; or why there is none."""
    may = np.array([worker.node == node for worker in room.workers], bool) if node is not None else None
    found = room.find(stream, may)
    if found is None and stream.worker is None and stream.ran:
        found = room.find(stream, may, room.limits.strained)
    if found is None:
        return Wait(stream.name, room.why(stream, may))
    room.add(stream, found)
    return Place(stream.name, room.workers[found].name)
