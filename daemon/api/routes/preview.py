"""Route for a stream's pictures as motion JPEG, which browsers show in an image element."""

import threading
from collections.abc import Callable
from typing import Annotated

import anyio
from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Query, Request, Response
from starlette.types import Receive, Scope, Send

from daemon.api.access import BUSY, CONFLICT, INVALID, NOT_FOUND, ControlDep, Name
from daemon.api.errors import busy
from daemon.errors import ConflictError
from daemon.sinks.preview import Feed, Picture

MAX_VIEWERS = 16  # at a time; each takes a thread
PATIENCE = 5.0  # seconds for the newest picture: a slow stream makes one a second, some cameras send one in five
WAIT = 0.5  # seconds; the longest wait for a picture between two checks whether the server closes
_BOUNDARY = b"--frame"

PlainQuery = Annotated[
    bool,
    Query(
        description="Pictures without masks. Before each comes a part of type `application/json`: the header of the "
        "frame's `masks` message."
    ),
]

router = APIRouter(tags=["watch"], responses={**BUSY, **NOT_FOUND})


class Viewers:
    """Number of viewers and their threads. Previews end once ``closing`` is set."""

    def __init__(self, closing: threading.Event) -> None:
        self.closing = closing
        self.threads = CapacityLimiter(MAX_VIEWERS)
        self.count = 0


class MotionJpeg(Response):
    """Multipart response. Each part is followed at once by the next boundary: until then browsers do not show it."""

    media_type = "multipart/x-mixed-replace; boundary=frame"

    def __init__(self, feed: Feed, viewers: Viewers) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._feed = feed
        self._viewers = viewers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application. Answers 503 when there are MAX_VIEWERS already."""
        if self._viewers.count >= MAX_VIEWERS:
            await busy(f"{MAX_VIEWERS} previews are being watched; close one, or try again")(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        if scope.get("head"):
            await send({"type": "http.response.body", "body": b""})
            return
        self._viewers.count += 1
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_call_on_disconnect, receive, tasks.cancel_scope.cancel)
                await self._send_pictures(send)
                tasks.cancel_scope.cancel()
        finally:
            self._viewers.count -= 1

    async def _send_pictures(self, send: Send) -> None:
        async def send_body(part: bytes, more: bool = True) -> None:
            await send({"type": "http.response.body", "body": part, "more_body": more})

        number = 0
        await send_body(_BOUNDARY)
        with self._feed.watching():
            while not self._viewers.closing.is_set():
                try:
                    newest = await self._next_picture(number)
                except EOFError:
                    break
                if newest is not None:
                    number, picture = newest
                    await send_body(_parts(picture))
        await send_body(b"--\r\n", more=False)

    async def _next_picture(self, seen: int) -> tuple[int, Picture] | None:
        """The next picture and its number, as of ``Feed.next``, awaited in a thread."""
        wait = self._feed.next
        return await to_thread.run_sync(wait, seen, WAIT, limiter=self._viewers.threads, abandon_on_cancel=True)


def _parts(picture: Picture) -> bytes:
    """The picture as a part, after its masks as one if it has any."""
    masks = b"" if picture.masks is None else _part("application/json", picture.masks, picture)
    return masks + _part("image/jpeg", picture.jpeg, picture)


def _part(kind: str, body: bytes, of: Picture) -> bytes:
    head = f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\nX-Frame: {of.frame}\r\nX-Session: {of.session}"
    return b"\r\n" + head.encode() + b"\r\n\r\n" + body + b"\r\n" + _BOUNDARY


async def _call_on_disconnect(receive: Receive, callback: Callable[[], None]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    callback()


@router.get(
    "/api/streams/{name}/preview.mjpeg",
    summary="Pictures as they come",
    description="Motion JPEG for as long as the stream lasts; pictures are made only while somebody watches. "
    "Each part names its frame in the headers `X-Frame` and `X-Session`.",
    response_class=Response,
    responses={
        422: INVALID[422],
        200: {
            "description": "One JPEG after the other.",
            "content": {"multipart/x-mixed-replace": {"schema": {"type": "string", "format": "binary"}}},
        },
    },
)
def preview(name: Name, request: Request, control: ControlDep, plain: PlainQuery = False) -> MotionJpeg:
    """A response whose parts are pictures."""
    return MotionJpeg(control.preview(name).feed(plain), request.app.state.viewers)


@router.get(
    "/api/streams/{name}/frame.jpg",
    summary="The newest picture",
    description="Made when it is asked for; its headers `X-Frame` and `X-Session` name its frame. Of a stream that has "
    "ended it is the last that somebody has watched.",
    response_class=Response,
    responses={
        422: INVALID[422],
        **CONFLICT,
        200: {
            "description": "A JPEG.",
            "content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}},
        },
    },
)
def frame(name: Name, control: ControlDep, plain: PlainQuery = False) -> Response:
    """Waits for the next frame."""
    picture = control.preview(name).feed(plain).newest(PATIENCE)
    if picture is None:
        raise ConflictError(f'no picture of stream "{name}" has come; look whether it is up')
    headers = {"X-Frame": str(picture.frame), "X-Session": picture.session}
    return Response(picture.jpeg, media_type="image/jpeg", headers=headers)
