"""The ASGI application: all routes and the middleware around them."""

import threading

from anyio import CapacityLimiter
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp

from daemon.api.auth import Auth, Rules
from daemon.api.control import Control
from daemon.api.errors import handle_errors
from daemon.api.headers import BrowserHeaders, HeadAsGet
from daemon.api.limits import BodyLimiter, RequestLimiter
from daemon.api.openapi import describe
from daemon.api.routes import changes, events, fleet, objects, pages, preview, streams
from daemon.settings.schema import Http


def build_app(http: Http, registry: CollectorRegistry, control: Control, closing: threading.Event) -> ASGIApp:
    """The ASGI application; previews end once ``closing`` is set."""
    app = FastAPI(
        title="maskcast",
        version="1",
        openapi_url="/openapi.json",
        docs_url=None,  # both pages load their scripts from other hosts; ours is in daemon.api.routes.pages
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.rules = rules = Rules(http)
    app.state.control = control
    app.state.registry = registry
    app.state.monitoring_threads = CapacityLimiter(pages.MONITORING_THREADS)
    app.state.viewers = preview.Viewers(closing)
    handle_errors(app)
    routes = pages, streams, objects, changes, preview, events, fleet
    for router in (room.router for room in routes):
        app.include_router(router)
    app.include_router(events.segments_router)
    app.mount("/web/swagger", pages.swagger_files(), "swagger")
    app.mount("/web", pages.static_files(), "web")
    describe(app, rules)
    for route in app.routes:  # FastAPI builds what a route needs when it is first looked at, which takes 30 ms in all
        route.matches({"type": "http", "method": "GET", "path": "/healthz", "root_path": "", "headers": []})
    limited: ASGIApp = BodyLimiter(RequestLimiter(app))
    return BrowserHeaders(Auth(HeadAsGet(limited), rules))
