"""A worker's leases."""

import math
from collections.abc import Iterable
from typing import NamedTuple

from daemon.fleet.leases.renewal import ANSWER, AWAY, LEASE, QUIET, Renewal, Reply, Stamp, Witnesses, Word


class Held(NamedTuple):
    """A lease in a worker's hands: valid until ``until``, in seconds of its clock."""

    fence: int
    until: float


class HeldLeases:
    """A worker's leases. ``streams`` is what its daemon must publish now, each with its fence and until when.

    It has no clock of its own: ``now`` is the worker's. One thread calls, in any order of answers: an answer to an
    older renewal than the newest answered one is ignored.
    """

    def __init__(self, worker: str, incarnation: str) -> None:
        self.worker, self.incarnation = worker, incarnation
        self.streams: dict[str, Held] = {}
        self.witnesses: Witnesses = {}
        self.retired = False  # a newer incarnation has the name: stop everything and end
        self._sequence = 0
        self._asked: dict[int, float] = {}  # when, by sequence
        self._answered: Stamp | None = None
        self._heard = -math.inf  # when the last answer was taken in
        self._released: dict[str, tuple[int, int]] = {}  # fence, and the first sequence that tells of it

    def renewal(self, now: float) -> Renewal:
        """The next renewal, to be sent at once."""
        self._sequence += 1
        self._asked = {sequence: asked for sequence, asked in self._asked.items() if now - asked <= ANSWER}
        self._asked[self._sequence] = now
        held = {stream: lease.fence for stream, lease in self.streams.items()}
        released = {stream: fence for stream, (fence, _) in self._released.items()}
        return Renewal(self.worker, self.incarnation, self._sequence, held, released, self._answered)

    def accept(self, reply: Reply, now: float) -> None:
        """Take an answer in: streams that it lists are held from when it was asked for, all others no more."""
        asked = self._asked.get(reply.sequence)
        if asked is None or now - asked > ANSWER:
            return  # it is late, or a later renewal was answered already
        self._asked = {sequence: when for sequence, when in self._asked.items() if sequence > reply.sequence}
        self._answered, self._heard, self.witnesses = reply.stamp, now, reply.witnesses
        self.retired = self.retired or reply.fences is None
        listed = {} if self.retired else reply.fences or {}
        self.streams = {
            stream: Held(fence, asked + LEASE)
            for stream, fence in listed.items()
            if fence > self._released.get(stream, (-1, 0))[0]
        }
        self._released = {
            stream: (fence, told) for stream, (fence, told) in self._released.items() if told > reply.sequence
        }

    def release(self, stream: str, fence: int) -> None:
        """Say, from the next renewal on, that nobody here publishes ``stream`` under ``fence`` any more.

        Call it after the daemon has stopped the stream; a new incarnation calls it for what its predecessor had.
        """
        held = self.streams.get(stream)
        if held is not None and held.fence <= fence:
            del self.streams[stream]
        self._released[stream] = (fence, self._sequence + 1)

    def word(self, now: float) -> Word:
        """What this worker says as a witness."""
        return Word(self.worker, self.incarnation, now - self._heard >= QUIET)

    def alone(self, now: float) -> bool:
        """Whether it is time to ask the witnesses."""
        return QUIET <= now - self._heard <= AWAY

    def prolong(self, words: Iterable[Word], asked: float, now: float) -> bool:
        """Let all leases hold from ``asked`` on, when the witnesses were asked; returns whether they do.

        They do when more than half of the witnesses do not hear the controller, and when the leases still held at
        that time: the controller may have given away what lapsed before.
        """
        quiet = {(word.worker, word.incarnation) for word in (*words, self.word(now)) if word.quiet}
        agree = 2 * len(quiet & self.witnesses.items()) > len(self.witnesses)
        if not agree or now - asked > ANSWER or asked - self._heard > AWAY:
            return False
        self.streams = {
            stream: lease._replace(until=max(lease.until, asked + LEASE)) if lease.until >= asked else lease
            for stream, lease in self.streams.items()
        }
        return True
