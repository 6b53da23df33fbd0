"""Route for a stream's annotated pictures as motion JPEG, which browsers show in an image element."""

import threading
from collections.abc import Callable

import anyio
from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Request, Response
from starlette.types import Receive, Scope, Send

from daemon.api.access import BUSY, NOT_FOUND, ControlDep, Name
from daemon.api.errors import busy
from daemon.sinks.preview import Preview

MAX_VIEWERS = 16  # at a time; each takes a thread
WAIT = 0.5  # seconds; the longest wait for a picture between two checks whether the server closes
_BOUNDARY = b"--frame"

router = APIRouter(tags=["watch"], responses={**BUSY, **NOT_FOUND})


class Viewers:
    """Number of viewers and their threads. Previews end once ``closing`` is set."""

    def __init__(self, closing: threading.Event) -> None:
        self.closing = closing
        self.threads = CapacityLimiter(MAX_VIEWERS)
        self.count = 0


class MotionJpeg(Response):
    """Multipart response. Each picture is followed at once by the next boundary: until then browsers do not show it."""

    media_type = "multipart/x-mixed-replace; boundary=frame"

    def __init__(self, preview: Preview, viewers: Viewers) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._preview = preview
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
        with self._preview.watching():
            while not self._viewers.closing.is_set():
                try:
                    picture = await self._next_picture(number)
                except EOFError:
                    break
                if picture is not None:
                    number, jpeg = picture
                    header = f"\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n".encode()
                    await send_body(header + jpeg + b"\r\n" + _BOUNDARY)
        await send_body(b"--\r\n", more=False)

    async def _next_picture(self, seen: int) -> tuple[int, bytes] | None:
        """The next picture and its number, as of ``Preview.next``, awaited in a thread."""
        wait = self._preview.next
        return await to_thread.run_sync(wait, seen, WAIT, limiter=self._viewers.threads, abandon_on_cancel=True)


async def _call_on_disconnect(receive: Receive, callback: Callable[[], None]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    callback()


@router.get(
    "/api/streams/{name}/preview.mjpeg",
    summary="Annotated pictures",
    description="Motion JPEG for as long as the stream lasts; pictures are made only while somebody watches.",
    response_class=Response,
    responses={
        200: {
            "description": "One JPEG after the other.",
            "content": {"multipart/x-mixed-replace": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
def preview(name: Name, request: Request, control: ControlDep) -> MotionJpeg:
    """A response whose parts are pictures."""
    return MotionJpeg(control.preview(name), request.app.state.viewers)
