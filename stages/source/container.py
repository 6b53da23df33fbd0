"""Open a container with FFmpeg under timeouts; turn its errors into short messages."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

import av
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.video.stream import VideoStream

from stages.errors import ConfigError, MaskcastError, SourceError, SourceStalled, SourceUnreachable
from stages.source.patience import Patience, Timeouts
from stages.source.rtsp_transport import RtspTransport
from stages.source.timing.timestamps import has_jumps

_GUESSED_RATE = 25.0
_THREADS = 4  # per decoder, slice threads: with frame threads a damaged frame also spoils its neighbours
_ANALYSIS = {"analyzeduration": "2000000"}  # microseconds; the default of 5 s can use up the timeout for opening
# a demuxer that makes up time stamps from this rate has analyzed enough after 2 frames instead of 50
_BARE_STREAM = {"framerate": "1"}
_SCHEME_OPTIONS = {
    "udp": _BARE_STREAM | {"overrun_nonfatal": "1"},  # lose packets rather than the stream
    "tcp": _BARE_STREAM,
    "srt": _BARE_STREAM,
    "http": _BARE_STREAM | {"live_start_index": "-1"},  # of HLS: begin with the newest segment
    "https": _BARE_STREAM | {"live_start_index": "-1"},
}
_NO_DATA = "no video came, or not in time; check the address and that the sender is running"
_NO_VIDEO = "no video that FFmpeg can read, or cut off before its index; copy or export it again"
_PAGE = "what it sent is no video that FFmpeg can read, perhaps a web page; look at it in a browser"
_TEXT_ART = ("ansi", "bintext", "idf", "xbin")  # FFmpeg decodes any .txt or .bin as terminal art
_LEAST_BYTES = {"mpegts": 188}  # of a frame
_LONGEST_TS = 2**32 / 90_000  # seconds, half of what MPEG counts: more is a step back that was taken for a wrap
_SLOW = 2.0  # seconds after which a call that fails has met a timeout
_TIMEOUT_ERRORS = (av.error.ExitError, av.error.TimeoutError)
_REASONS: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...] = (
    (_TIMEOUT_ERRORS, _NO_DATA),
    (av.error.ConnectionRefusedError, "connection refused; check host and port and that the server is running"),
    ((av.error.HTTPUnauthorizedError, av.error.HTTPForbiddenError), "access denied; check user and password"),
    (av.error.HTTPNotFoundError, "the server does not have it; check the path"),
)
# without this, PyAV before 19 fails on metadata that is not UTF-8
_ODD_METADATA = {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}

# FFmpeg's log messages contain URLs with passwords: silence them, even where another library enables libav logging
av.logging.set_level(None)
_messages = logging.getLogger("libav")
_messages.addHandler(logging.NullHandler())
_messages.propagate = False


class _OpenTimeout:
    """The open timeout of ``av.open``, which converts it to a float twice: to connect, then to detect the format."""

    def __init__(self, connect: float, detect: float) -> None:
        self.connected = False
        self._connect, self._detect = connect, detect
        self._conversions = 0

    def __float__(self) -> float:
        self._conversions += 1
        self.connected = self._conversions > 1
        return float(self._detect if self.connected else self._connect)


@dataclass(frozen=True, slots=True)
class InputUrl:
    """An FFmpeg input: its URL, its name in messages, and how to open it."""

    url: str  # may contain a password
    name: str  # replaces the URL in messages
    local: bool  # a regular file: needs no timeouts
    container_format: str | None = None  # None: FFmpeg detects it
    timeouts: Timeouts = Timeouts()
    transport: RtspTransport | None = None  # of RTSP
    options: Mapping[str, str] = field(default_factory=dict)  # of FFmpeg
    pixel_aspect: Fraction | None = None  # width over height of the pixels; None: what the stream says

    @property
    def lossy(self) -> bool:
        """Whether packets of the open container may be missing."""
        datagrams = self.url.partition("://")[0].lower() in ("udp", "rtp")
        return datagrams or (self.transport is not None and self.transport.order == ("udp",))

    def open(self, acceleration: HWAccel | None, read_timeout: Patience) -> InputContainer:
        """Open the container; ``read_timeout`` is taken anew by each of its ``demux()``.

        Raises SourceError, SourceStalled when a timeout expires, ConfigError for what can never be opened.
        """
        rtsp = self.transport
        failures = []
        for transport in (None,) if rtsp is None else rtsp.order:
            started = time.monotonic()
            opened = self._open(acceleration, read_timeout, transport)
            if isinstance(opened, InputContainer):
                if rtsp is not None and transport is not None:
                    rtsp.worked(transport)
                return opened
            late = time.monotonic() - started > min(_SLOW, 0.9 * self.timeouts.open)
            failures.append((opened, late, transport))
            if rtsp is None or late or not rtsp.may_differ(opened):
                break
        if rtsp is not None:
            rtsp.failed(tcp_refused=transport == "udp" and rtsp.refused(failures[0][0]))
            failures.sort(key=lambda failure: rtsp.refused(failure[0]))  # a refusal explains the least
        # outside of any "except": FFmpeg's error contains the password and must not become the context of ours
        raise self._failure(f"cannot open {self.name}", *failures[0])

    def broken_off(
        self, error: av.error.FFmpegError, waited: float, timeout: float, delivered: bool
    ) -> MaskcastError | None:
        """What to raise for ``error`` of a read that took ``waited`` seconds; None: damaged data, go on reading.

        RTSP may report an expired timeout as damaged data, and a camera is open before its first packet has come
        (``delivered`` is False).
        """
        late = not self.local and waited > min(_SLOW, 0.9 * timeout)
        if isinstance(error, av.error.InvalidDataError) and not late:
            return None
        transport = None
        if self.transport is not None and not delivered:
            [transport] = self.transport.order
            self.transport.failed()
        return self._failure(f"{self.name} broke off", error, late, transport)

    def _open(
        self, acceleration: HWAccel | None, read_timeout: Patience, transport: str | None
    ) -> InputContainer | av.error.FFmpegError:
        """Open over one transport: the container or what went wrong.

        RTSP mostly tells the format before the first picture. FFmpeg still waits for some, to measure their rate: of a
        slow camera not for long, unless the format is needed.
        """
        if self.local:
            return self._attempt(dict(self.options), None, acceleration)
        options = {**self.options} | _ANALYSIS | ({"rtsp_transport": transport} if transport else {})
        options |= _SCHEME_OPTIONS.get(self.url.partition("://")[0].lower(), {})
        connect, first = self.timeouts.open, self.timeouts.first
        for detect in (connect, first) if transport else (first,):
            timeout, started = _OpenTimeout(connect, detect), time.monotonic()
            opened = self._attempt(options, (timeout, read_timeout), acceleration)
            late = time.monotonic() - started > 0.9 * detect
            if isinstance(opened, InputContainer) or not (timeout.connected and late):
                break
        return opened

    def _attempt(
        self, options: dict[str, str], timeout: tuple[_OpenTimeout, Patience] | None, acceleration: HWAccel | None
    ) -> InputContainer | av.error.FFmpegError:
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
            return error
        return container

    def _failure(
        self, what: str, error: av.error.FFmpegError, late: bool, transport: str | None = None
    ) -> MaskcastError:
        """Reason and advice, without FFmpeg's full text, which contains the password. ``late``: a timeout expired."""
        if isinstance(error, av.error.ProtocolNotFoundError):
            return ConfigError(f"{what}: this build of FFmpeg lacks the protocol; use another one, such as rtsp")
        advice = "check that it plays elsewhere" if self.local else "check the address and that it can be reached"
        reason = f"{(error.strerror or 'failed').lower()}; {advice}"
        final = self.local or isinstance(error, (av.error.HTTPClientError, av.error.InvalidDataError))
        kind: type[SourceError] = SourceError if final else SourceUnreachable
        if not self.local and (isinstance(error, _TIMEOUT_ERRORS) or late):
            kind, reason = SourceStalled, self._silence(transport)
        elif isinstance(error, av.error.InvalidDataError):
            page = self.url.lower().startswith(("http:", "https:"))
            reason = _NO_VIDEO if self.local else _PAGE if page else self._silence(transport)
        elif self.transport and transport and self.transport.refused(error):
            reason = self.transport.refusal(transport)
        else:
            reason = next((said for kinds, said in _REASONS if isinstance(error, kinds)), reason)
        return kind(f"{what}: {reason}")

    def _silence(self, transport: str | None) -> str:
        said = self.transport.silence(transport) if self.transport and transport else None
        return said or _NO_DATA


