"""The Source protocol and ``open_source``: files, network streams, cameras and the built-in test source."""

import os
from collections.abc import Iterator
from fractions import Fraction
from typing import Protocol
from urllib.parse import unquote_to_bytes

from stages.errors import ConfigError
from stages.source.address import is_live, is_rtsp, normalized, redact
from stages.source.container import InputUrl
from stages.source.ffmpeg import MediaSource
from stages.source.local.local_file import open_path
from stages.source.local.spelling import advice
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
    url: str,
    gpu: int | None = None,
    timeouts: Timeouts | None = None,
    transport: RtspTransport | None = None,
    max_fps: float = 0.0,
    pixel_aspect: Fraction | None = None,
) -> Source:
    """Open a path or URL. Raises SourceError when it cannot be read, ConfigError when that can never work.

    An ``http(s)://`` source is a file when its length is known, else live; one that gives a single picture is asked for
    one ``max_fps`` times per second, by default once. ``gpu`` is the index of a GPU that decodes where it can;
    ``decoder`` says whether it does. When one of ``timeouts`` of a network source or device expires, SourceStalled is
    raised. ``transport``: of RTSP, the same object for each connection of a stream. ``pixel_aspect``: width over height
    of the pixels of a video, None for what it says.
    """
    if "://" in url and (problem := advice(url)):
        raise ConfigError(f"cannot open {redact(url)}: {problem}")
    url = normalized(url)
    scheme, separator, rest = url.partition("://")
    scheme = scheme.lower()
    timeouts = timeouts or Timeouts()
    if not separator:
        return open_path(url, redact(url), gpu, timeouts, pixel_aspect)
    if scheme == "file":
        return open_path(os.fsdecode(unquote_to_bytes(rest)), url, gpu, timeouts, pixel_aspect)
    if scheme == "testsrc":
        return ShapesSource(url)
    if scheme == "v4l2":
        device = InputUrl(rest, url, False, "v4l2", timeouts, pixel_aspect=pixel_aspect)
        return MediaSource(device, live=True, gpu=gpu)
    rtsp = transport or RtspTransport() if is_rtsp(url) else None
    address = InputUrl(url, redact(url), False, None, timeouts, rtsp, pixel_aspect=pixel_aspect)
    return MediaSource(address, live=True, gpu=gpu) if is_live(url) else _open_http(address, gpu, max_fps)


def _open_http(address: InputUrl, gpu: int | None, max_fps: float) -> Source:
    """A file, a live stream or a camera's snapshots."""
    source = MediaSource(address, live=None, gpu=gpu)
    if not source.still:
        return source
    # only such a camera needs requests, which takes a tenth of a second to import
    from stages.source.stills.snapshots import Snapshots

    source.close()  # before the next request: some cameras serve one at a time
    snapshots = Snapshots(address, max_fps)
    return snapshots if snapshots.single_pictures() else MediaSource(address, live=True, gpu=gpu)
