"""Leases: a worker's right to publish a stream, until a time; and the fencing numbers that tell old from new.

No clocks of two machines are compared. A worker asks for renewal every `RENEW` seconds, and what the answer lists it
may publish until `LEASE` seconds after it *asked*, by its own clock. The controller gives a stream away `EXPIRY`
seconds after the last renewal that it *received*, by its own clock. It received it after the worker asked, so the
worker stops at least half a second before, also when one of the two clocks runs 1 % faster than the other.
(Gray and Cheriton, "Leases", SOSP 1989.)

While the controller is away, a worker prolongs its leases by itself, for `AWAY` seconds at most, as long as more than
half of some workers, the *witnesses*, say that they do not hear the controller either. And the controller gives a
silent worker's streams away only while it hears at least half of the same witnesses. The two never hold together: one
witness would be in both halves. It says that it does not hear the controller only `QUIET` seconds after the last
answer that it took in, and it takes no answer that is more than `ANSWER` seconds late. Each of its renewals carries the
stamp of that answer, so the controller sees a gap of `QUIET` - `ANSWER` seconds between two stamps; it counts a witness
only after `STEADY` seconds of stamps without such a gap, more than a lease lasts. (Gifford, "Weighted voting for
replicated data", SOSP 1979, has the halves; Moraru, Andersen and Kaminsky, "Paxos quorum leases", SoCC 2014, leases
that hold by a majority.)

All times are in seconds of CLOCK_BOOTTIME, which goes on while a machine is suspended.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

RENEW = 0.5  # between two renewals
ANSWER = 0.8  # a later answer counts as none
LEASE = 4.0  # that a lease holds, from the moment at which the worker asked for it
EXPIRY = 4.5  # after the last renewal received, until a stream may be given away
RECENT = 1.5  # after which a silent worker should get no more streams: it may be dead

QUIET = 2.0  # without an answer, after which a witness says that it does not hear the controller
ASK = 0.25  # between two times that a worker asks its witnesses
WORDS = 0.3  # to wait for what they say
GAP = 1.15  # between two stamps, that the controller may overlook: less than QUIET - ANSWER, by 1 % of a clock's rate
STEADY = 5.0  # of stamps without a gap, after which a witness counts: more than LEASE + ANSWER
AWAY = 600.0  # that a worker goes on without the controller
ABANDONED = 1.02 * AWAY + 10  # after which a silent worker has stopped, whoever the witnesses are: AWAY, and a lease

Witnesses = Mapping[str, str]  # incarnations, by worker


class Stamp(NamedTuple):
    """When a controller's process answered, by its clock."""

    controller: str
    at: float


@dataclass(frozen=True, slots=True)
class Renewal:
    """What a worker asks with.

    ``incarnation`` is an id that each process of this worker draws anew, ``sequence`` rises with each renewal of it.
    ``held``: fences of the streams that it publishes. ``released``: streams that it stopped, with their fences; a new
    incarnation names here what it has stopped of an older one. ``answered``: stamp of the last answer that it took in.
    """

    worker: str
    incarnation: str
    sequence: int
    held: Mapping[str, int] = field(default_factory=dict)
    released: Mapping[str, int] = field(default_factory=dict)
    answered: Stamp | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What the controller answers: ``fences`` of all streams that the worker may publish.

    None: a newer incarnation has taken the worker's name; this one must stop everything and end.
    """

    sequence: int
    fences: Mapping[str, int] | None
    stamp: Stamp
    witnesses: Witnesses = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Word:
    """What a witness says: whether it, this ``incarnation``, has not heard the controller for `QUIET` seconds."""

    worker: str
    incarnation: str
    quiet: bool
