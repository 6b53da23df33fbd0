"""A stream's annotated pictures as motion JPEG, which every browser shows as an image."""

import threading
from collections.abc import Callable

import anyio
from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Request, Response
from starlette.types import Receive, Scope, Send

from daemon.api.access import BUSY, UNKNOWN, Name, Steered
from daemon.api.errors import busy
from daemon.sinks.preview import Preview

MOST = 16  # that may watch at a time, each with a thread
LOOK = 0.5  # seconds between two looks whether anybody still watches
_BOUNDARY = b"--frame"

router = APIRouter(tags=["watch"], responses={**BUSY, **UNKNOWN})


class Watching:
    """Who watches. Previews end once ``closing`` is set."""

    def __init__(self, closing: threading.Event) -> None:
        self.closing = closing
        self.threads = CapacityLimiter(MOST)
        self.count = 0


class MotionJpeg(Response):
    """Each part is followed at once by the next boundary: browsers show a picture only when they see it end."""

    media_type = "multipart/x-mixed-replace; boundary=frame"

    def __init__(self, preview: Preview, watching: Watching) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._preview = preview
        self._watching = watching

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application. Whoever asks when too many watch is told to come back."""
        if self._watching.count >= MOST:
            await busy(f"{MOST} previews are being watched; close one, or try again")(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        if scope.get("head"):
            await send({"type": "http.response.body", "body": b""})
            return
        self._watching.count += 1
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_until_gone, receive, tasks.cancel_scope.cancel)
                await self._show(send)
                tasks.cancel_scope.cancel()
        finally:
            self._watching.count -= 1

    async def _show(self, send: Send) -> None:
        async def body(part: bytes, more: bool = True) -> None:
            await send({"type": "http.response.body", "body": part, "more_body": more})

        number = 0
        await body(_BOUNDARY)
        with self._preview.watching():
            while not self._watching.closing.is_set():
                try:
                    picture = await self._next(number)
                except EOFError:
                    break
                if picture is not None:
                    number, jpeg = picture
                    header = f"\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n".encode()
                    await body(header + jpeg + b"\r\n" + _BOUNDARY)
        await body(b"--\r\n", more=False)

    async def _next(self, seen: int) -> tuple[int, bytes] | None:
        wait = self._preview.next
        return await to_thread.run_sync(wait, seen, LOOK, limiter=self._watching.threads, abandon_on_cancel=True)


async def _until_gone(receive: Receive, then: Callable[[], None]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    then()


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
def preview(name: Name, request: Request, control: Steered) -> MotionJpeg:
    """Once it is there, whatever comes is a picture."""
    return MotionJpeg(control.preview(name), request.app.state.watching)
