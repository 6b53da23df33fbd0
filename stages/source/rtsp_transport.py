"""How the pictures of one RTSP stream travel: within its TCP connection, or as UDP datagrams."""

import errno
from typing import Literal

import av

Transport = Literal["auto", "tcp", "udp"]

# answers to SETUP that another transport may change; a camera may also hang up
_REFUSALS = (
    av.error.HTTPBadRequestError,
    av.error.HTTPOtherClientError,
    av.error.HTTPServerError,
    av.error.InvalidDataError,
    av.error.EOFError,
    av.error.ConnectionResetError,
    av.error.BrokenPipeError,
)


class RtspTransport:
    """Which transports to try, in order. One object serves all connections of a stream, one at a time.

    "auto" is TCP, which loses nothing, and UDP where the camera refuses TCP. What has worked is tried alone by the next
    connection; once it fails, all are tried again.
    """

    def __init__(self, wanted: Transport = "auto") -> None:
        self._wanted: Transport = wanted
        self._order = self._all

    @property
    def order(self) -> tuple[str, ...]:
        """The transports to try for the next connection."""
        return self._order

    def worked(self, transport: str) -> None:
        """A connection is open over ``transport``."""
        self._order = (transport,)

    def failed(self, tcp_refused: bool = False) -> None:
        """Nothing could be opened, or no packet came. ``tcp_refused``: the camera has said that it wants UDP."""
        # some cameras need a pause after a refusal: then UDP is the first to be tried after it
        self._order = ("udp", "tcp") if tcp_refused and self._order == self._all else self._all

    @property
    def _all(self) -> tuple[str, ...]:
        return ("tcp", "udp") if self._wanted == "auto" else (self._wanted,)

    def may_differ(self, error: av.error.FFmpegError) -> bool:
        """Whether another transport may succeed where this one has failed with ``error``."""
        return self.refused(error) or isinstance(error, _REFUSALS)

    def refused(self, error: av.error.FFmpegError) -> bool:
        """Whether the camera has refused the transport (RTSP status 461)."""
        return bool(error.errno == errno.EPROTONOSUPPORT)

    def refusal(self, transport: str) -> str:
        """What to say where the camera has refused ``transport``, the last that was tried."""
        if self._wanted == "auto":
            return "the camera refuses to send over TCP and over UDP; check its settings for RTSP"
        other = {"tcp": "udp", "udp": "tcp"}[transport]
        return f'the camera refuses to send over {transport.upper()}; set transport = "{other}" or "auto"'

    def silence(self, transport: str) -> str | None:
        """What to say where nothing came over ``transport``; None: the same as of any source."""
        if transport != "udp":
            return None
        if self._wanted == "auto":
            why, advice = "the camera refuses to send over TCP, and over UDP", ""
        else:
            why, advice = "over UDP", ', or set transport = "tcp"'
        return f"{why} no packet came, or not in time; check that no firewall holds UDP back{advice}"
