"""What workers and the controller tell each other."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from daemon.fleet.leases.renewal import Renewal, Reply


@dataclass(frozen=True, slots=True)
class Seat:
    """Where a worker is: the ``number``-th of its node, counted from 0.

    ``node`` is the node's name for people, ``node_id`` Ray's. ``kind`` names what the speed depends on, as the GPU.
    """

    worker: str
    node: str
    node_id: str
    address: str
    number: int
    kind: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Report:
    """A renewal, and what the worker knows of its daemon.

    ``wall``: Unix time on the worker's machine. ``page``, ``endpoint``: where its HTTP and its masks are, "" while no
    daemon runs. ``load``: the answer of ``GET /api/load``, None until the daemon is ready. ``views``: the daemon's
    streams, as ``GET /api/streams`` has them. ``kept``: by stream, the node whose keeper has its last snapshot, and its
    bytes. ``refused``: why released streams could not run here. ``prepared``: streams to come whose source is open
    here, or cannot be opened before they come.
    """

    seat: Seat
    renewal: Renewal
    wall: float
    page: str = ""
    endpoint: str = ""
    load: Mapping[str, Any] | None = None
    views: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    kept: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    prepared: frozenset[str] = frozenset()
    problem: str = ""
    drained: bool = False


@dataclass(frozen=True, slots=True)
class Order:
    """A stream to run: the body of ``POST /api/streams``, its fence, and where it comes from.

    ``predecessor``: the session that it continues. ``keeper``: the node whose keeper has a snapshot. None: there is
    none.
    """

    body: Mapping[str, Any]
    fence: int
    predecessor: str | None = None
    keeper: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a worker is to do.

    ``orders``: streams that it holds leases of since this answer. ``prepare``: streams that will move here, as the body
    of ``POST /api/streams``. ``hand_over``: streams to stop, by the node whose keeper takes their snapshot. ``keeper``:
    the node whose keeper takes all other snapshots. ``keepers``: the actors of the nodes that are named. ``witnesses``:
    the actors of those in ``reply``.
    """

    reply: Reply
    orders: Mapping[str, Order] = field(default_factory=dict)
    hand_over: Mapping[str, str] = field(default_factory=dict)
    keeper: str | None = None
    keepers: Mapping[str, Any] = field(default_factory=dict)
    witnesses: Mapping[str, Any] = field(default_factory=dict)
    drain: bool = False
    prepare: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
