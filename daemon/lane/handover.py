"""What a stream takes along when it moves from one daemon to another."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stages.detection.auto_threshold import AutoThresholds
from stages.errors import SnapshotError
from stages.source.source import Source

MAX_BYTES = 64 * 5_000_000  # of a snapshot: 64 objects at full size
_LONGEST_LINE = 1 << 20  # bytes

SessionId = Annotated[str, Field(pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$")]


class Learned(BaseModel):
    """What automatic thresholds have learned of the prompts that were looked for, as written."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    prompts: list[str]
    state: dict[str, Any]  # `AutoThresholds.state_dict`

    def teach(self, auto: AutoThresholds, prompts: Sequence[str]) -> None:
        """Let ``auto``, of these prompts, go on from it. Raises SnapshotError when it makes no sense."""
        origins = [self.prompts.index(prompt) if prompt in self.prompts else None for prompt in prompts]
        try:
            auto.load_state_dict(self.state, origins)
        except (LookupError, TypeError, ValueError) as error:
            raise SnapshotError("snapshot: its thresholds make no sense; take a new one") from error


class _FirstLine(BaseModel):
    """The JSON line before the tracker's own bytes."""

    model_config = ConfigDict(strict=True, extra="forbid")

    maskcast: Literal["snapshot/2"]
    session: SessionId
    picture: Annotated[list[Annotated[int, Field(ge=1, le=1 << 16)]], Field(min_length=3, max_length=3)] | None
    prompts: list[str]
    learned: Learned | None
    full: bool


@dataclass(frozen=True, slots=True, eq=False)
class Handover:
    """The state of a stream between two windows. Packed, it is one line of JSON and the tracker's snapshot."""

    session: str
    picture: tuple[int, ...] | None  # shape of its pictures (H, W, 3); None where none has come
    prompts: tuple[str, ...]  # as written, by the number by which tracks refer to them
    tracker: bytes  # `Tracker.snapshot`
    learned: Learned | None = None  # None where thresholds are fixed
    full: bool = True  # else the stream may have given more ids after it

    def pack(self) -> bytes:
        """The bytes that `unpack` reads."""
        picture = list(self.picture) if self.picture else None
        line = _FirstLine(
            maskcast="snapshot/2",
            session=self.session,
            picture=picture,
            prompts=list(self.prompts),
            learned=self.learned,
            full=self.full,
        )
        return line.model_dump_json().encode() + b"\n" + self.tracker

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Read packed bytes; the tracker's are not looked at. Raises SnapshotError."""
        end = data.find(b"\n", 0, _LONGEST_LINE)
        try:
            line = _FirstLine.model_validate_json(data[: max(0, end)])
        except ValidationError:
            raise SnapshotError(
                "this is no snapshot of a stream, or one of another version of maskcast; "
                "take it with GET /api/streams/NAME/snapshot"
            ) from None
        picture = tuple(line.picture) if line.picture else None
        return cls(line.session, picture, tuple(line.prompts), data[end + 1 :], line.learned, line.full)


@dataclass(frozen=True, slots=True)
class Origin:
    """How a stream has come to this daemon, when a fleet has placed it."""

    fence: int | None = None  # under which it is published, once it has a lease; None: it needs no lease
    predecessor: str | None = None  # the session that it continues
    handover: Handover | None = None  # where its tracker starts from
    source: Source | None = None  # opened before, to be read first


NOWHERE = Origin()  # of a stream that no fleet has placed
