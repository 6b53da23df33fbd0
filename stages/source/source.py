"""The Source protocol and ``open_source``: files, network streams, cameras and the built-in test source."""

import re
import stat
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote

from stages.errors import ConfigError, SourceError
from stages.source.container import InputUrl, Timeouts
from stages.source.ffmpeg import MediaSource
from stages.source.testsrc import ShapesSource
from stages.types import Frame

_LIVE = ("rtsp", "rtsps", "rtmp", "rtmps", "srt", "udp", "rtp", "tcp")
_HTTP = ("http", "https")
_LOCAL = ("file", "v4l2", "testsrc")
_HOST_PORT = re.compile(r"([\w.-]*|\[[\da-f:.]+\])(:\d+)?", re.IGNORECASE)
_SCHEMES = ("file", *_LIVE, *_HTTP, "v4l2", "testsrc")


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

    def frames(self) -> Iterator[Frame]:
        """The frames in order, to the end of the source. Raises SourceError when reading fails.

        ``index`` counts from 0 and includes dropped frames: the previous frame's ``index`` + 1 + ``dropped_before``.

        Raises SourceStalled when a live source sends nothing more. The end of a live source, with or without an error,
        is a disconnect: the caller opens it again.
        """

    def close(self) -> None:
        """Release the source; ``frames`` ends. Safe to call twice."""


def open_source(
    url: str, gpu: int | None = None, timeouts: Timeouts | None = None, pixel_aspect: Fraction | None = None
) -> Source:
    """Open a path or URL. Raises SourceError when it cannot be read, ConfigError when the URL is not valid.

    An ``http(s)://`` source is a file when its length is known, else live. ``gpu`` is the index of a GPU that decodes
    where it can; ``decoder`` says whether it does. When one of ``timeouts`` of a network source or device expires,
    SourceStalled is raised. ``pixel_aspect``: width over height of the pixels, None for what the source says; the
    built-in source, whose pixels are square, has no use for it.
    """
    if not url:
        raise ConfigError("the source is empty: give a file's path or a URL")
    scheme, separator, rest = url.partition("://")
    scheme = scheme.lower()
    timeouts = timeouts or Timeouts()
    if not separator:
        return _open_file(url, gpu, pixel_aspect)
    if scheme == "file":
        return _open_file(unquote(rest), gpu, pixel_aspect)
    if scheme == "testsrc":
        return ShapesSource(url)
    if scheme == "v4l2":
        return MediaSource(InputUrl(rest, url, False, "v4l2", timeouts), True, gpu, pixel_aspect)
    if scheme in (*_LIVE, *_HTTP):
        live = True if scheme in _LIVE else None
        return MediaSource(InputUrl(url, redact(url), False, None, timeouts), live, gpu, pixel_aspect)
    raise ConfigError(f"unknown scheme in {redact(url)}: use a file's path or one of {'://, '.join(_SCHEMES)}://")


def is_live(url: str) -> bool:
    """Whether the URL alone shows that the source is live; False for ``http(s)://``, which must be opened to know."""
    scheme, separator, rest = url.partition("://")
    if separator and scheme.lower() == "testsrc":
        return "live=1" in rest.partition("?")[2].split("&")
    return bool(separator) and scheme.lower() in (*_LIVE, "v4l2")


def redact(url: str) -> str:
    """A network URL without the parts that may be secret: scheme, host and port remain; a path stays as it is.

    Ambiguous parts are hidden, because a password may contain any of "/?#@".
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return _redact_path(url)
    if scheme.lower() in _LOCAL:
        return url
    host, hidden = re.match(r"([^/?#]*)(.*)", rest, re.DOTALL).groups()  # type: ignore[union-attr]
    host = host.rpartition("@")[2]
    if "@" in hidden or not _HOST_PORT.fullmatch(host):
        return f"{scheme}://***"
    return f"{scheme}://{host}{'/***' if hidden else ''}"


def _redact_path(path: str) -> str:
    """``path`` without secrets: a mistyped URL, as in ``rtsp:/host``, is taken for a path."""
    network = re.match(rf"({'|'.join((*_LIVE, *_HTTP))}):/", path, re.IGNORECASE)
    if network:
        return f"{network[0]}***"
    before, at, after = path.rpartition("@")
    return f"***@{after}" if at and re.search(r"[a-z][a-z0-9+.-]*:/", before, re.IGNORECASE) else path


def _open_file(path: str, gpu: int | None, pixel_aspect: Fraction | None) -> MediaSource:
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
    return MediaSource(InputUrl(f"file:{path}", redact(path), local=True), False, gpu, pixel_aspect)
