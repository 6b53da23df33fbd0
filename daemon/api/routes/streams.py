"""Routes for streams and their prompts."""

from fastapi import APIRouter, Response

from daemon.api.access import BUSY, CONFLICT, GONE, INVALID, NOT_FOUND, ControlDep, Name, RulesDep
from daemon.api.control import StreamView
from daemon.api.schemas import NewPrompts, NewStream, Stream, Streams
from stages.errors import ConfigError

router = APIRouter(prefix="/api/streams", tags=["streams"], responses=BUSY)


@router.get("", summary="All streams", response_model=Streams)
def streams(control: ControlDep) -> dict[str, list[StreamView]]:
    """Their current states."""
    return {"streams": control.views()}


@router.post(
    "", status_code=201, summary="Start a stream", response_model=Stream, responses={**INVALID, **CONFLICT, **GONE}
)
def add(new: NewStream, control: ControlDep, rule: RulesDep) -> StreamView:
    """Answers before the source is connected. `source` and `record.dir` are on the daemon's machine."""
    if new.record.dir and not rule.token:
        raise ConfigError("record.dir can be set over HTTP only where http.token is; set that, or record in the file")
    control.add(new, fence=new.fence, predecessor=new.predecessor, snapshot=new.snapshot, opened=new.opened)
    return control.view(new.name)


@router.get("/{name}", summary="One stream", response_model=Stream, responses=NOT_FOUND)
def stream(name: Name, control: ControlDep) -> StreamView:
    """Its current state."""
    return control.view(name)


@router.delete("/{name}", status_code=204, summary="End a stream", responses=NOT_FOUND)
def remove(name: Name, control: ControlDep) -> Response:
    """Publishes the frames already read first, which takes seconds."""
    control.remove(name)
    return Response(status_code=204)


@router.put("/{name}/prompts", summary="Set prompts", response_model=Stream, responses={**INVALID, **NOT_FOUND})
def set_prompts(name: Name, new: NewPrompts, control: ControlDep) -> StreamView:
    """Takes effect at the next keyframe; tracks of prompts that are kept go on."""
    control.set_prompts(name, new.prompts)
    return control.view(name)
