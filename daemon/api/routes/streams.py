"""The streams and what they look for."""

from fastapi import APIRouter, Response

from daemon.api.access import BUSY, TAKEN, UNKNOWN, WRONG, Name, Rule, Steered
from daemon.api.control import StreamView
from daemon.api.errors import TakenError
from daemon.api.models import NewPrompts, NewStream, Stream, Streams
from stages.errors import ConfigError

router = APIRouter(prefix="/api/streams", tags=["streams"], responses=BUSY)


@router.get("", summary="All streams", response_model=Streams)
def streams(control: Steered) -> dict[str, list[StreamView]]:
    """As they stand now."""
    return {"streams": control.views()}


@router.post("", status_code=201, summary="Start a stream", response_model=Stream, responses={**WRONG, **TAKEN})
def add(new: NewStream, control: Steered, rule: Rule) -> StreamView:
    """It is there at once and connects in its own time. `source` and `record.dir` mean the daemon's machine."""
    if new.record.dir and not rule.token:
        raise ConfigError("record.dir can be set over HTTP only where http.token is; set that, or record in the file")
    try:
        control.add(new)
    except ConfigError as error:
        if any(view.name == new.name for view in control.views()):
            raise TakenError(str(error)) from None
        raise
    return control.view(new.name)


@router.get("/{name}", summary="One stream", response_model=Stream, responses=UNKNOWN)
def stream(name: Name, control: Steered) -> StreamView:
    """As it stands now."""
    return control.view(name)


@router.delete("/{name}", status_code=204, summary="End a stream", responses=UNKNOWN)
def remove(name: Name, control: Steered) -> Response:
    """What was read leaves first; that takes seconds."""
    control.remove(name)
    return Response(status_code=204)


@router.put("/{name}/prompts", summary="Set prompts", response_model=Stream, responses={**WRONG, **UNKNOWN})
def set_prompts(name: Name, new: NewPrompts, control: Steered) -> StreamView:
    """They count from the next keyframe on; tracks of prompts that stay are not touched."""
    control.set_prompts(name, new.prompts)
    return control.view(name)
