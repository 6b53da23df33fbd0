"""Routes that add, correct and remove objects by hand, on the frame that a person saw or the one tracked last."""

from typing import Any

import numpy as np
from fastapi import APIRouter, Response

from daemon.api.access import BUSY, CONFLICT, INVALID, NOT_FOUND, ControlDep, Name, TrackId
from daemon.api.control import SeenFrame
from daemon.api.schemas import MorePoints, NewObject, NewTrack, Point
from daemon.errors import ConflictError

router = APIRouter(prefix="/api/streams/{name}/objects", tags=["objects"], responses={**BUSY, **NOT_FOUND})

_THERE: dict[int | str, dict[str, Any]] = {
    200: {"model": NewTrack, "description": "The points are on an object that was tracked on that frame."}
}


@router.post(
    "",
    status_code=201,
    summary="Add an object",
    response_model=NewTrack,
    responses={**INVALID, **CONFLICT, **_THERE},
)
def add(name: Name, new: NewObject, control: ControlDep, response: Response) -> dict[str, int]:
    """By a box, by points or by a mask, in pixels of the current picture or of the ``frame`` that was seen.

    Points on an object that was tracked on that frame select its track: 200 instead of 201, and nothing is added.
    """
    view = control.view(name)
    if view.frame is None:
        raise ConflictError(f'stream "{name}" has no picture yet; add objects once frames arrive')
    new.check_pixels(view.width, view.height)
    box = None if new.box is None else np.asarray(new.box, np.float32)
    points = None if new.points is None else Point.arrays(new.points)
    mask = None if new.mask is None else new.mask.decode(view.height, view.width)
    seen = SeenFrame(new.frame, new.session)
    track, is_new = control.add_object(name, new.prompt, box=box, points=points, mask=mask, seen=seen)
    if not is_new:
        response.status_code = 200
    return {"id": track}


@router.post("/{id}/points", status_code=204, summary="Correct an object", responses={422: INVALID[422], **CONFLICT})
def refine(name: Name, id: TrackId, more: MorePoints, control: ControlDep) -> Response:  # noqa: A002 - as in the path
    """Points inside and outside of the object correct its mask, from the current picture or the ``frame`` seen on."""
    view = control.view(name)
    Point.check_pixels(more.points, view.width, view.height)
    control.refine_object(name, id, *Point.arrays(more.points), seen=SeenFrame(more.frame, more.session))
    return Response(status_code=204)


@router.delete("/{id}", status_code=204, summary="Remove an object", responses={422: INVALID[422]})
def remove(name: Name, id: TrackId, control: ControlDep) -> Response:  # noqa: A002
    """Ends its track, whether it was added by hand or detected."""
    control.remove_object(name, id)
    return Response(status_code=204)
