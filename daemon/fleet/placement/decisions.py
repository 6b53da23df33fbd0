"""What placement answers."""

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Place:
    """A waiting stream gets a worker."""

    stream: str
    worker: str


@dataclass(frozen=True, slots=True)
class Move:
    """A running stream goes from one worker to another; ``why`` is one line."""

    stream: str
    source: str
    target: str
    why: str


@dataclass(frozen=True, slots=True)
class Wait:
    """A stream fits nowhere, or cannot leave its worker; ``reason`` is one line."""

    stream: str
    reason: str


Decision: TypeAlias = Place | Move | Wait
