"""Answers with a part of a file, as players ask for (RFC 9110, 14): one range of bytes, or all of it."""

import re
from collections.abc import Iterator

from starlette.responses import Response, StreamingResponse

from daemon.api.errors import refusal
from daemon.events.clips import Clip

CHUNK = 256 << 10  # bytes
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


def answer(clip: Clip, asked: str | None, only_if: str | None) -> Response:
    """``clip``, or the part of it that the header Range asks for; 416 where that lies beyond its end.

    ``only_if`` is the header If-Range. A range that is none, or several, are answered with the whole, as that allows.
    """
    tag = f'"{clip.tag}"'
    headers = {"Accept-Ranges": "bytes", "ETag": tag}
    match = _RANGE.fullmatch(asked.strip()) if asked is not None and only_if in (None, tag) else None
    if match is None or match[0] == "bytes=-":
        return _part(clip, 0, clip.size, 200, headers)
    first, last = match[1], match[2]
    if first:
        start, stop = int(first), min(int(last) + 1, clip.size) if last else clip.size
        if last and int(last) < int(first):
            return _part(clip, 0, clip.size, 200, headers)
    else:
        start, stop = max(0, clip.size - int(last)), clip.size
    if start >= stop:
        gone = {"Content-Range": f"bytes */{clip.size}"}
        return refusal(416, f"the clip has {clip.size} bytes; ask for a part of those", gone)
    return _part(clip, start, stop, 206, headers | {"Content-Range": f"bytes {start}-{stop - 1}/{clip.size}"})


def _part(clip: Clip, start: int, stop: int, status: int, headers: dict[str, str]) -> Response:
    def chunks() -> Iterator[bytes]:
        for place in range(start, stop, CHUNK):
            yield clip.read(place, min(CHUNK, stop - place))

    headers = headers | {"Content-Length": str(stop - start)}
    return StreamingResponse(chunks(), status, headers, media_type="video/mp4")
