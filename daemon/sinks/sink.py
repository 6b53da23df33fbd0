"""The contract of everything that a stream's output goes to, and what a sink is given."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from stages.output.masks import Masks
from stages.output.wire import Header, Kind
from stages.types import Image, Result


class Need(IntEnum):
    """What a sink needs of a frame besides its header; each level includes the ones below."""

    NOTHING = 0
    PICTURE = 1  # annotated
    JPEG = 2  # the annotated picture, compressed


@dataclass(frozen=True, slots=True, eq=False)
class FrameOutput:
    """One frame whose masks have been sent."""

    result: Result
    header: Header  # of its masks message
    masks: Masks  # one for each of the result's tracks
    picture: Image | None  # annotated, uint8 (H, W, 3) RGB; None where no sink needed it
    jpeg: bytes | None  # None where no sink needed it


class Sink(Protocol):
    """Receives the messages and frames of one stream, in order. All calls come from the stream's writer thread.

    A sink that raises OutputError has failed for good: the writer drops it and publishes an ``error`` event, and the
    stream goes on without it. Any other exception costs the message or frame at hand.
    """

    def need(self) -> Need:
        """What this sink needs of the next frame; asked once before each."""
        ...

    def message(self, kind: Kind, header: Header) -> bool:
        """Take one ``masks``, ``event`` or ``status`` message; False when it may not be published (daemon.lane.lease).

        Raises WireError for what JSON cannot hold.
        """
        ...

    def frame(self, frame: FrameOutput) -> None:
        """Take one frame, after its masks message and its events."""
        ...

    def finish(self) -> None:
        """Complete what is written: no frame follows, but the last events and a status do."""
        ...
