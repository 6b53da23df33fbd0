"""JSON bodies of requests and responses."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic.json_schema import SkipJsonSchema

from daemon.lane.handover import SessionId
from daemon.settings.schema import Publish, StreamSettings
from daemon.settings.value_types import PixelAspect, SecretText, StreamName, opened_address, parsed_prompts
from stages.detection.prompts import Prompt
from stages.errors import ConfigError, WireError
from stages.output import rle

MAX_PROMPTS = 100  # each costs detector time on every keyframe and adds series to /metrics
MAX_POINTS = 64
_MAX_COORDINATE = 1e6  # pixels; larger than any picture, and precise in float32

Coordinate = Annotated[float, Field(ge=-_MAX_COORDINATE, le=_MAX_COORDINATE, allow_inf_nan=False)]
# a character encodes 5 bits; characters from P on mean that another follows; at most 7 form a number of pixels
_COUNTS = r"^([P-o]{0,6}[0-O])+$"
Fence = Annotated[int, Field(ge=0, le=2**53, description="A fencing number.")]
PictureSide = Annotated[int, Field(ge=1, le=65536)]
RunLength = Annotated[int, Field(ge=0, le=2**32)]
PromptText = Annotated[str, Field(min_length=1, max_length=1000)]


def _check_count(prompts: tuple[Prompt, ...]) -> tuple[Prompt, ...]:
    if len(prompts) > MAX_PROMPTS:
        raise ValueError(f"names {len(prompts)} things; at most {MAX_PROMPTS} can be looked for")
    return prompts


def _without_nul(source: str) -> str:
    if "\0" in source:
        raise ValueError("holds a NUL, which no path or URL does")
    return source


if TYPE_CHECKING:
    Prompts = tuple[Prompt, ...]  # the type in routes
else:  # validation of the client's JSON
    Prompts = Annotated[
        tuple[PromptText, ...],
        Field(strict=False, max_length=MAX_PROMPTS, description="Free text.", examples=[["red circle", "person"]]),
        AfterValidator(parsed_prompts),
        AfterValidator(_check_count),
    ]

_PUBLISH_SCHEMA = {
    "type": "object",
    "description": "What one stream may set of `[publish]`.",
    "additionalProperties": False,
    "properties": {
        "frames": {"type": "boolean"},
        "jpeg_quality": {"type": "integer", "minimum": 1, "maximum": 100},
        "mask_encoding": {"enum": ["rle", "counts"]},
    },
}


class Body(BaseModel):
    """Base of request bodies: unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Refusal(BaseModel):
    """Why something was not done."""

    error: str = Field(description="One line: what, where, what to do.")


class Track(BaseModel):
    """A track as it stood on the last published frame."""

    id: int = Field(description="Never used again.", examples=[7])
    prompt: str | None = Field(description="As written; null for what was added by hand.", examples=["red circle"])
    score: float = Field(description="Of the last detection.", examples=[0.62])
    presence: float = Field(description="How sure the tracker is that the object shows.", examples=[0.99])
    state: str = Field(description="`new`, `tracked` or `occluded`.", examples=["tracked"])
    age: float = Field(description="Seconds since it began, by the frames' own times.", examples=[12.4])
    box: tuple[float, float, float, float] = Field(
        description="x0, y0, x1, y1 in pixels, half-open.", examples=[[412.0, 203.0, 530.0, 288.0]]
    )
    area: int = Field(description="Pixels of its mask.", examples=[5123])


class Stream(BaseModel):
    """A stream as it stands now."""

    name: str = Field(examples=["gate"])
    source: str = Field(description="Without user, password, path and query.", examples=["rtsp://camera.local"])
    state: str = Field(description="`loading`, `connecting`, `up`, `retrying`, `ended` or `failed`.", examples=["up"])
    reason: str = Field(description="Why it is not up; empty while it is.", examples=[""])
    live: bool
    prompts: list[str] = Field(description="What it looks for, as written.", examples=[["red circle"]])
    thresholds: dict[str, float] = Field(description="Least score of a detection.", examples=[{"red circle": 0.3}])
    epoch: int = Field(description="Rises when the source connects again.", examples=[0])
    frame: int | None = Field(description="Of the last published frame; null before the first.", examples=[1234])
    pts: int | None = Field(description="Time stamp of that frame, as in the mask stream.", examples=[41041])
    width: int = Field(description="Pixels; 0 before the first frame.", examples=[1280])
    height: int = Field(description="Pixels; 0 before the first frame.", examples=[720])
    fps: float = Field(description="Frames published a second, over the last 10 s.", examples=[30.0])
    latency: tuple[float, float] | None = Field(
        description="Seconds, median and 95th percentile of the last frames.", examples=[[0.21, 0.34]]
    )
    drops: int = Field(description="Frames lost since the start.", examples=[0])
    governor_step: int = Field(description="How far the governor has stepped down.", examples=[0])
    session: str = Field(
        description="Identities are never reused within one.", examples=["5d0c8a1e-3f52-4b7a-9c11-2e6f8d40b7a3"]
    )
    predecessor: str | None = Field(description="The session that it continues; null for none.", examples=[None])
    fence: int | None = Field(
        description="Fencing number under which it is published; null where it needs no lease.", examples=[7]
    )
    tracks: list[Track]
    not_recorded: str = Field(
        description="Why its frames are not recorded now; empty while they are, or none are to be.", examples=[""]
    )


