"""Middleware: limits on request bodies and on concurrent requests. Requests beyond the limits are refused at once."""

from collections.abc import AsyncIterator

import anyio
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from daemon.api.errors import busy, refusal

MAX_BODY = 1 << 20  # bytes of a body
MAX_BUFFERED = 32 << 20  # bytes of all bodies in memory
MAX_DISCARDED = 8 << 20  # bytes of a too large body that are read and discarded, so that the client reads the response
BODY_TIMEOUT = 20.0  # seconds for a body to arrive
MAX_CONCURRENT = {"reads": 16, "changes": 16}  # requests; leaves 8 of FastAPI's 40 threads for previews and the page
CLOSE = {"Connection": "close"}  # else the rest of the body would be parsed as the next request


class BodyLimiter:
    """Receives the whole body before the application runs, so that no thread waits for a slow client."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._buffered = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application."""
        if scope["method"] in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        body = bytearray()
        answer: ASGIApp
        try:
            if int(Headers(scope=scope).get("content-length", "0")) > MAX_DISCARDED:
                raise _TooLargeError
            with anyio.fail_after(BODY_TIMEOUT):
                async for chunk in _chunks(receive):
                    self._buffered += len(chunk)
                    body += chunk
                    if self._buffered > MAX_BUFFERED:
                        raise _BuffersFullError
            answer = self._app
            receive = _replay(bytes(body), receive)
        except _TooLargeError:
            answer = refusal(413, f"the body is larger than {MAX_BODY} bytes; send less", CLOSE)
        except TimeoutError:
            answer = refusal(408, f"the body did not come within {BODY_TIMEOUT:.0f} s; send it again", CLOSE)
        except _BuffersFullError:
            answer = busy("too many large bodies at once; try again", CLOSE)
        except _DisconnectedError:
            answer = _no_response
        try:
            await answer(scope, receive, send)
        finally:
            self._buffered -= len(body)


class RequestLimiter:
    """Limits concurrent API requests, reads and changes separately: an overloaded engine blocks nothing else."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._active = {"reads": 0, "changes": 0}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application."""
        path: str = scope["path"]
        kind = "reads" if scope["method"] == "GET" else "changes"
        if not path.startswith("/api/") or path.endswith("/preview.mjpeg"):
            await self._app(scope, receive, send)
        elif self._active[kind] >= MAX_CONCURRENT[kind]:
            await busy(f"{MAX_CONCURRENT[kind]} {kind} are at work; try again")(scope, receive, send)
        else:
            self._active[kind] += 1
            try:
                await self._app(scope, receive, send)
            finally:
                self._active[kind] -= 1


class _TooLargeError(Exception):
    """The body is larger than MAX_BODY."""


class _BuffersFullError(Exception):
    """All bodies together are larger than MAX_BUFFERED."""


class _DisconnectedError(Exception):
    """The client has disconnected."""


async def _chunks(receive: Receive) -> AsyncIterator[bytes]:
    """The body in chunks. Raises _TooLargeError and _DisconnectedError."""
    received, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _DisconnectedError
        chunk: bytes = message.get("body", b"")
        more = message.get("more_body", False)
        received += len(chunk)
        if received > MAX_DISCARDED:
            raise _TooLargeError
        if received <= MAX_BODY:
            yield chunk
    if received > MAX_BODY:
        raise _TooLargeError


def _replay(body: bytes, receive: Receive) -> Receive:
    """A ``receive`` that returns ``body`` first, then the following messages."""
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return first.pop() if first else await receive()

    return replay


async def _no_response(scope: Scope, receive: Receive, send: Send) -> None:
    """Send nothing: the client has disconnected."""
