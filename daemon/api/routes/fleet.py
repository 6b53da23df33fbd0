"""Routes for what places streams on many daemons: load, drain, leases, snapshots."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field

from daemon.api import control as views
from daemon.api.access import BUSY, CONFLICT, INVALID, NOT_FOUND, ControlDep, Name
from daemon.api.errors import status_of
from daemon.api.schemas import Body, Fence, StreamToCome
from stages.errors import MaskcastError

router = APIRouter(prefix="/api", tags=["fleet"], responses=BUSY)

_BINARY = {"schema": {"type": "string", "format": "binary"}}
_OCTETS = {"application/octet-stream": _BINARY}


class StreamLoad(BaseModel):
    """What a stream costs now."""

    name: str = Field(examples=["gate"])
    seconds: float = Field(description="Of the engine's time in the last 30 s.", examples=[3.6])
    share: float = Field(description="Of the engine's time, 0 to 1.", examples=[0.12])
    fps: float = Field(description="Frames published a second, over the last 10 s.", examples=[25.0])
    memory: int = Field(description="Bytes that the memory budget reserves for it.", examples=[401000000])
    waiting: int = Field(description="Frames that wait for the engine.", examples=[0])


class MemoryLoad(BaseModel):
    """Bytes; zero while the models are being loaded."""

    used: int = Field(examples=[2100000000])
    budget: int = Field(description="`limits.gpu_memory`.", examples=[64000000000])


class Load(BaseModel):
    """What the daemon has to do now."""

    streams: list[StreamLoad]
    share: float = Field(description="Of the engine's time that the streams take together, 0 to 1.", examples=[0.12])
    memory: MemoryLoad
    draining: bool = Field(description="It takes no new streams.")


class Draining(BaseModel):
    """What is left to be done."""

    streams: int = Field(description="How many streams there are still.", examples=[3])


class Lease(Body):
    """Until when a stream may be published, and under which number."""

    fence: Fence
    until: float = Field(
        description="CLOCK_BOOTTIME of the daemon's machine in seconds; a time in the past ends the lease.",
        ge=0,
        le=1e12,
        allow_inf_nan=False,
        examples=[12345.6],
    )


class Leases(Body):
    """A lease for each stream."""

    streams: dict[str, Lease] = Field(max_length=1000, examples=[{"gate": {"fence": 7, "until": 12345.6}}])


class LeaseRefusal(BaseModel):
    """Why a lease was not taken."""

    status: int = Field(description="404: no such stream; 409: a lower fence than before; 422: a wrong time.")
    error: str = Field(description="One line: what, where, what to do.")


class TakenLeases(BaseModel):
    """Which leases hold now, and which were refused."""

    streams: dict[str, Lease]
    refused: dict[str, LeaseRefusal]


class KeptSnapshot(BaseModel):
    """A snapshot that waits for its stream."""

    snapshot: str = Field(description="For `POST /api/streams`, once, within 60 s.")


class OpenedSource(BaseModel):
    """A source that waits for its stream."""

    opened: str = Field(description="For `POST /api/streams`, once, within 30 s.")


@router.get("/load", summary="What the daemon has to do", response_model=Load)
def load(control: ControlDep) -> views.Load:
    """How much of the engine's time each stream takes, and memory. One engine serves all streams."""
    return control.load()


@router.post("/drain", status_code=202, summary="Take no more streams", response_model=Draining)
def drain(control: ControlDep) -> dict[str, int]:
    """Streams run on until they are removed or end; the daemon ends, with exit code 0, once none is left."""
    return {"streams": control.drain()}


@router.put("/leases", summary="Let streams be published", response_model=TakenLeases, responses=INVALID)
async def leases(new: Leases, control: ControlDep) -> dict[str, object]:
    """For streams with a fence. A refusal of one stream's lease leaves the others' in force."""
    refused: dict[str, object] = {}
    for stream, lease in new.streams.items():
        try:
            control.renew_lease(stream, lease.fence, lease.until)
        except MaskcastError as error:
            refused[stream] = {"status": status_of(error), "error": str(error)}
    return {"streams": {name: lease for name, lease in new.streams.items() if name not in refused}, "refused": refused}


@router.get(
    "/streams/{name}/snapshot",
    summary="A stream's state",
    response_class=Response,
    responses={
        200: {"description": "For `POST /api/snapshots` of another daemon.", "content": _OCTETS},
        **NOT_FOUND,
        **CONFLICT,
        422: INVALID[422],
    },
)
def snapshot(
    name: Name,
    control: ControlDep,
    full: Annotated[bool, Query(description="False: a third of the size, enough for identities.")] = True,
) -> Response:
    """Its tracks between two windows. With `full` their masks go on as if nothing had happened."""
    return Response(control.snapshot(name, full), media_type="application/octet-stream")


@router.post(
    "/snapshots",
    status_code=201,
    summary="Keep a snapshot for a stream",
    response_model=KeptSnapshot,
    responses=INVALID,
    openapi_extra={"requestBody": {"required": True, "content": _OCTETS}},
)
async def keep(request: Request, control: ControlDep) -> dict[str, str]:
    """For 60 s, until a stream is started that names it."""
    return {"snapshot": await run_in_threadpool(control.keep_snapshot, await request.body())}


@router.post("/sources", status_code=201, summary="Open a source ahead", response_model=OpenedSource, responses=INVALID)
def open_source(new: StreamToCome, control: ControlDep) -> dict[str, str]:
    """The live source of a stream that is started next. Answers when the first frame has come, within 15 s."""
    return {"opened": control.open_source(new)}
