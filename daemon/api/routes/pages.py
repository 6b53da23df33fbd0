"""Routes for monitoring (/metrics, /healthz, /readyz), the live page, and the page of the API."""

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

from daemon.api.access import ControlDep

WEB = Path(__file__).parents[2] / "web"

_TEXT_CONTENT = {"text/plain": {"schema": {"type": "string"}}}
_METRICS_CONTENT = {**_TEXT_CONTENT, "application/openmetrics-text": {"schema": {"type": "string"}}}

MONITORING_THREADS = 4  # separate threads, so that requests that wait for the engine do not delay monitoring

router = APIRouter(tags=["watch"])


def static_files() -> StaticFiles:
    """The pages' scripts, styles and icon."""
    return StaticFiles(directory=WEB, check_dir=False)


def swagger_files() -> StaticFiles:
    """Swagger UI, from the package that ships its files: the daemon needs no other host."""
    return StaticFiles(packages=[("fastapi_offline", "static")])


@router.get(
    "/metrics",
    summary="Metrics",
    description="All series, in the format that `Accept` asks for: Prometheus' text or OpenMetrics.",
    response_class=Response,
    responses={200: {"description": "The samples.", "content": _METRICS_CONTENT}},
)
async def metrics(request: Request) -> Response:
    """Like prometheus_client's own application, but outside the event loop: collecting takes locks."""
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    names = request.query_params.getlist("name[]")
    registry: CollectorRegistry = request.app.state.registry
    compressed = "gzip" in request.headers.get("accept-encoding", "")

    def collect() -> bytes:
        samples: bytes = encode(registry.restricted_registry(names) if names else registry)
        return gzip.compress(samples, 1) if compressed else samples

    body = await to_thread.run_sync(collect, limiter=request.app.state.monitoring_threads)
    headers = {"Content-Type": content_type, "Vary": "Accept, Accept-Encoding"}
    return Response(body, headers={**headers, "Content-Encoding": "gzip"} if compressed else headers)


@router.get(
    "/healthz",
    summary="Whether the process lives",
    response_class=PlainTextResponse,
    responses={200: {"description": "It does.", "content": {"text/plain": {"example": "alive\n"}}}},
)
async def healthz() -> PlainTextResponse:
    """Answers as long as the server runs, even while the models load."""
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
async def readyz(request: Request, control: ControlDep) -> PlainTextResponse:
    """200 or 503."""
    reason = await to_thread.run_sync(control.not_ready, limiter=request.app.state.monitoring_threads)
    return PlainTextResponse(f"{reason or 'ready'}\n", 503 if reason else 200)


@router.get(
    "/",
    summary="The live page",
    response_class=FileResponse,
    responses={200: {"description": "The page.", "content": {"text/html": {"schema": {"type": "string"}}}}},
)
async def index() -> FileResponse:
    """Its files are under /web/."""
    return await _page("index.html")


@router.get(
    "/docs",
    summary="The page of the API",
    response_class=FileResponse,
    responses={200: {"description": "The page.", "content": {"text/html": {"schema": {"type": "string"}}}}},
)
async def docs() -> FileResponse:
    """Every route with its fields, to be tried out."""
    return await _page("docs/index.html")


async def _page(name: str) -> FileResponse:
    page = WEB / name
    if not await anyio.Path(page).is_file():
        raise HTTPException(404)
    return FileResponse(page)
