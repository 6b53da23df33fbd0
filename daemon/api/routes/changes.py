"""Routes for what was changed over HTTP, and for reading the configuration again."""

from fastapi import APIRouter, Response

from daemon.api.access import BUSY, CONFLICT, INVALID, NOT_FOUND, ControlDep
from daemon.api.control import ChangesView
from daemon.api.control import Reloaded as ReloadedView
from daemon.api.schemas import Changes, Reloaded

router = APIRouter(prefix="/api", tags=["streams"], responses=BUSY)


@router.get("/changes", summary="What was changed", response_model=Changes)
def changes(control: ControlDep) -> ChangesView:
    """Streams that are not as the configuration has them, because they were changed over HTTP."""
    return control.changes()


@router.delete("/changes", status_code=204, summary="Take back all changes", responses={**CONFLICT, 422: INVALID[422]})
def take_back_all(control: ControlDep) -> Response:
    """All streams run as the configuration has them."""
    control.take_back(None)
    return Response(status_code=204)


@router.delete(
    "/changes/{stream}",
    status_code=204,
    summary="Take back the change of a stream",
    responses={**NOT_FOUND, **CONFLICT, 422: INVALID[422]},
)
def take_back(stream: str, control: ControlDep) -> Response:
    """It runs as the configuration has it; what the configuration does not have ends."""
    control.take_back(stream)
    return Response(status_code=204)


@router.post(
    "/reload",
    summary="Read the configuration again",
    response_model=Reloaded,
    responses={**CONFLICT, 422: INVALID[422]},
)
def reload(control: ControlDep) -> ReloadedView:
    """Streams come, go and change; models stay loaded. A configuration that is broken changes nothing."""
    return control.reload()
