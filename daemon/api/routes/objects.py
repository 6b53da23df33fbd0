"""Routes that add, correct and remove objects by hand, on the frame that was tracked last."""

import numpy as np
from fastapi import APIRouter, Response

from daemon.api.access import BUSY, CONFLICT, INVALID, NOT_FOUND, ControlDep, Name, TrackId
from daemon.api.schemas import MorePoints, NewObject, NewTrack, Point
from daemon.errors import ConflictError

router = APIRouter(prefix="/api/streams/{name}/objects", tags=["objects"], responses={**BUSY, **NOT_FOUND})


@router.post("", status_code=201, summary="Add an object", response_model=NewTrack, responses={**INVALID, **CONFLICT})
def add(name: Name, new: NewObject, control: ControlDep) -> dict[str, int]:
    """By a box, by points or by a mask, in pixels of the current picture."""
    view = control.view(name)
    if view.frame is None:
        raise ConflictError(f'stream "{name}" has no picture yet; add objects once frames arrive')
    new.check_pixels(view.width, view.height)
    box = None if new.box is None else np.asarray(new.box, np.float32)
    points = None if new.points is None else Point.arrays(new.points)
    mask = None if new.mask is None else new.mask.decode(view.height, view.width)
    return {"id": control.add_object(name, new.prompt, box=box, points=points, mask=mask)}


@router.post("/{id}/points", status_code=204, summary="Correct an object", responses=INVALID)
def refine(name: Name, id: TrackId, more: MorePoints, control: ControlDep) -> Response:  # noqa: A002 - as in the path
    """Points inside and outside of the object correct its mask, from the current picture on."""
    view = control.view(name)
    Point.check_pixels(more.points, view.width, view.height)
    control.refine_object(name, id, *Point.arrays(more.points))
    return Response(status_code=204)


@router.delete("/{id}", status_code=204, summary="Remove an object", responses={422: INVALID[422]})
def remove(name: Name, id: TrackId, control: ControlDep) -> Response:  # noqa: A002
    """Ends its track, whether it was added by hand or detected."""
    control.remove_object(name, id)
    return Response(status_code=204)
