"""Metrics for Prometheus, whether the daemon lives and is ready, and the live page."""

import gzip
from pathlib import Path

import anyio
from anyio import to_thread
from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse, PlainTextResponse
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

from daemon.api.access import Steered

WEB = Path(__file__).parents[2] / "web"

_TEXT = {"text/plain": {"schema": {"type": "string"}}}
_SAMPLES = {**_TEXT, "application/openmetrics-text": {"schema": {"type": "string"}}}

WATCHERS = 4  # threads of their own: whoever waits for the engine must not keep these waiting

router = APIRouter(tags=["watch"])


def files() -> StaticFiles:
    """What the page loads."""
    return StaticFiles(directory=WEB, check_dir=False)


@router.get(
    "/metrics",
    summary="Metrics",
    description="All series, in the format that `Accept` asks for: Prometheus' text or OpenMetrics.",
    response_class=Response,
    responses={200: {"description": "The samples.", "content": _SAMPLES}},
)
async def metrics(request: Request) -> Response:
    """As prometheus_client's own applications answer, but never on the event loop: collecting takes locks."""
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    names = request.query_params.getlist("name[]")
    registry: CollectorRegistry = request.app.state.registry
    zipped = "gzip" in request.headers.get("accept-encoding", "")

    def collect() -> bytes:
        samples: bytes = encode(registry.restricted_registry(names) if names else registry)
        return gzip.compress(samples, 1) if zipped else samples

    body = await to_thread.run_sync(collect, limiter=request.app.state.watchers)
    headers = {"Content-Type": content_type, "Vary": "Accept, Accept-Encoding"}
    return Response(body, headers={**headers, "Content-Encoding": "gzip"} if zipped else headers)


@router.get(
    "/healthz",
    summary="Whether the process lives",
    response_class=PlainTextResponse,
    responses={200: {"description": "It does.", "content": {"text/plain": {"example": "alive\n"}}}},
)
async def healthz() -> PlainTextResponse:
    """Answered by the server's own thread, even while models load."""
    return PlainTextResponse("alive\n")


@router.get(
    "/readyz",
    summary="Whether the daemon does its work",
    description="It does once the models are loaded and every source is up, or is being tried again.",
    response_class=PlainTextResponse,
    responses={
        200: {"description": "It does.", "content": {"text/plain": {"example": "ready\n"}}},
        503: {
            "description": "Why it does not.",
            "content": {"text/plain": {"example": "the models are being loaded\n"}},
        },
    },
)
async def readyz(request: Request, control: Steered) -> PlainTextResponse:
    """200 or 503."""
    reason = await to_thread.run_sync(control.not_ready, limiter=request.app.state.watchers)
    return PlainTextResponse(f"{reason or 'ready'}\n", 503 if reason else 200)


@router.get(
    "/",
    summary="The live page",
    response_class=FileResponse,
    responses={200: {"description": "The page.", "content": {"text/html": {"schema": {"type": "string"}}}}},
)
async def index() -> FileResponse:
    """Its files are under /web/."""
    page = WEB / "index.html"
    if not await anyio.Path(page).is_file():
        raise HTTPException(404)
    return FileResponse(page)
