"""The mask stream's messages: headers from results, multipart messages from headers, and back. No socket.

A message is ``[topic, header]`` or, for frames, ``[topic, header, jpeg]``. The topic is UTF-8
``v1/<stream>/<kind>``, the header UTF-8 JSON whose ``schema`` is ``maskcast/v1/<kind>``. Boxes are xyxy in pixels,
half-open; times are seconds.

Of a stream that a fleet has placed, headers also hold ``fence`` (the fencing number under which it is published: of
two messages the one with the lower number is the older one) and, where it continues another session, that session as
``predecessor``. In all other headers both are missing.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from stages.errors import WireError
from stages.output import rle
from stages.output.masks import Masks
from stages.types import Label, Result, StreamEvent, Track, TrackChange, TrackState

VERSION = "v1"

Header = dict[str, Any]


class Kind(StrEnum):
    """What a message carries; the last part of its topic."""

    MASKS = "masks"
    FRAME = "frame"
    EVENT = "event"
    STATUS = "status"


@dataclass(frozen=True, slots=True)
class Message:
    """One received message."""

    stream: str
    kind: Kind
    header: Header
    blob: bytes | None = None  # the JPEG of a frame


def topic(stream: str, kind: Kind) -> str:
    """The topic of ``stream``'s messages of one kind."""
    return f"{VERSION}/{stream}/{kind}"


def masks_header(
    result: Result,
    masks: Masks,
    *,
    stream: str,
    session: str,
    seq: int,
    prompts: Sequence[str],
    published_at: float,
    encoding: Literal["rle", "counts"] = "rle",
    fence: int | None = None,
    predecessor: str | None = None,
) -> Header:
    """All that is known of one frame; ``masks`` are ``full_masks(result)``, ``prompts`` the texts as written."""
    return {
        **_envelope(Kind.MASKS, stream, session, result.epoch, seq, published_at, fence, predecessor),
        **_picture(result),
        "objects": _objects(result.tracks, masks, prompts, encoding),
        "classes": [_class(label) for label in result.classes or ()],
    }


def frame_header(
    result: Result,
    *,
    stream: str,
    session: str,
    seq: int,
    published_at: float,
    fence: int | None = None,
    predecessor: str | None = None,
) -> Header:
    """The header of an annotated frame, whose JPEG travels as the blob."""
    return {
        **_envelope(Kind.FRAME, stream, session, result.epoch, seq, published_at, fence, predecessor),
        **_picture(result),
        "content_type": "image/jpeg",
    }


def event_header(
    event: TrackChange | StreamEvent,
    reason: str,
    *,
    stream: str,
    session: str,
    epoch: int,
    seq: int,
    published_at: float,
    frame: int | None = None,
    track: int | None = None,
    prompt: str | None = None,
    fence: int | None = None,
    predecessor: str | None = None,
) -> Header:
    """Something that happened; ``frame``, ``track`` and ``prompt`` (as written) are null where they do not apply."""
    return {
        **_envelope(Kind.EVENT, stream, session, epoch, seq, published_at, fence, predecessor),
        "type": str(event),
        "reason": reason,
        "frame": frame,
        "track": track,
        "prompt": prompt,
    }


def status_header(
    *,
    stream: str,
    session: str,
    epoch: int,
    seq: int,
    published_at: float,
    prompts: Sequence[str],
    tracks: int,
    fps: float,
    drops: int,
    models: Mapping[str, str],
    thresholds: Mapping[str, float],
    uptime: float,
    fence: int | None = None,
    predecessor: str | None = None,
) -> Header:
    """For late joiners: ``tracks`` alive now, frames published a second, frames dropped so far, model names by role
    (detector, segmenter, classifier), the least score of a detection now by prompt as written, and the stream's age in
    seconds."""
    return {
        **_envelope(Kind.STATUS, stream, session, epoch, seq, published_at, fence, predecessor),
        "prompts": list(prompts),
        "tracks": tracks,
        "fps": round(fps, 2),
        "drops": drops,
        "models": dict(models),
        "thresholds": {prompt: _score(least) for prompt, least in thresholds.items()},
        "uptime": round(uptime, 3),
    }