class Streams(BaseModel):
    """All streams."""

    streams: list[Stream]


class StreamToCome(StreamSettings):
    """A stream to start next, as `[[streams]]` in the configuration; what its tables leave out is taken from there."""

    name: Annotated[StreamName, Field(examples=["gate"], json_schema_extra={"pattern": r"^\w[\w.-]{0,63}$"})]
    source: Annotated[
        SecretText,
        Field(
            max_length=4096,
            description="Whatever FFmpeg opens: a URL or a path on the daemon's machine. Its password is never shown.",
            examples=["rtsp://user:password@camera.local/stream1"],
        ),
        AfterValidator(_without_nul),
        AfterValidator(opened_address),
    ]
    prompts: Prompts = ()
    pixel_aspect: Annotated[
        PixelAspect,
        Field(
            description="Width to height of the source's pixels, neither more than 4 times the other; empty: what the "
            "source says.",
            examples=["2:1"],
            json_schema_extra={"pattern": r"^(\d{1,6}:\d{1,6})?$"},
        ),
    ] = ""
    publish: Annotated[Publish, WithJsonSchema(_PUBLISH_SCHEMA)] = Publish()


class NewStream(StreamToCome):
    """A stream to start, and how it has come to this daemon when something places streams on many."""

    fence: Fence | SkipJsonSchema[None] = Field(
        None, description="With a fence it is published only while it has a lease (`PUT /api/leases`).", examples=[7]
    )
    predecessor: SessionId | SkipJsonSchema[None] = Field(
        None,
        description="The session that it continues; by default that of the snapshot.",
        examples=["5d0c8a1e-3f52-4b7a-9c11-2e6f8d40b7a3"],
    )
    snapshot: Annotated[str, Field(max_length=64)] | SkipJsonSchema[None] = Field(
        None, description="Where its tracker starts from: what `POST /api/snapshots` has answered."
    )
    opened: Annotated[str, Field(max_length=64)] | SkipJsonSchema[None] = Field(
        None, description="What `POST /api/sources` has answered; where that is gone, the source is opened anew."
    )


class NewPrompts(Body):
    """What a stream is to look for from the next keyframe on."""

    prompts: Prompts


