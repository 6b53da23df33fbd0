"""How much one request may bring, and how many may be at work: beyond that the answer is no, at once."""

from collections.abc import AsyncIterator

import anyio
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from daemon.api.errors import busy, refusal

LARGEST = 1 << 20  # bytes of a body
HELD = 32 << 20  # bytes of all bodies that are here
DISCARDED = 8 << 20  # bytes of a too large body that are read, so that the client gets to see the answer
PATIENCE = 20.0  # seconds for a body to come
MOST = {"reads": 16, "changes": 16}  # at work; 8 of FastAPI's 40 threads are left for previews and the page
CLOSE = {"Connection": "close"}  # the rest of the body would be taken for the next request


class Bodies:
    """Receives the whole body first: nothing behind it ever waits for a client."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application."""
        if scope["method"] in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        body = bytearray()
        answer: ASGIApp
        try:
            if int(Headers(scope=scope).get("content-length", "0")) > DISCARDED:
                raise _TooLargeError
            with anyio.fail_after(PATIENCE):
                async for chunk in _chunks(receive):
                    self._held += len(chunk)
                    body += chunk
                    if self._held > HELD:
                        raise _FullError
            answer = self._app
            receive = _replay(bytes(body), receive)
        except _TooLargeError:
            answer = refusal(413, f"the body is larger than {LARGEST} bytes; send less", CLOSE)
        except TimeoutError:
            answer = refusal(408, f"the body did not come within {PATIENCE:.0f} s; send it again", CLOSE)
        except _FullError:
            answer = busy("too many large bodies at once; try again", CLOSE)
        except _GoneError:
            answer = _nothing
        try:
            await answer(scope, receive, send)
        finally:
            self._held -= len(body)


class Calls:
    """Bounds how many requests are at work, changes apart from reading: while the engine has too much to do, all that
    does not need it is still answered."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._at_work = {"reads": 0, "changes": 0}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application."""
        path: str = scope["path"]
        kind = "reads" if scope["method"] == "GET" else "changes"
        if not path.startswith("/api/") or path.endswith("/preview.mjpeg"):
            await self._app(scope, receive, send)
        elif self._at_work[kind] >= MOST[kind]:
            await busy(f"{MOST[kind]} {kind} are at work; try again")(scope, receive, send)
        else:
            self._at_work[kind] += 1
            try:
                await self._app(scope, receive, send)
            finally:
                self._at_work[kind] -= 1


class _TooLargeError(Exception):
    """The body is larger than anything we are asked for."""


class _FullError(Exception):
    """All bodies together are too large."""


class _GoneError(Exception):
    """The client is no longer there."""


async def _chunks(receive: Receive) -> AsyncIterator[bytes]:
    received, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _GoneError
        chunk: bytes = message.get("body", b"")
        more = message.get("more_body", False)
        received += len(chunk)
        if received > DISCARDED:
            raise _TooLargeError
        if received <= LARGEST:
            yield chunk
    if received > LARGEST:
        raise _TooLargeError


def _replay(body: bytes, receive: Receive) -> Receive:
    """Gives the body that has been received, then what comes."""
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return first.pop() if first else await receive()

    return replay


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers nobody."""
