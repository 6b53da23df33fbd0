"""Moves of running streams: off workers that drain, and off workers with too much to do."""

from collections.abc import Iterator

import numpy as np

from daemon.fleet.placement.decisions import Decision, Move, Wait
from daemon.fleet.placement.room import Mask, Room
from daemon.fleet.placement.state import Stream, Worker

PAUSE = 100 << 20  # bytes that the pause of a moved stream counts as: one move is better than two small ones


def leave(room: Room) -> Iterator[Decision]:
    """Streams leave workers that drain, and nodes that have not their label. The heaviest go first.

    One that fits nowhere else stays, and says so.
    """
    for worker in room.workers:
        site = worker.labels.get("site")
        leaving = [s for s in room.here[worker.name] if worker.draining or s.site not in (None, site)]
        for stream in sorted(leaving, key=lambda s: (-s.weight, s.snapshot, s.name)):
            if room.busy[worker.name] >= room.limits.moves:
                break
            if stream.target is None and room.rested(stream.moved):
                yield from _leave(room, stream, worker)


def _leave(room: Room, stream: Stream, worker: Worker) -> Iterator[Decision]:
    lacks = f'{worker.name} has not the label site = "{stream.site}"'
    why = f"{worker.name} is draining" if worker.draining else lacks
    full = room.limits.strained if worker.draining else room.limits.full
    found = room.find(stream, _takes(room, worker), full)
    if found is not None:
        yield Move(stream.name, worker.name, room.move(stream, worker, found), why)
    elif room.find(stream, share=full) is None:  # otherwise the others are busy with moves
        yield Wait(stream.name, f"it stays, although {why}: {room.why(stream)}")


def hand_on(room: Room) -> Iterator[Decision]:
    """Workers above a limit hand on streams until they are below, the fullest first."""
    fill = room.fill()
    for place in np.argsort(-fill, kind="stable"):
        worker = room.workers[place]
        if fill[place] > 1 and worker.load is not None and not worker.draining:
            yield from _hand_on(room, worker, int(place))


def _hand_on(room: Room, worker: Worker, place: int) -> Iterator[Decision]:
    """The cheapest to move that finds a worker goes first; then the rest is looked at again."""
    may = [s for s in room.here[worker.name] if s.target is None and room.rested(s.moved) and room.rested(s.since)]
    while may and room.busy[worker.name] < room.limits.moves and room.fill()[place] > 1:
        stream = min(may, key=lambda s: (_price(room, s, place), s.name))
        may.remove(stream)
        found = room.find(stream, _takes(room, worker), room.limits.full - room.limits.margin)
        if found is not None:
            yield Move(stream.name, worker.name, room.move(stream, worker, found), f"{worker.name} is over its limit")


def _price(room: Room, stream: Stream, place: int) -> float:
    """Bytes that must be moved to get the worker below its limits: half of the relief is twice the price."""
    cost, (share, memory) = room.cost(stream, place), room.excess(place)
    relief = min(cost.share / share if share > 0 else 1.0, cost.memory / memory if memory > 0 else 1.0, 1.0)
    return (stream.snapshot + PAUSE) / max(relief, 1e-9)


def _takes(room: Room, source: Worker) -> Mask:
    """Workers other than ``source`` that may take part in one more move."""
    takes = np.array([room.busy[worker.name] < room.limits.moves for worker in room.workers], bool)
    takes[room.index[source.name]] = False
    return takes
