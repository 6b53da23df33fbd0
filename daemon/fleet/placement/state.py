"""What placement looks at: workers, streams and limits."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from daemon.fleet.placement.cost import Load, Work


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker that the controller hears of. ``kind`` names what its speed depends on, such as the GPU's type.

    It takes no stream before its first report (``load``), and none while ``draining``.
    """

    name: str
    node: str
    labels: Mapping[str, str] = field(default_factory=dict)
    kind: str = ""
    load: Load | None = None
    draining: bool = False


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream of the fleet. Times are seconds of the controller's clock.

    ``worker`` has it, None while it waits; ``target`` is where it is being moved to, None unless a move is under way.
    ``since``: on this worker, or waiting, from then on. ``moved``: its last move ended then. ``snapshot``: bytes that a
    move would carry. ``avoid``: workers that refused it, and until when not to try them again. ``ran``: it was running
    before it lost its worker.
    """

    name: str
    work: Work = Work()
    weight: float = 1.0
    site: str | None = None
    worker: str | None = None
    target: str | None = None
    since: float = 0.0
    moved: float | None = None
    snapshot: int = 0
    avoid: Mapping[str, float] = field(default_factory=dict)
    ran: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a worker takes, and how often streams move. Memory has one limit, the worker's budget.

    ``full``: share of its time up to which a worker takes streams, and above which it hands streams on. ``strain``:
    what it may take above that of streams that lost their worker, or leave one that drains, and find no other room: a
    daemon with too much to do does less for each stream, which is better than nothing for one. ``margin``: a worker
    that takes a stream from one above its limits must stay that much below its own, or noise would move streams to and
    fro. ``rest``: seconds between two moves of a stream. ``moves``: moves under way that a worker takes part in, as
    source and target.
    """

    full: float = 0.95
    strain: float = 0.5
    margin: float = 0.1
    rest: float = 60.0
    moves: int = 2

    @property
    def strained(self) -> float:
        """Share of its time that a worker may be asked for at most."""
        return self.full + self.strain
