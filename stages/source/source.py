"""The Source protocol and ``open_source``: files, network streams, cameras and the built-in test source."""

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote

from stages.errors import SourceError
from stages.source.address import is_live, is_rtsp, normalized, redact
from stages.source.container import InputUrl
from stages.source.ffmpeg import MediaSource
from stages.source.patience import Timeouts
from stages.source.rtsp_transport import RtspTransport
from stages.source.testsrc import ShapesSource
from stages.types import Frame


class Source(Protocol):
    """A stream of frames. One thread reads it, once; any thread may call ``close``."""

    @property
    def live(self) -> bool:
        """True when frames arrive in real time and cannot wait; else the reader sets the pace."""

    @property
    def rate(self) -> float:
        """Nominal frames per second, > 0; 25.0 when the source gives none."""

    @property
    def frames_expected(self) -> int | None:
        """Approximate number of frames; None when endless or unknown, as for every camera."""

    @property
    def decode_errors(self) -> int:
        """Packets and frames so far that were too damaged to deliver."""

    @property
    def decoder(self) -> str:
        """The decoder in use: "cuda" or "software"."""

    @property
    def patience(self) -> float:
        """Seconds that a live source may be without a frame before it raises SourceStalled."""

    def frames(self) -> Iterator[Frame]:
        """The frames in order, to the end of the source. Raises SourceError when reading fails.

        ``index`` counts from 0 and includes dropped frames: the previous frame's ``index`` + 1 + ``dropped_before``.

        Raises SourceStalled when a live source sends nothing more. The end of a live source, with or without an error,
        is a disconnect: the caller opens it again.
        """

    def close(self) -> None:
        """Release the source; ``frames`` ends. Safe to call twice."""


def open_source(
    url: str, gpu: int | None = None, timeouts: Timeouts | None = None, transport: RtspTransport | None = None
) -> Source:
    """Open a path or URL. Raises SourceError when it cannot be read, ConfigError when that can never work.

    An ``http(s)://`` source is a file when its length is known, else live. ``gpu`` is the index of a GPU that decodes
    where it can; ``decoder`` says whether it does. When one of ``timeouts`` of a network source or device expires,
    SourceStalled is raised. ``transport``: of RTSP, the same object for each connection of a stream.
    """
    url = normalized(url)
    scheme, separator, rest = url.partition("://")
    scheme = scheme.lower()
    timeouts = timeouts or Timeouts()
    if not separator:
        return _open_file(url, gpu)
    if scheme == "file":
        return _open_file(unquote(rest), gpu)
    if scheme == "testsrc":
        return ShapesSource(url)
    if scheme == "v4l2":
        return MediaSource(InputUrl(rest, url, False, "v4l2", timeouts), live=True, gpu=gpu)
    rtsp = transport or RtspTransport() if is_rtsp(url) else None
    live = True if is_live(url) else None
    return MediaSource(InputUrl(url, redact(url), False, None, timeouts, rtsp), live, gpu)


def _open_file(path: str, gpu: int | None) -> MediaSource:
    """Open a regular file. Checks it first, because FFmpeg reports most problems only as invalid data."""
    problem = ""
    try:
        status = Path(path).stat()
        if stat.S_ISDIR(status.st_mode):
            problem = "it is a directory; name a video file in it"
        elif not stat.S_ISREG(status.st_mode):  # for example a pipe: opening it would block
            problem = "not a regular file; for a camera write v4l2:///dev/video0"
        elif not status.st_size:
            problem = "the file is empty; record or copy it again"
        else:
            Path(path).open("rb").close()
    except (OSError, ValueError) as error:  # ValueError: a null character
        reason = error.strerror if isinstance(error, OSError) else None
        problem = f"{(reason or 'not a path').lower()}; check the path and its permissions"
    if problem:
        raise SourceError(f"cannot open {redact(path)}: {problem}")
    # "file:" keeps FFmpeg from reading a part of the path as a protocol
    return MediaSource(InputUrl(f"file:{path}", redact(path), local=True), live=False, gpu=gpu)
