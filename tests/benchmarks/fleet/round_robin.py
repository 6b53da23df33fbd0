"""What placement is compared with: each stream goes to the next worker in turn, and stays there."""

from collections.abc import Iterable

import numpy as np

from daemon.fleet.placement.cost import Costs
from daemon.fleet.placement.decisions import Decision, Place, Wait
from daemon.fleet.placement.room import Room
from daemon.fleet.placement.state import Limits, Stream, Worker


class RoundRobin:
    """It keeps labels and memory budgets, as a daemon that refuses does, and looks at no load."""

    def __init__(self) -> None:
        self._turn = 0

    def __call__(
        self, workers: Iterable[Worker], streams: Iterable[Stream], costs: Costs, now: float
    ) -> list[Decision]:
        streams = list(streams)
        if all(stream.worker is not None for stream in streams):
            return []
        room = Room(workers, streams, costs, now, Limits(full=np.inf))
        return [self._place(room, stream) for stream in streams if stream.worker is None]

    def _place(self, room: Room, stream: Stream) -> Decision:
        count = len(room.workers)
        for i in range(count):
            turn = (self._turn + i) % count
            only = np.zeros(count, bool)
            only[turn] = True
            if room.find(stream, only) is not None:
                self._turn = turn + 1
                room.add(stream, turn)
                return Place(stream.name, room.workers[turn].name)
        return Wait(stream.name, "no worker takes it")
