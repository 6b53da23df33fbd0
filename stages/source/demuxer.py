"""Reads the packets of one opened container."""

import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, cast

import av
from av.codec.hwaccel import HWAccel
from av.packet import Packet

from stages.errors import SourceError, SourceStalled
from stages.source.container import InputUrl, best_video_stream
from stages.source.patience import Patience
from stages.source.timing.timestamps import in_segments

_MAX_READ_ERRORS = 100  # consecutive read errors after which a damaged container counts as ended


@dataclass(frozen=True, slots=True)
class Arrival:
    """A packet and when it arrived."""

    packet: "Packet[Any]"
    monotonic: float  # seconds
    wall: float  # Unix seconds


class Demuxer:
    """One opened container and its video stream. One thread at a time calls; ``close`` must not meet a ``read``."""

    def __init__(self, url: InputUrl, patience: Patience, acceleration: HWAccel | None) -> None:
        """Open ``url``, without ``acceleration`` where that fails. Raises SourceError, SourceStalled, ConfigError."""
        self._input, self._patience = url, patience
        begun = time.monotonic()
        try:
            self.container = url.open(acceleration, patience)
        except SourceStalled:
            raise
        except SourceError:
            if acceleration is None:
                raise
            self.container = url.open(None, patience)
        self.opening = time.monotonic() - begun  # seconds that it took
        try:
            self.stream = best_video_stream(self.container, url.name, url.lossy)
        except SourceError:
            self.container.close()
            raise
        patience.opened(in_segments(self.container.format))
        self.errors = 0  # damaged packets so far
        self._delivered = False  # a packet of video
        self._demux()

    def of_video(self, packet: "Packet[Any]") -> bool:
        """Whether a packet belongs to the video stream that is decoded."""
        return bool(packet.stream.index == self.stream.index)

    def read(self) -> Arrival | None:
        """The next packet, of any stream; None at the end. Raises SourceError; SourceStalled when a timeout expires."""
        if not 0.8 < self._timeout / self._patience.silence < 1.2:
            self._packets.close()  # sets the container's timeout, so before the next demux()
            self._demux()
        for _ in range(_MAX_READ_ERRORS):
            started = time.monotonic()
            try:
                packet = next(self._packets, None)
            except IndexError:  # from PyAV at the end, where a stream appeared after the start, as in MPEG-TS
                return None
            except av.error.FFmpegError as error:
                failure = self._input.broken_off(error, time.monotonic() - started, self._timeout, self._delivered)
            else:
                if packet is None:
                    return None
                self._delivered = self._delivered or self.of_video(packet)
                return Arrival(packet, time.monotonic(), time.time())
            if failure is not None:
                raise failure  # outside of "except": FFmpeg's error contains the password, it must not be its context
            self.errors += 1
            self._demux()
        return None

    def close(self) -> None:
        """Release the container."""
        self.container.close()

    def _demux(self) -> None:
        # of a network source demux all streams, so that close() takes effect also while only audio arrives
        packets = self.container.demux(*([self.stream] if self._input.local else []))
        self._packets = cast("Generator[Packet[Any]]", packets)
        self._timeout = self._patience.silence  # seconds, of these packets
