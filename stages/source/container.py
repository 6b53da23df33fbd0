"""Opening what FFmpeg reads, within bounded time, and saying in plain words why that failed."""

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
_THREADS = 4  # of one decoder, for slices of one picture: with threads for frames, damage costs their neighbours too
_ANALYSIS = {"analyzeduration": "2000000"}  # microseconds; the default, 5 s, can use up the time to open
_NO_DATA = "no video came, or not in time; check the address and that the sender is running"
_NO_VIDEO = "no video that FFmpeg can read, or cut off before its index; copy or export it again"
_TEXT_ART = ("ansi", "bintext", "idf", "xbin")  # FFmpeg draws any .txt or .bin as a terminal's screen
_TIME_OUTS = (av.error.ExitError, av.error.TimeoutError)
_REASONS: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...] = (
    (_TIME_OUTS, _NO_DATA),
    (av.error.ConnectionRefusedError, "connection refused; check host and port and that the server is running"),
    ((av.error.HTTPUnauthorizedError, av.error.HTTPForbiddenError), "access denied; check user and password"),
    (av.error.HTTPNotFoundError, "the server does not have it; check the path"),
    (av.error.ProtocolNotFoundError, "this build of FFmpeg lacks the protocol; use another one, such as rtsp"),
)
# PyAV before 19 fails on titles that are not UTF-8 unless it is told to replace what it cannot read
_ODD_METADATA = {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}

# FFmpeg's own messages repeat URLs with their passwords: none may leave, also where another library turns them on
av.logging.set_level(None)
_messages = logging.getLogger("libav")
_messages.addHandler(logging.NullHandler())
_messages.propagate = False


@dataclass(frozen=True, slots=True)
class Patience:
    """How many seconds a network or device may keep us waiting."""

    open: float = 5  # once to connect and once to learn what the stream is
    read: float = 3  # for the next packet; a stall shows after up to twice that
    picture: float = 10  # for a picture that can be decoded, while packets come


@dataclass(frozen=True, slots=True)
class Address:
    """What to open, and how to speak of it."""

    location: str  # as FFmpeg takes it; may hold a password
    name: str  # stands for it in messages
    local: bool  # a regular file, which needs no time-outs
    container_format: str | None = None  # None: FFmpeg finds out
    patience: Patience = Patience()

    def open(self, acceleration: HWAccel | None = None) -> InputContainer:
        """Raises SourceError; SourceStalled when nothing came in time."""
        begun = time.monotonic()
        options, timeout = {}, None
        if not self.local:
            options = _ANALYSIS | self._protocol_options()
            timeout = (self.patience.open, self.patience.read)
        try:
            container: InputContainer = av.open(
                self.location,
                "r",
                format=self.container_format,
                options=options,
                timeout=timeout,
                hwaccel=acceleration,
                **_ODD_METADATA,
            )
        except av.error.FFmpegError as error:
            failure = self.failure(f"cannot open {self.name}", error, time.monotonic() - begun)
        else:
            return container
        raise failure  # outside of "except": FFmpeg's error, which repeats the password, stays behind

    def failure(self, what: str, error: av.error.FFmpegError, waited: float) -> SourceError:
        """Reason and advice. Never FFmpeg's own text as a whole, which repeats the URL with its password."""
        if not self.local and (isinstance(error, _TIME_OUTS) or self.too_long(waited)):
            return SourceStalled(f"{what}: {_NO_DATA}")
        if isinstance(error, av.error.InvalidDataError):
            return SourceError(f"{what}: {_NO_VIDEO if self.local else _NO_DATA}")
        for kinds, reason in _REASONS:
            if isinstance(error, kinds):
                return SourceError(f"{what}: {reason}")
        reason = f"{(error.strerror or 'failed').lower()}; check the address and that it can be reached"
        return SourceError(f"{what}: {reason}")

    def too_long(self, waited: float) -> bool:
        """A failure after so many seconds is a time-out, whatever it is called: RTSP's may look like damage."""
        return not self.local and waited > min(2, self.patience.read)

    def _protocol_options(self) -> dict[str, str]:
        scheme = self.location.partition("://")[0].lower()
        if scheme in ("rtsp", "rtsps"):
            microseconds = round(self.patience.read * 1e6)
            return {"rtsp_transport": "tcp", "timeout": str(microseconds)}
        return {"overrun_nonfatal": "1"} if scheme == "udp" else {}  # lose packets rather than the stream


def best_video(container: InputContainer, name: str) -> VideoStream:
    """The stream to decode. Raises SourceError when there is none that can be."""
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
    """Frames per second; some streams say nothing, others 0 or their clock's 90,000."""
    return next((float(r) for r in (stream.average_rate, stream.guessed_rate) if r and 0 < r <= 1000), _GUESSED_RATE)


def length(container: InputContainer, stream: VideoStream, rate: float) -> int | None:
    """Number of frames, counted or from the duration; None if the container knows neither."""
    if stream.frames:
        return int(stream.frames)
    seconds = Fraction(container.duration or 0, av.time_base)
    if stream.duration and stream.time_base:
        seconds = stream.duration * stream.time_base
    return round(seconds * Fraction(rate)) or None
