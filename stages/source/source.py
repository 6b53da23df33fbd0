"""Where frames come from: one word for files, network streams, cameras and the built-in test source."""

import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote

from stages.errors import ConfigError, SourceError
from stages.source.container import Address, Patience
from stages.source.ffmpeg import MediaSource
from stages.source.testsrc import ShapesSource
from stages.types import Frame

_LIVE = ("rtsp", "rtsps", "rtmp", "rtmps", "srt", "udp", "rtp", "tcp")
_HTTP = ("http", "https")
_LOCAL = ("file", "v4l2", "testsrc")
_PLACE = re.compile(r"([\w.-]*|\[[\da-f:.]+\])(:\d+)?", re.IGNORECASE)  # host and port
_SCHEMES = ("file", *_LIVE, *_HTTP, "v4l2", "testsrc")


class Source(Protocol):
    """A stream of frames, read once, by one thread; ``close`` may be called from any other."""

    @property
    def live(self) -> bool:
        """True when frames come at their own pace and cannot wait; else the reader may hold the source back."""

    @property
    def rate(self) -> float:
        """Nominal frames per second, > 0; 25.0 when the source does not say."""

    @property
    def frames_expected(self) -> int | None:
        """About how many frames will come; None when endless or unknown, as of every camera."""

    @property
    def decode_errors(self) -> int:
        """Packets and pictures that were too damaged to deliver, so far."""

    @property
    def decoder(self) -> str:
        """What decodes: "cuda" or "software"."""

    def frames(self) -> Iterator[Frame]:
        """The frames in order; ends with the source. Raises SourceError when reading fails.

        ``index`` counts from 0, lost frames too: it is the last frame's, plus 1, plus ``dropped_before``.

        A live source that falls silent raises SourceStalled. Its end, of whatever kind, is a disconnect: whoever
        wants more opens it again.
        """

    def close(self) -> None:
        """Release the source; ``frames`` ends. Safe to call twice."""


def open_source(url: str, hardware: int | None = None, patience: Patience | None = None) -> Source:
    """Open a path or URL. Raises SourceError when it cannot be read, ConfigError when it makes no sense.

    An ``http(s)://`` source is a file when its length is known and live when it is not. With ``hardware``, a GPU's
    index, that one decodes where it can; ``decoder`` says whether it does. ``patience`` bounds the waiting for networks
    and devices: then SourceStalled.
    """
    if not url:
        raise ConfigError("the source is empty: give a file's path or a URL")
    scheme, separator, rest = url.partition("://")
    scheme = scheme.lower()
    patience = patience or Patience()
    if not separator:
        return _open_file(url, hardware)
    if scheme == "file":
        return _open_file(unquote(rest), hardware)
    if scheme == "testsrc":
        return ShapesSource(url)
    if scheme == "v4l2":
        return MediaSource(Address(rest, url, False, "v4l2", patience), live=True, hardware=hardware)
    if scheme in (*_LIVE, *_HTTP):
        live = True if scheme in _LIVE else None
        return MediaSource(Address(url, redact(url), False, None, patience), live, hardware)
    raise ConfigError(f"unknown scheme in {redact(url)}: use a file's path or one of {'://, '.join(_SCHEMES)}://")


def is_live(url: str) -> bool:
    """Whether the source is live for certain, before it is opened; ``http(s)://`` shows only then."""
    scheme, separator, rest = url.partition("://")
    if separator and scheme.lower() == "testsrc":
        return "live=1" in rest.partition("?")[2].split("&")
    return bool(separator) and scheme.lower() in (*_LIVE, "v4l2")


def redact(url: str) -> str:
    """A network's URL without what may be secret, which leaves scheme, host and port; a path as it is.

    What cannot be told apart is hidden: a password may itself hold any of "/?#@".
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return _redact_path(url)
    if scheme.lower() in _LOCAL:
        return url
    place, hidden = re.match(r"([^/?#]*)(.*)", rest, re.DOTALL).groups()  # type: ignore[union-attr]
    place = place.rpartition("@")[2]
    if "@" in hidden or not _PLACE.fullmatch(place):
        return f"{scheme}://***"
    return f"{scheme}://{place}{'/***' if hidden else ''}"


def _redact_path(path: str) -> str:
    """Also a URL may end up as a path, if one character in it is wrong."""
    network = re.match(rf"({'|'.join((*_LIVE, *_HTTP))}):/", path, re.IGNORECASE)
    if network:
        return f"{network[0]}***"
    before, at, after = path.rpartition("@")
    return f"***@{after}" if at and re.search(r"[a-z][a-z0-9+.-]*:/", before, re.IGNORECASE) else path


def _open_file(path: str, hardware: int | None) -> MediaSource:
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
        raise SourceError(f"cannot open {redact(path)}: {problem}")
    # behind "file:" no part of a path is taken for a protocol
    return MediaSource(Address(f"file:{path}", redact(path), local=True), live=False, hardware=hardware)