def best_video_stream(container: InputContainer, name: str, lossy: bool) -> VideoStream:
    """The video stream to decode. Raises SourceError when there is none, or no decoder for it.

    ``lossy``: packets may be missing.
    """
    stream = container.streams.best("video")
    if not isinstance(stream, VideoStream) or stream.disposition & av.stream.Disposition.attached_pic:
        sound = next((other.codec_context for other in container.streams.audio if other.codec_context), None)
        only = f", only sound ({sound.codec.canonical_name})" if sound else ""
        raise SourceError(f"cannot open {name}: no video in it{only}; name a file or stream with video")
    if stream.codec_context is None:
        raise SourceError(f"cannot open {name}: FFmpeg has no decoder for its video; convert it, for example to H.264")
    if stream.codec_context.name in _TEXT_ART:
        raise SourceError(f"cannot open {name}: {_NO_VIDEO}")
    stream.codec_context.thread_type = av.codec.context.ThreadType.SLICE
    # with more than one, H.264 is decoded without a check for what is missing: frames would be damaged and not say so
    stream.codec_context.thread_count = 1 if lossy else _THREADS
    return stream


def nominal_rate(stream: VideoStream, clocked: bool) -> float:
    """Frames per second. Some streams give none; others give 0 or the rate of their clock, 90,000.

    ``clocked``: the format has a clock; else its rate is the one of ``_BARE_STREAM``, and only the codec's may be true.
    """
    rates = (stream.average_rate, stream.guessed_rate) if clocked else (stream.guessed_rate,)
    return next((float(rate) for rate in rates if rate and 0 < rate <= 1000), _GUESSED_RATE)


def frame_count(container: InputContainer, stream: VideoStream, rate: float) -> int | None:
    """Number of frames from the container, else estimated from its duration; None if it has neither, or none possible.

    In joined recordings a jump of the time stamps looks like a long duration.
    """
    seconds = Fraction(container.duration or 0, av.time_base)
    if stream.duration and stream.time_base:
        seconds = stream.duration * stream.time_base
    frames = int(stream.frames) or round(seconds * Fraction(rate))
    size = container.size or 0  # bytes, not positive where unknown
    too_many = 0 < size < frames * _LEAST_BYTES.get(container.format.name, 1)
    wrapped = not stream.frames and has_jumps(container.format) and seconds > _LONGEST_TS
    return None if too_many or wrapped else frames or None
