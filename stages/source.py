"""Where frames come from: one word for files, network streams, cameras and the built-in test source."""

import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote

from stages.errors import ConfigError, SourceError
from stages.media import MediaSource
from stages.shapes_source import ShapesSource
from stages.types import Frame

_LIVE = ("rtsp", "rtsps", "rtmp", "rtmps", "srt", "udp", "rtp", "tcp")
_HTTP = ("http", "https")
_SCHEMES = ("file", *_LIVE, *_HTTP, "v4l2", "testsrc")


class Source(Protocol):
    """A stream of frames, read once, by one thread; ``close`` may be called from any other."""

    @property
    def live(self) -> bool:
        """True when frames come at their own pace and cannot wait."""

    @property
    def lossless(self) -> bool:
        """True when the reader may hold the source back: the opposite of ``live``."""

    @property
    def rate(self) -> float:
        """Nominal frames per second, > 0; 25.0 when the source does not say."""

    @property
    def frames_expected(self) -> int | None:
        """About how many frames will come; None when live, endless or unknown."""

    @property
    def decode_errors(self) -> int:
        """Packets and pictures that were too damaged to deliver, so far."""

    def frames(self) -> Iterator[Frame]:
        """The frames in order, ``index`` from 0; ends with the source. Raises SourceError when reading fails."""

    def close(self) -> None:
        """Release the source; ``frames`` ends. Safe to call twice."""


def open_source(url: str) -> Source:
    """Open a path or URL. Raises SourceError when it cannot be read, ConfigError when it makes no sense.

    An ``http(s)://`` source is a file when its length is known and live when it is not.
    """
    if not url:
        raise ConfigError("the source is empty: give a file's path or a URL")
    scheme, separator, rest = url.partition("://")
    scheme = scheme.lower()
    if not separator:
        return _open_file(url)
    if scheme == "file":
        return _open_file(unquote(rest))
    if scheme == "testsrc":
        return ShapesSource(url)
    if scheme == "v4l2":
        return MediaSource(rest, name=url, live=True, container_format="v4l2")
    if scheme in _LIVE:
        return MediaSource(url, name=redact(url), live=True)
    if scheme in _HTTP:
        return MediaSource(url, name=redact(url), live=None)
    raise ConfigError(f"unknown scheme in {redact(url)}: use a file's path or one of {'://, '.join(_SCHEMES)}://")


def redact(url: str) -> str:
    """The URL without what may be secret: user, password and query. Paths stay as they are."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme == "testsrc":
        return url
    # a password may itself hold any of "/?#", so all up to the last "@" goes
    _, at, place = rest.rpartition("@")
    shown, query = re.match(r"([^?#]*)(.*)", place, re.DOTALL).groups()  # type: ignore[union-attr]
    return f"{scheme}://{'***@' if at else ''}{shown}{'?***' if query else ''}"


def _open_file(path: str) -> MediaSource:
    """Say what is wrong with a file before FFmpeg, to which most of it is just invalid data."""
    problem = ""
    try:
        status = Path(path).stat()
        if stat.S_ISDIR(status.st_mode):
            problem = "it is a directory; name a video file in it"
        elif not stat.S_ISREG(status.st_mode):  # opening a pipe would block
            problem = "not a regular file; for a camera write v4l2:///dev/video0"
        elif not status.st_size:
            problem = "the file is empty; record or copy it again"
        else:
            Path(path).open("rb").close()
    except (OSError, ValueError) as error:  # ValueError: a null character
        reason = error.strerror if isinstance(error, OSError) else None
        problem = f"{(reason or 'not a path').lower()}; check the path and its permissions"
    if problem:
        raise SourceError(f"cannot open {path}: {problem}")
    # behind "file:" no part of a path is taken for a protocol
    return MediaSource(f"file:{path}", name=path, live=False)
