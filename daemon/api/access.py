"""Dependencies, path parameters and documented refusals that the routes share."""

from typing import Annotated, Any

from fastapi import Depends, Path, Request

from daemon.api.auth import Rules
from daemon.api.control import Control
from daemon.api.schemas import Refusal


async def _control(request: Request) -> Control:
    control: Control = request.app.state.control
    return control


async def _rules(request: Request) -> Rules:
    rules: Rules = request.app.state.rules
    return rules


ControlDep = Annotated[Control, Depends(_control)]
RulesDep = Annotated[Rules, Depends(_rules)]
Name = Annotated[str, Path(description="The stream's name.", examples=["gate"])]
TrackId = Annotated[int, Path(description="The track's id.", ge=0, le=2**53, examples=[7])]


def refused(status: int, description: str, example: str) -> dict[int | str, dict[str, Any]]:
    """The documentation of one kind of refusal, with the line of an example."""
    content = {"application/json": {"example": {"error": example}}}
    return {status: {"model": Refusal, "description": description, "content": content}}


BUSY = refused(
    503, "The engine is loading models or has too much to do. Try again.", "16 changes are at work; try again"
)
GONE = refused(404, "The snapshot is not kept any more.", "no snapshot '5d0c8a1e' waits; send it again")
NOT_FOUND = refused(404, "There is no such stream or track.", 'no stream is named "gat"; there are: gate')
INVALID = {
    **refused(400, "The body is not JSON.", "the body is not JSON"),
    **refused(408, "The body did not come in time.", "the body did not come within 20 s; send it again"),
    **refused(
        413,
        "The body is too large: above 1 MiB, of a snapshot above 320 MB.",
        "the body is larger than 1048576 bytes; send less",
    ),
    **refused(422, "What is asked for makes no sense.", "box.0 should be a finite number"),
}
CONFLICT = refused(409, "It cannot be now.", 'a stream is already named "gate"; remove it first or choose another name')
