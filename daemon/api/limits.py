"""Middleware: limits on request bodies and on concurrent requests. Requests beyond the limits are refused at once."""

from collections import Counter
from collections.abc import AsyncIterator
from typing import NamedTuple, Self

import anyio
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from daemon.api.errors import busy, refusal
from daemon.lane.handover import MAX_BYTES

MAX_BODY = 1 << 20  # bytes of a body
MAX_BUFFERED = 32 << 20  # bytes of all bodies in memory
MAX_DISCARDED = 8 << 20  # bytes of a too large body that are read and discarded, so that the client reads the response
BODY_TIMEOUT = 20.0  # seconds for a body to arrive
SNAPSHOTS = "/api/snapshots"  # the path that takes larger bodies, held apart from the others
LEASES = "/api/leases"  # the path of requests that are never too many
SNAPSHOT_TIMEOUT = 60.0  # seconds for such a body to arrive
MAX_CONCURRENT = {"reads": 16, "changes": 16}  # requests; leaves 8 of FastAPI's 40 threads for previews and the page
CLOSE = {"Connection": "close"}  # else the rest of the body would be parsed as the next request


class _Limits(NamedTuple):
    """Limits of the bodies of one kind of request."""

    kind: str
    most: int  # bytes of a body
    buffered: int  # bytes of all bodies in memory
    timeout: float  # seconds for a body to arrive

    @classmethod
    def of(cls, path: str) -> Self:
        """The limits of requests with this path."""
        if path == SNAPSHOTS:
            return cls("snapshots", MAX_BYTES, 2 * MAX_BYTES, SNAPSHOT_TIMEOUT)
        return cls("usual", MAX_BODY, MAX_BUFFERED, BODY_TIMEOUT)

    @property
    def read(self) -> int:
        """Bytes of a body after which its connection is closed."""
        return max(self.most, MAX_DISCARDED)


class BodyLimiter:
    """Receives the whole body before the application runs, so that no thread waits for a slow client."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._buffered: Counter[str] = Counter()  # bytes in memory, by kind of request

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application."""
        if scope["method"] in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        limits = _Limits.of(scope["path"])
        body = bytearray()
        answer: ASGIApp
        try:
            if int(Headers(scope=scope).get("content-length", "0")) > limits.read:
                raise _TooLargeError
            with anyio.fail_after(limits.timeout):
                async for chunk in _chunks(receive, limits):
                    self._buffered[limits.kind] += len(chunk)
                    body += chunk
                    if self._buffered[limits.kind] > limits.buffered:
                        raise _BuffersFullError
            answer = self._app
            receive = _replay(bytes(body), receive)
        except _TooLargeError:
            answer = refusal(413, f"the body is larger than {limits.most} bytes; send less", CLOSE)
        except TimeoutError:
            answer = refusal(408, f"the body did not come within {limits.timeout:.0f} s; send it again", CLOSE)
        except _BuffersFullError:
            answer = busy("too many large bodies at once; try again", CLOSE)
        except _DisconnectedError:
            answer = _no_response
        size = len(body)
        del body  # a snapshot is large
        try:
            await answer(scope, receive, send)
        finally:
            self._buffered[limits.kind] -= size


class RequestLimiter:
    """Limits concurrent API requests, reads and changes separately: an overloaded engine blocks nothing else.

    Previews have a limit of their own; leases ask neither the engine nor a thread, and must not wait.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._active = {"reads": 0, "changes": 0}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application."""
        path: str = scope["path"]
        kind = "reads" if scope["method"] == "GET" else "changes"
        if not path.startswith("/api/") or path.endswith("/preview.mjpeg") or path == LEASES:
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
    """The body is larger than it may be."""


class _BuffersFullError(Exception):
    """All bodies together are larger than they may be."""


class _DisconnectedError(Exception):
    """The client has disconnected."""


async def _chunks(receive: Receive, limits: _Limits) -> AsyncIterator[bytes]:
    """The body in chunks. Raises _TooLargeError and _DisconnectedError."""
    received, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _DisconnectedError
        chunk: bytes = message.get("body", b"")
        more = message.get("more_body", False)
        received += len(chunk)
        if received > limits.read:
            raise _TooLargeError
        if received <= limits.most:
            yield chunk
    if received > limits.most:
        raise _TooLargeError


def _replay(body: bytes, receive: Receive) -> Receive:
    """A ``receive`` that returns ``body`` first, then the following messages."""
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return first.pop() if first else await receive()

    return replay


async def _no_response(scope: Scope, receive: Receive, send: Send) -> None:
    """Send nothing: the client has disconnected."""
