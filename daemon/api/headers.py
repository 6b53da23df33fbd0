"""Middleware: security and cache headers on every response, and HEAD handled as GET."""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from daemon.api.auth import PAGE_FILES, PAGES

# blob: holds what the page has fetched with its token, data: the icons of Swagger UI
_POLICY = (
    "default-src 'self'; img-src 'self' {images}:; media-src 'self' blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
_SECURITY_HEADERS = {
    "Content-Security-Policy": _POLICY.format(images="blob"),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",  # other sites cannot embed the pictures
    "Cross-Origin-Opener-Policy": "same-origin",
}


class BrowserHeaders:
    """Restricts responses to this origin; browsers cache only the pages' files, and revalidate them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application."""
        page = scope["path"] in PAGES or scope["path"].startswith(PAGE_FILES)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_SECURITY_HEADERS)
                if scope["path"] == "/docs":
                    headers["Content-Security-Policy"] = _POLICY.format(images="data")
                headers.setdefault("Cache-Control", "no-cache" if page else "no-store")
            await send(message)

        await self._app(scope, receive, send_with_headers)


class HeadAsGet:
    """Passes HEAD on as GET; the server leaves out the body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application."""
        if scope["method"] == "HEAD":
            scope = {**scope, "method": "GET", "head": True}
        await self._app(scope, receive, send)