def to_json(header: Header) -> bytes:
    """One line of compact UTF-8 JSON; raises WireError for what JSON cannot hold, such as NaN."""
    try:
        return json.dumps(header, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise WireError(f"a {header.get('schema')} header cannot be written as JSON: {error}") from error


def pack(topic: str, header: Header, blob: bytes | None = None) -> list[bytes]:
    """The parts of one message; raises WireError for what JSON cannot hold."""
    parts = [topic.encode(), to_json(header)]
    return parts if blob is None else [*parts, blob]


def unpack(parts: Sequence[bytes]) -> Message:
    """The message in the parts received; raises WireError for anything but a whole message of this version."""
    if len(parts) < 2:
        raise WireError(f"a message of {len(parts)} part(s) instead of topic and header: is this a maskcast endpoint?")
    stream, kind = _read_topic(parts[0])
    header = _read_header(parts[1])
    expected = f"maskcast/{VERSION}/{kind}"
    if header.get("schema") != expected or header.get("stream") != stream:
        found = f"{header.get('schema')!r} of stream {header.get('stream')!r}"
        raise WireError(f"a message on {topic(stream, kind)[:80]} has a header of {found[:120]}, not {expected!r}")
    blobs = 1 if kind is Kind.FRAME else 0
    if len(parts) != 2 + blobs:
        raise WireError(f"a {kind} message has {len(parts) - 2} blob(s) instead of {blobs}: parts of it were lost")
    return Message(stream, kind, header, bytes(parts[2]) if blobs else None)


def _read_topic(part: bytes) -> tuple[str, Kind]:
    try:
        version, _, rest = part.decode().partition("/")
        stream, _, kind = rest.rpartition("/")
        if version == VERSION and stream:
            return stream, Kind(kind)
    except ValueError:
        pass
    raise WireError(f"topic {part[:40]!r} is not {VERSION}/<stream>/<{'|'.join(Kind)}>: is this a maskcast endpoint?")


def _read_header(part: bytes) -> Header:
    try:
        header = json.loads(part.decode())
    except (ValueError, RecursionError) as error:
        raise WireError(f"a header is not UTF-8 JSON: {error}") from error
    if not isinstance(header, dict):
        raise WireError(f"a header is a JSON {type(header).__name__} instead of an object")
    return header


def _envelope(
    kind: Kind,
    stream: str,
    session: str,
    epoch: int,
    seq: int,
    published_at: float,
    fence: int | None,
    predecessor: str | None,
) -> Header:
    return {
        "schema": f"maskcast/{VERSION}/{kind}",
        "stream": stream,
        "session": session,
        **({} if fence is None else {"fence": fence}),
        **({} if predecessor is None else {"predecessor": predecessor}),
        "epoch": epoch,
        "seq": seq,
        "published_at": _time(published_at),
    }


def _picture(result: Result) -> Header:
    frame = result.frame
    height, width = frame.image.shape[:2]
    return {
        "frame": frame.index,
        "pts": frame.pts,
        "time_base": [frame.time_base.numerator, frame.time_base.denominator],
        "captured_at": _time(frame.captured_at),
        "clock": str(frame.clock),
        "width": width,
        "height": height,
        "keyframe": result.keyframe,
        "dropped_before": frame.dropped_before,
    }


def _objects(
    tracks: Sequence[Track], masks: Masks, prompts: Sequence[str], encoding: Literal["rle", "counts"]
) -> list[Header]:
    # What is occluded has no pixel, whatever its logits say.
    shown = masks.where([track.state is not TrackState.OCCLUDED for track in tracks])
    codes = rle.encode_all(shown, encoding)
    areas, boxes = shown.areas.tolist(), shown.boxes.astype(float).tolist()
    return [
        {
            "id": track.id,
            "prompt": None if track.prompt is None else prompts[track.prompt],
            "score": _score(track.score),
            "presence": _score(track.presence),
            "state": str(track.state),
            "box": box,
            "area": area,
            "mask": code,
        }
        for track, code, area, box in zip(tracks, codes, areas, boxes, strict=True)
    ]


def _class(label: Label) -> Header:
    about = {"label": label.label, "score": _score(label.score)}
    return about if label.id is None else {**about, "id": label.id}


def _score(value: float) -> float:
    return round(float(value), 4)


def _time(value: float) -> float:
    return round(value, 6)  # microseconds
