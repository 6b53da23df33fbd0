"""What requests for events take, and JSON bodies of their answers."""

from datetime import UTC, datetime
from math import isfinite
from typing import Annotated

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from stages.errors import ConfigError

MOST = 200  # events on a page
MOST_BUCKETS = 2000  # that may be counted at once
MOST_NAMES = 64  # of each kind in a filter

Names = Annotated[list[str], Query(max_length=MOST_NAMES)]
Moment = Annotated[
    str,
    Query(max_length=40, description="Unix seconds, or ISO 8601; UTC where it names no zone.", examples=["2026-11-28"]),
]
Limit = Annotated[int, Query(ge=1, le=MOST, description="Most of them in one answer.")]
Cursor = Annotated[str, Query(max_length=64, description="`next` of the answer before; empty for the newest.")]
Step = Annotated[int, Query(ge=1, le=604_800, description="Seconds that are counted together.")]


def seconds_of(moment: str, name: str) -> float:
    """Unix seconds of a moment, the parameter ``name``. Raises ConfigError for anything else."""
    try:
        seconds = float(moment)
    except ValueError:
        try:
            there = datetime.fromisoformat(moment)
            seconds = there.replace(tzinfo=there.tzinfo or UTC).timestamp()
        except (ValueError, OverflowError):
            seconds = float("nan")
    if not isfinite(seconds):
        raise ConfigError(f"{name} is no time; give Unix seconds, or as in 2026-11-28T14:05:00Z")
    return seconds


_NEXT = Field(description="The `cursor` of the next page; null: none follows.", examples=["1795459200.1-7"])


class Event(BaseModel):
    """Something that happened on a stream; the fields are those of the mask stream's events."""

    model_config = ConfigDict(from_attributes=True)

    id: int = Field(description="Never used again.", examples=[17])
    stream: str = Field(examples=["gate"])
    session: str = Field(description="Of the stream.", examples=["5d0c8a1e-3f52-4b7a-9c11-2e6f8d40b7a3"])
    type: str = Field(description="As in the mask stream.", examples=["track_started"])
    time: float = Field(
        description="Unix seconds: when its frame was taken; of a file, when that was published.",
        examples=[1795459200.1],
    )
    frame: int | None = Field(description="Of the stream; null for what is of none.", examples=[123])
    track: int | None = Field(description="Of the session; null for what is of none.", examples=[7])
    prompt: str | None = Field(description="Of the track, as written.", examples=["car"])
    reason: str = Field(examples=["detected"])
    score: float | None = Field(description="Of the track's last detection.", examples=[0.62])
    box: Annotated[list[float], Field(min_length=4, max_length=4)] | None = Field(
        description="Of the track, last seen: x0, y0, x1, y1 in pixels, half-open.",
        examples=[[412.0, 203.0, 530.0, 288.0]],
    )
    snapshot: bool = Field(description="`snapshot.jpg` is there.")
    clip: bool = Field(description="`clip.mp4` is there.")


class Events(BaseModel):
    """A page of events, newest first."""

    events: list[Event]
    next: str | None = _NEXT


class Segment(BaseModel):
    """A complete segment of a stream's recording."""

    model_config = ConfigDict(from_attributes=True)

    stream: str = Field(examples=["gate"])
    start: float = Field(description="Unix seconds, when its first frame was taken.", examples=[1795459200.1])
    end: float = Field(description="Unix seconds, when its last frame was taken.", examples=[1795459500.0])
    frames: int = Field(examples=[7500])
    bytes: int = Field(description="Of its files together.", examples=[41000000])
    path: str = Field(
        description="Of its video, in the folder of recordings.", examples=["gate/2026-11-28/14-05-00Z.mp4"]
    )


class Segments(BaseModel):
    """A page of segments, those that began last first."""

    segments: list[Segment]
    next: str | None = _NEXT


class Count(BaseModel):
    """How many events with one prompt began within a step."""

    time: float = Field(description="Its start, in Unix seconds.", examples=[1795459200.0])
    prompt: str | None = Field(examples=["car"])
    count: int = Field(examples=[3])


class Counts(BaseModel):
    """Counts in order of time, without zeros."""

    step: int = Field(description="Seconds.", examples=[600])
    counts: list[Count]