class Point(Body):
    """A place on the picture."""

    x: Coordinate = Field(description="Pixels from the left edge.", examples=[120.5])
    y: Coordinate = Field(description="Pixels from the upper edge.", examples=[88])
    inside: bool = Field(True, description="Whether the object is there; false: it is not.")

    @staticmethod
    def arrays(points: Sequence["Point"]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Pixels f32 (P, 2) as x, y, and labels int64 (P,): 1 inside, 0 outside."""
        pixels = np.asarray([(point.x, point.y) for point in points], np.float32)
        return pixels, np.asarray([point.inside for point in points], np.int64)

    @staticmethod
    def check_pixels(points: Sequence["Point"], width: int, height: int) -> None:
        """Raises ConfigError for points that are meant as shares of the picture."""
        places = [place for point in points for place in (point.x, point.y)]
        if all(0 <= place <= 1 for place in places) and any(place % 1 for place in places):
            raise ConfigError(f"points {_in_pixels(width, height)}")


SeenIndex = Annotated[
    int,
    Field(
        ge=0,
        le=2**53,
        description="The frame that was seen, as in the mask stream and in `X-Frame` of the preview: it counts there, "
        "and the object is carried to the present. By default the frame that was tracked last.",
        examples=[1234],
    ),
]
SeenSession = Annotated[
    SessionId,
    Field(
        description="The stream's session when it was seen; in another one it is refused.",
        examples=["5d0c8a1e-3f52-4b7a-9c11-2e6f8d40b7a3"],
    ),
]


def _in_pixels(width: int, height: int) -> str:
    return f"are in pixels of the picture ({width}x{height}), not 0..1: multiply x by {width} and y by {height}"


Points = Annotated[list[Point], Field(min_length=1, max_length=MAX_POINTS)]


class Mask(Body):
    """COCO run lengths, as in the mask stream."""

    size: Annotated[
        list[PictureSide], Field(min_length=2, max_length=2, description="Height and width of the picture.")
    ]
    counts: Annotated[str, Field(pattern=_COUNTS)] | list[RunLength] = Field(
        description="COCO's compressed string, or plain integers.", examples=["0P1"]
    )

    def decode(self, height: int, width: int) -> NDArray[np.bool_]:
        """(height, width) bool. Raises ConfigError if the mask has another size or is damaged."""
        if self.size != [height, width]:
            raise ConfigError(f"mask.size is {self.size}, the picture {[height, width]} (height, width)")
        try:
            return rle.decode(rle.Rle(size=self.size, counts=self.counts))
        except WireError:
            raise ConfigError(f"mask.counts do not fill {width}x{height} pixels; encode the mask again") from None


class NewObject(Body):
    """An object on the current picture, or on the one that was seen, by exactly one of a box, points and a mask."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [{"required": [kind]} for kind in ("box", "points", "mask")],
            "examples": [
                {"box": [412, 203, 530, 288]},
                {"points": [{"x": 470, "y": 240, "inside": True}], "prompt": "red circle"},
            ],
        }
    )

    box: Annotated[list[Coordinate], Field(min_length=4, max_length=4)] | SkipJsonSchema[None] = Field(
        None, description="x0, y0, x1, y1 in pixels.", examples=[[412, 203, 530, 288]]
    )
    points: Points | SkipJsonSchema[None] = None
    mask: Mask | SkipJsonSchema[None] = None
    prompt: str | None = Field(
        None, max_length=1000, description="One of the stream's prompts that it belongs to.", examples=["red circle"]
    )
    frame: SeenIndex | SkipJsonSchema[None] = None
    session: SeenSession | SkipJsonSchema[None] = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        given = self.model_fields_set & {"box", "points", "mask"}
        if len(given) != 1 or getattr(self, *given) is None:
            raise ValueError("needs exactly one of box, points and mask")
        return self

    def check_pixels(self, width: int, height: int) -> None:
        """Raises ConfigError for a box below a pixel, and for a box or points that are shares of the picture."""
        Point.check_pixels(self.points or (), width, height)
        if self.box is None:
            return
        x0, y0, x1, y1 = self.box
        if all(0 <= place <= 1 for place in self.box):
            raise ConfigError(f"boxes {_in_pixels(width, height)}")
        if 0 < x1 - x0 < 1 or 0 < y1 - y0 < 1:
            raise ConfigError(f"box {self.box} is smaller than a pixel of the picture ({width}x{height})")


class MorePoints(Body):
    """Points that correct a track's mask; those given before for the same frame still hold."""

    points: Points
    frame: SeenIndex | SkipJsonSchema[None] = None
    session: SeenSession | SkipJsonSchema[None] = None


class NewTrack(BaseModel):
    """What was started, or what was there."""

    id: int = Field(description="The track's id.", examples=[7])


class Difference(BaseModel):
    """A stream that is not as the configuration has it."""

    stream: str = Field(examples=["gate"])
    what: str = Field(description="`added`, `removed` or `changed`.", examples=["changed"])
    file: dict[str, Any] | None = Field(
        description="What the configuration has, of a changed stream only what differs; null of one that was added. "
        "Sources are without user, password, path and query.",
        examples=[{"prompts": ["person"]}],
    )
    present: dict[str, Any] | None = Field(
        description="The same as it is now; null of a stream that was removed.", examples=[{"prompts": ["red car"]}]
    )


class Changes(BaseModel):
    """What was changed over HTTP and is not as the configuration has it."""

    kept: bool = Field(description="Whether it comes back after a restart.")
    problem: str = Field(description="Why it does not; empty where it does.", examples=["state.dir is not set"])
    changes: list[Difference]


class Reloaded(BaseModel):
    """What has changed with the configuration that was read again."""

    added: list[str] = Field(description="Streams that were started.", examples=[["yard"]])
    removed: list[str] = Field(description="Streams that were ended.", examples=[[]])
    changed: list[str] = Field(
        description="Streams that look for other prompts, or were started anew with other settings.",
        examples=[["gate"]],
    )
    restart: list[str] = Field(
        description="Keys that differ from those of the daemon's start, and count from the next one on.",
        examples=[["models.detector"]],
    )
    failed: dict[str, str] = Field(
        description="Streams that could not be brought to what the configuration says, each with the reason. One that "
        "could not be started does not run; the next reload tries it again.",
        examples=[{}],
    )
