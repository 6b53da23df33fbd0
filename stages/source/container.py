"""Open a container with FFmpeg under timeouts; turn its errors into short messages."""

import logging
import time
from dataclasses import dataclass
from fractions import Fraction

import av
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.video.stream import VideoStream

from stages.errors import SourceError, SourceStalled

_GUESSED_RATE = 25.0
_THREADS = 4  # per decoder, slice threads: with frame threads a damaged frame also spoils its neighbours
_ANALYSIS = {"analyzeduration": "2000000"}  # microseconds; the default of 5 s can use up the timeout for opening
_NO_DATA = "no video came, or not in time; check the address and that the sender is running"
_NO_VIDEO = "no video that FFmpeg can read, or cut off before its index; copy or export it again"
_TEXT_ART = ("ansi", "bintext", "idf", "xbin")  # FFmpeg decodes any .txt or .bin as terminal art
_TIMEOUT_ERRORS = (av.error.ExitError, av.error.TimeoutError)
_REASONS: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...] = (
    (_TIMEOUT_ERRORS, _NO_DATA),
    (av.error.ConnectionRefusedError, "connection refused; check host and port and that the server is running"),
    ((av.error.HTTPUnauthorizedError, av.error.HTTPForbiddenError), "access denied; check user and password"),
    (av.error.HTTPNotFoundError, "the server does not have it; check the path"),
    (av.error.ProtocolNotFoundError, "this build of FFmpeg lacks the protocol; use another one, such as rtsp"),
)
# without this, PyAV before 19 fails on metadata that is not UTF-8
_ODD_METADATA = {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}

# FFmpeg's log messages contain URLs with passwords: silence them, even where another library enables libav logging
av.logging.set_level(None)
_messages = logging.getLogger("libav")
_messages.addHandler(logging.NullHandler())
_messages.propagate = False


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Timeouts of a network source or device, in seconds."""

    open: float = 5  # to connect, and again to detect the stream's format
    read: float = 3  # for the next packet; a stall is reported after up to twice this time
    decode: float = 10  # for a frame that can be decoded, while packets arrive


@dataclass(frozen=True, slots=True)
class InputUrl:
    """An FFmpeg input: its URL, its name in messages, and how to open it."""

    url: str  # may contain a password
    name: str  # replaces the URL in messages
    local: bool  # a regular file: needs no timeouts
    container_format: str | None = None  # None: FFmpeg detects it
    timeouts: Timeouts = Timeouts()

    def open(self, acceleration: HWAccel | None = None) -> InputContainer:
        """Open the container. Raises SourceError; SourceStalled when a timeout expires."""
        started = time.monotonic()
        options, timeout = {}, None
        if not self.local:
            options = _ANALYSIS | self._protocol_options()
            timeout = (self.timeouts.open, self.timeouts.read)
        try:
            container: InputContainer = av.open(
                self.url,
                "r",
                format=self.container_format,
                options=options,
                timeout=timeout,
                hwaccel=acceleration,
                **_ODD_METADATA,
            )
        except av.error.FFmpegError as error:
            failure = self.failure(f"cannot open {self.name}", error, time.monotonic() - started)
        else:
            return container
        raise failure  # outside of "except": FFmpeg's error contains the password and must not become its context

    def failure(self, what: str, error: av.error.FFmpegError, waited: float) -> SourceError:
        """The SourceError for ``error``: reason and advice, without FFmpeg's full text, which contains the password.

        ``waited``: seconds that the failed call took.
        """
        if not self.local and (isinstance(error, _TIMEOUT_ERRORS) or self.timed_out(waited)):
            return SourceStalled(f"{what}: {_NO_DATA}")
        if isinstance(error, av.error.InvalidDataError):
            return SourceError(f"{what}: {_NO_VIDEO if self.local else _NO_DATA}")
        for kinds, reason in _REASONS:
            if isinstance(error, kinds):
                return SourceError(f"{what}: {reason}")
        reason = f"{(error.strerror or 'failed').lower()}; check the address and that it can be reached"
        return SourceError(f"{what}: {reason}")

    def timed_out(self, waited: float) -> bool:
        """Whether a call that failed after ``waited`` seconds hit a timeout: RTSP may report one as damaged data."""
        return not self.local and waited > min(2, self.timeouts.read)

    def _protocol_options(self) -> dict[str, str]:
        scheme = self.url.partition("://")[0].lower()
        if scheme in ("rtsp", "rtsps"):
            microseconds = round(self.timeouts.read * 1e6)
            return {"rtsp_transport": "tcp", "timeout": str(microseconds)}
        return {"overrun_nonfatal": "1"} if scheme == "udp" else {}  # lose packets rather than the stream


def best_video_stream(container: InputContainer, name: str) -> VideoStream:
    """The video stream to decode. Raises SourceError when there is none, or no decoder for it."""
    stream = container.streams.best("video")
    if not isinstance(stream, VideoStream) or stream.disposition & av.stream.Disposition.attached_pic:
        raise SourceError(f"cannot open {name}: no video in it, perhaps only sound; name a file or stream with video")
    if stream.codec_context is None:
        raise SourceError(f"cannot open {name}: FFmpeg has no decoder for its video; convert it, for example to H.264")
    if stream.codec_context.name in _TEXT_ART:
        raise SourceError(f"cannot open {name}: {_NO_VIDEO}")
    stream.codec_context.thread_type = av.codec.context.ThreadType.SLICE
    stream.codec_context.thread_count = _THREADS
    return stream


def nominal_rate(stream: VideoStream) -> float:
    """Frames per second. Some streams give none; others give 0 or the rate of their clock, 90,000."""
    return next((float(r) for r in (stream.average_rate, stream.guessed_rate) if r and 0 < r <= 1000), _GUESSED_RATE)


def frame_count(container: InputContainer, stream: VideoStream, rate: float) -> int | None:
    """Number of frames from the container, else estimated from its duration; None if it has neither."""
    if stream.frames:
        return int(stream.frames)
    seconds = Fraction(container.duration or 0, av.time_base)
    if stream.duration and stream.time_base:
        seconds = stream.duration * stream.time_base
    return round(seconds * Fraction(rate)) or None
