"""The timing of a live source: when each frame was taken, how long it may wait, and which come too late."""

import math
import time
from fractions import Fraction
from typing import Any

import av
from av.format import ContainerFormat
from av.packet import Packet

from stages.source.demuxer import Arrival
from stages.source.timing.frame_skipping import FrameSkipping, PacketAction
from stages.source.timing.pacing import Pacing, Steps
from stages.source.timing.packet_queue import PacketQueue
from stages.source.timing.timestamps import LiveClock, has_clock, in_segments


class LiveTiming:
    """Times the packets of one connection in order, from its queue's first one on. One thread calls.

    ``due``: monotonic seconds until which the frames of the last packet may wait (see Pacing).
    """

    def __init__(self, container_format: ContainerFormat, rate: float, queue: PacketQueue, opening: float) -> None:
        """``rate``: nominal frames per second. ``opening``: seconds that it took to open the source.

        Waits 0.3 s at most, to see what has come already.
        """
        self.due = queue.started
        self._clocked = has_clock(container_format)
        segments = in_segments(container_format)
        self._clock = LiveClock(rate, segments)
        self._pacing = Pacing(rate, queue.started)
        self._skipping = FrameSkipping()
        first = queue.first()
        if self._clocked:
            # a segment holds what was taken before the connection
            earliest = -math.inf if segments else queue.started - opening + 1 / rate
            self._expect(first, rate, earliest)
        else:
            queue.spread(opening)

    def action(self, arrival: Arrival) -> PacketAction:
        """What to do with a packet of video."""
        packet, now = arrival.packet, time.monotonic()
        stamp = _seconds(packet, packet.pts if packet.dts is None else packet.dts)
        self.due = self._pacing.due(stamp if self._clocked else arrival.monotonic, arrival.monotonic)
        return self._skipping.action(now - self.due, packet.is_keyframe, now)

    def _expect(self, first: list[Arrival], rate: float, earliest: float) -> None:
        """Tell the clock when the first packet was taken: before the least delayed one, by their time stamps.

        ``earliest``: monotonic seconds before which it cannot be.
        """
        steps, elapsed, captured, pts, arrival = Steps(rate), 0.0, math.inf, None, 0.0
        for one in first:
            stamp = _seconds(one.packet, one.packet.pts)
            if stamp is None:
                continue
            if pts is None:
                pts, arrival = stamp, one.monotonic
            elapsed += steps.to(stamp)
            captured = min(captured, one.monotonic - elapsed)
        if pts is not None:
            self._clock.expect(pts, max(captured, earliest), arrival)

    def captured_at(self, pts: int | None, time_base: Fraction, arrival: Arrival) -> float:
        """Unix time of a frame that the packet ``arrival`` brought."""
        return self._clock.seconds(pts if self._clocked else None, time_base, arrival.monotonic, arrival.wall)


def _seconds(packet: "Packet[Any]", stamp: int | None) -> float | None:
    return None if stamp is None else float(stamp * (packet.time_base or Fraction(1, av.time_base)))
