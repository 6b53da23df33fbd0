"""HTTP of the fleet: what runs where, moves and drains, Prometheus' targets, and a page that links all nodes."""

import threading
from typing import Annotated, Any, Protocol

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import FileResponse, PlainTextResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.types import ASGIApp

from daemon.api.auth import Auth, Rules
from daemon.api.errors import handle_errors
from daemon.api.headers import BrowserHeaders, HeadAsGet
from daemon.api.limits import BodyLimiter
from daemon.api.routes import pages
from daemon.api.server import Server
from daemon.fleet.status import targets
from daemon.settings.schema import Http


class FleetControl(Protocol):
    """The controller as HTTP sees it; any thread may call. Its methods raise ConfigError."""

    def status(self) -> dict[str, Any]: ...

    def move(self, stream: str, node: str) -> str: ...

    def drain(self, node: str) -> int: ...

    def down(self) -> None: ...


class NewPlace(BaseModel):
    """Where a stream is to run."""

    model_config = ConfigDict(extra="forbid", strict=True)

    stream: str = Field(examples=["gate"])
    node: str = Field(examples=["gpu-2"])


class OneNode(BaseModel):
    """A node of the fleet."""

    model_config = ConfigDict(extra="forbid", strict=True)

    node: str = Field(examples=["gpu-2"])


async def _fleet(request: Request) -> FleetControl:
    fleet: FleetControl = request.app.state.fleet
    return fleet


FleetDep = Annotated[FleetControl, Depends(_fleet)]
router = APIRouter()


@router.get("/fleet", summary="What runs where")
def status(fleet: FleetDep) -> dict[str, Any]:
    """Workers with their loads and pages, and streams with their nodes."""
    return fleet.status()


@router.get("/fleet/targets", summary="Prometheus' targets")
def prometheus_targets(fleet: FleetDep) -> list[dict[str, Any]]:
    """All daemons, for `http_sd_configs`."""
    return targets(fleet.status())


@router.post("/fleet/move", status_code=202, summary="Move a stream")
def move(new: NewPlace, fleet: FleetDep) -> dict[str, str]:
    """Answers before it has arrived; `GET /fleet` tells when."""
    return {"worker": fleet.move(new.stream, new.node)}


@router.post("/fleet/drain", status_code=202, summary="Empty a node")
def drain(node: OneNode, fleet: FleetDep) -> dict[str, int]:
    """Its streams move to other nodes, and its daemons end. Answers at once, with the number of streams."""
    return {"streams": fleet.drain(node.node)}


@router.post("/fleet/down", status_code=202, summary="End the fleet")
def down(fleet: FleetDep) -> dict[str, str]:
    """All daemons end; the cluster stays."""
    fleet.down()
    return {"state": "stopping"}


@router.get("/healthz", response_class=PlainTextResponse, summary="Whether the controller lives")
def health() -> str:
    """It does."""
    return "alive\n"


@router.get("/", response_class=FileResponse, include_in_schema=False)
async def page() -> FileResponse:
    """It holds no data, and asks for the token; its files are under /web/."""
    return FileResponse(pages.WEB / "fleet.html")


class FleetApi:
    """Serves from its construction until ``close``. Raises OutputError if it cannot listen on the address."""

    def __init__(self, http: Http, fleet: FleetControl) -> None:
        app = FastAPI(
            title="maskcast fleet",
            version="1",
            openapi_url="/openapi.json",
            docs_url=None,
            redoc_url=None,
            redirect_slashes=False,
        )
        app.state.fleet = fleet
        handle_errors(app)
        app.include_router(router)
        app.mount("/web", pages.static_files(), "web")
        limited: ASGIApp = Auth(HeadAsGet(BodyLimiter(app)), Rules(http))
        self._server = Server(http, BrowserHeaders(limited), threading.Event())
        self.url = self._server.url

    def close(self) -> None:
        """Stop listening."""
        self._server.close()
