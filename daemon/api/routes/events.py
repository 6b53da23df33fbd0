"""Routes for what happened: pages of events, one event with its picture, counts."""

import sqlite3
import time
from collections.abc import Sequence
from math import inf
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from daemon.api import event_schemas as schemas
from daemon.api.access import BUSY, INVALID, ControlDep, refused
from daemon.api.control import Control
from daemon.api.event_schemas import Cursor, Limit, Moment, Names, Step, seconds_of
from daemon.api.routes import byte_ranges
from daemon.errors import UnknownNameError
from daemon.events import questions
from daemon.events.questions import Filter, StoredEvent
from stages.errors import ConfigError

DAY = 86_400.0  # seconds

_VIDEO = {"video/mp4": {"schema": {"type": "string", "format": "binary"}}}
_MISSING = refused(404, "It is gone, or no events are kept.", "no event has the id 17; it may have had its time")
_REFUSED: dict[int | str, dict[str, Any]] = {**BUSY, **_MISSING, 422: INVALID[422]}
router = APIRouter(prefix="/api/events", tags=["events"], responses=_REFUSED)
segments_router = APIRouter(tags=["events"], responses=_REFUSED)

EventId = Annotated[int, Path(description="The event's id.", ge=1, le=2**53, examples=[17])]


def _filter(
    stream: Names = [],  # noqa: B006 - FastAPI copies it
    type: Names = [],  # noqa: A002, B006 - the name in the query
    prompt: Names = [],  # noqa: B006
    since: Annotated[Moment, Query(alias="from")] = "",
    until: Annotated[Moment, Query(alias="to")] = "",
) -> Filter:
    """Repeated names: any of them."""
    first = seconds_of(since, "from") if since else -inf
    return Filter(stream, type, prompt, first, seconds_of(until, "to") if until else inf)


Wanted = Annotated[Filter, Depends(_filter)]


@router.get("", summary="Events", response_model=schemas.Events)
def events(control: ControlDep, wanted: Wanted, limit: Limit = 50, cursor: Cursor = "") -> dict[str, Any]:
    """Newest first. The next page begins at `next` of this one, whatever has happened meanwhile."""
    found = control.events().reader.ask(lambda database: questions.page(database, wanted, limit, cursor or None))
    return {"events": _shown(found.events, control), "next": found.next}


@router.get("/counts", summary="How many events", response_model=schemas.Counts)
def counts(control: ControlDep, wanted: Wanted, step: Step = 600) -> dict[str, Any]:
    """By prompt and step; without `from` and `to` those of the last 24 hours."""
    until = wanted.until if wanted.until < inf else time.time()
    since = wanted.since if wanted.since > -inf else until - DAY
    if (until - since) / step > schemas.MOST_BUCKETS:
        raise ConfigError(f"that is more than {schemas.MOST_BUCKETS} steps; make step larger, or the time shorter")
    whole = Filter(wanted.streams, wanted.types, wanted.prompts, since, until)
    found = control.events().reader.ask(lambda database: questions.counts(database, whole, step))
    return {"step": step, "counts": [schemas.Count(time=at, prompt=of, count=count) for at, of, count in found]}


@router.get("/{id}", summary="One event", response_model=schemas.Event)
def event(id: EventId, control: ControlDep) -> dict[str, Any]:  # noqa: A002 - as in the path
    """As on a page."""
    return _shown([control.events().reader.ask(lambda database: _find(database, id))], control)[0]


@router.get(
    "/{id}/snapshot.jpg",
    summary="An event's picture",
    response_class=Response,
    responses={
        200: {
            "description": "A JPEG of at most 240 pixels.",
            "content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
def snapshot(id: EventId, control: ControlDep) -> Response:  # noqa: A002
    """The best view of its track until now, cut out of the frame."""

    def find(database: sqlite3.Connection) -> bytes:
        jpeg = questions.snapshot(database, _find(database, id).id)
        if jpeg is None:
            raise UnknownNameError(f"event {id} has no picture; only tracks that were seen do")
        return jpeg

    jpeg = control.events().reader.ask(find)
    # a page shows many of them, again and again
    return Response(jpeg, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=60"})


@router.get(
    "/{id}/clip.mp4",
    summary="An event's clip",
    response_class=Response,
    responses={
        200: {"description": "An MP4.", "content": _VIDEO},
        206: {"description": "The part of it that `Range` asks for.", "content": _VIDEO},
        **refused(416, "It has no such part.", "the clip has 120034 bytes; ask for a part of those"),
    },
)
def clip(id: EventId, request: Request, control: ControlDep) -> Response:  # noqa: A002
    """What is recorded around it, with `record.before` and `after`; nothing is coded again. Takes `Range`."""
    found = control.events().reader.ask(lambda database: _find(database, id))
    asked, only_if = request.headers.get("range"), request.headers.get("if-range")
    return byte_ranges.answer(control.clips().of(found), asked, only_if)


@segments_router.get("/api/segments", summary="Segments of recordings", response_model=schemas.Segments)
def segments(
    control: ControlDep,
    stream: Names = [],  # noqa: B006
    since: Annotated[Moment, Query(alias="from")] = "",
    until: Annotated[Moment, Query(alias="to")] = "",
    limit: Limit = 50,
    cursor: Cursor = "",
) -> dict[str, Any]:
    """Those of live streams that are complete, and show something of the time from `from` to `to`."""
    wanted = _filter(stream, since=since, until=until)
    found, on = control.events().reader.ask(lambda known: questions.segments(known, wanted, limit, cursor or None))
    return {"segments": found, "next": on}


def _find(database: sqlite3.Connection, id_: int) -> StoredEvent:
    found = questions.events_of(database, [id_])
    if not found:
        raise UnknownNameError(f"no event has the id {id_}; it may have had its time")
    return found[0]


def _shown(found: Sequence[StoredEvent], control: Control) -> list[dict[str, Any]]:
    clips = control.clips().there(found)
    fields = schemas.Event.model_fields.keys() - {"clip"}
    return [{**{name: getattr(event, name) for name in fields}, "clip": event.id in clips} for event in found]
