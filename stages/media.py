"""PyAV: video files, network streams and cameras, all that FFmpeg opens."""

import threading
import time
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import cast

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from stages.errors import SourceError
from stages.types import Clock, Frame, Image

_GUESSED_RATE = 25.0
_THREADS = 4  # of one decoder, for slices of one picture: with threads for frames, damage costs their neighbours too
_OPEN_SECONDS, _READ_SECONDS, _STALL_SECONDS = 5, 4, 2
_ANALYSIS = {"analyzeduration": "2000000"}  # microseconds; the default, 5 s, can use up the time to open
_OPTIONS = {
    "rtsp": {"rtsp_transport": "tcp", "timeout": "3000000"},
    "rtsps": {"rtsp_transport": "tcp", "timeout": "3000000"},
    "udp": {"overrun_nonfatal": "1"},  # lose packets rather than the stream
}
_NO_DATA = "no video came, or not in time; check the address and that the sender is running"
_NO_VIDEO = "no video that FFmpeg can read, or cut off before its index; copy or export it again"
_TEXT_ART = ("ansi", "bintext", "idf", "xbin")  # FFmpeg draws any .txt or .bin as a terminal's screen
_NEW_COUNT_SECONDS = 1
_READ_ATTEMPTS = 100  # failures in a row after which a damaged container counts as ended
_REASONS: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...] = (
    ((av.error.ExitError, av.error.TimeoutError), _NO_DATA),
    (av.error.ConnectionRefusedError, "connection refused; check host and port and that the server is running"),
    ((av.error.HTTPUnauthorizedError, av.error.HTTPForbiddenError), "access denied; check user and password"),
    (av.error.HTTPNotFoundError, "the server does not have it; check the path"),
    (av.error.ProtocolNotFoundError, "this build of FFmpeg lacks the protocol; use another one, such as rtsp"),
)
# PyAV before 19 fails on titles that are not UTF-8 unless it is told to replace what it cannot read
_ODD_METADATA = {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}


class MediaSource:
    """One video stream of a file, URL or device. A Source (see stages.source).

    Files: ``captured_at`` is the presentation time since the first frame, clock ``file``. Live: the wall time when
    the packet arrived, clock ``arrival``. Damaged packets and pictures are skipped and counted in ``decode_errors``;
    the next frame carries them in ``dropped_before``.
    """

    def __init__(self, location: str, name: str, live: bool | None, container_format: str | None = None) -> None:
        """Open ``location``; ``name`` stands for it in messages. ``live`` None: live if its duration is unknown."""
        self._name = name
        self._local = live is False
        options, timeout = {}, None
        if not self._local:
            options = _ANALYSIS | _OPTIONS.get(location.partition("://")[0].lower(), {})
            timeout = (_OPEN_SECONDS, _READ_SECONDS)
        try:
            self._container = av.open(
                location, "r", format=container_format, options=options, timeout=timeout, **_ODD_METADATA
            )
        except av.error.FFmpegError as error:
            raise SourceError(f"cannot open {name}: {self._explain(error)}") from None
        self._stream = self._video_stream()
        self.live = not self._container.duration if live is None else live
        self.lossless = not self.live
        self.rate = _rate(self._stream)
        self.frames_expected = None if self.live else _length(self._container, self._stream, self.rate)
        self.decode_errors = 0
        self._clock = _FileClock(self.rate)
        self._delivered = 0
        self._errors_seen = 0  # of decode_errors, those that a frame's dropped_before has told
        self._packets = self._container.demux(self._stream)
        self._reformatter = VideoReformatter()
        self._closed = threading.Event()
        self._in_use = threading.Lock()  # FFmpeg must not be closed in the middle of a read

    def frames(self) -> Iterator[Frame]:
        """The frames in order. SourceError when the source breaks off or a file holds no readable picture."""
        try:
            while (frames := self._read()) is not None:
                yield from frames
            if not (self._delivered or self.live or self._closed.is_set()):
                raise SourceError(f"{self._name}: no picture in it could be decoded; check that it plays elsewhere")
        finally:
            self.close()

    def close(self) -> None:
        """Release the source; a read in progress ends first, a live one within seconds."""
        self._closed.set()
        if self._in_use.acquire(blocking=False):
            self._container.close()
            self._in_use.release()

    def _video_stream(self) -> VideoStream:
        stream = self._container.streams.best("video")
        if not isinstance(stream, VideoStream) or stream.disposition & av.stream.Disposition.attached_pic:
            raise self._useless("no video in it, perhaps only sound; name a file or stream with video")
        if stream.codec_context is None:
            raise self._useless("FFmpeg has no decoder for its video; convert it, for example to H.264")
        if stream.codec_context.name in _TEXT_ART:
            raise self._useless(_NO_VIDEO)
        stream.codec_context.thread_type = av.codec.context.ThreadType.SLICE
        stream.codec_context.thread_count = _THREADS
        return stream

    def _useless(self, reason: str) -> SourceError:
        self._container.close()
        return SourceError(f"cannot open {self._name}: {reason}")

    def _explain(self, error: av.error.FFmpegError) -> str:
        """Reason and advice. Never FFmpeg's own text as a whole, which repeats the URL with its password."""
        if isinstance(error, av.error.InvalidDataError):
            return _NO_VIDEO if self._local else _NO_DATA
        for kinds, reason in _REASONS:
            if isinstance(error, kinds):
                return reason
        return f"{(error.strerror or 'failed').lower()}; check the address and that it can be reached"

    def _read(self) -> list[Frame] | None:
        """What the next packet brings: often one frame, sometimes none or several; None at the end."""
        with self._in_use:
            if self._closed.is_set():
                self._container.close()
                return None
            packet = self._next_packet()
            if packet is None:
                return None
            arrived_at = time.time()
            try:
                pictures = packet.decode()
            except av.error.FFmpegError:
                self._count_error()
                return []
            return [frame for picture in pictures if (frame := self._frame(picture, arrived_at))]

    def _next_packet(self) -> "Packet[VideoStream] | None":
        for _ in range(_READ_ATTEMPTS):
            begun = time.monotonic()
            try:
                return next(self._packets, None)
            except av.error.FFmpegError as error:
                # RTSP's time-out may look like damage too, but is not to be tried again
                stalled = not self._local and time.monotonic() - begun > _STALL_SECONDS
                if stalled or not isinstance(error, av.error.InvalidDataError):
                    raise SourceError(f"{self._name} broke off: {self._explain(error)}") from None
                self._count_error()
                self._packets = self._container.demux(self._stream)
        return None

    def _count_error(self) -> None:
        # until its first key picture a live stream that was joined in the middle cannot be decoded
        if self._delivered or not self.live:
            self.decode_errors += 1

    def _frame(self, picture: VideoFrame, arrived_at: float) -> Frame | None:
        """The picture as a Frame, or None if it is damaged."""
        time_base = picture.time_base or self._stream.time_base or Fraction(1, av.time_base)
        image = self._image(picture)
        if image is None:
            self._count_error()
            return None
        since_start = self._clock.seconds(picture.pts, time_base)
        dropped, self._errors_seen = self.decode_errors - self._errors_seen, self.decode_errors
        self._delivered += 1
        return Frame(
            index=self._delivered - 1,
            pts=picture.pts,
            time_base=time_base,
            captured_at=arrived_at if self.live else since_start,
            clock=Clock.ARRIVAL if self.live else Clock.FILE,
            image=image,
            dropped_before=dropped,
        )

    def _image(self, picture: VideoFrame) -> Image | None:
        """uint8 (H, W, 3) RGB, contiguous, turned as the container's display matrix says; None if damaged."""
        if picture.is_corrupt:  # delivered, it would make false objects
            return None
        try:
            # one thread: a pool of threads for each stream costs more than it gains
            rgb = self._reformatter.reformat(picture, format="rgb24", threads=1)
        except av.error.FFmpegError:
            return None
        image = np.asarray(rgb.to_ndarray(), np.uint8)
        matrix = cast(Mapping[str, bytes], picture.side_data).get("DISPLAYMATRIX")
        if matrix is not None:
            image = _turn(image, np.frombuffer(matrix, np.int32))
        return np.ascontiguousarray(image)


class _FileClock:
    """Presentation time to seconds since the first picture; never runs backwards."""

    def __init__(self, rate: float) -> None:
        self._step = 1 / Fraction(rate)
        self._origin: Fraction | None = None
        self._latest: Fraction | None = None

    def seconds(self, pts: int | None, time_base: Fraction) -> float:
        """One frame's time after the latest picture where there is no ``pts``, or where it starts anew."""
        latest = Fraction(0) if self._latest is None else self._latest
        now = latest if self._latest is None else latest + self._step
        if pts is not None:
            at = pts * time_base
            # a short step back is a picture out of order, a long one a new count, as in joined recordings
            if self._origin is None or latest - (at - self._origin) > _NEW_COUNT_SECONDS:
                self._origin = at - now
            now = max(at - self._origin, latest)
        self._latest = now
        return float(now)


def _turn(image: Image, matrix: NDArray[np.int32]) -> Image:
    """Apply a display matrix (9 fixed-point numbers, rows a b u, c d v, x y w) rounded to right angles and flips.

    A source pixel (x, y) goes to (a x + c y, b x + d y): libavutil/display.h.
    """
    a, b, _, c, d = (int(value) for value in matrix[:5])
    if abs(b) > abs(a):
        image, right, down = image.transpose(1, 0, 2), c, b
    else:
        right, down = a, d
    return image[:: -1 if down < 0 else 1, :: -1 if right < 0 else 1]


def _rate(stream: VideoStream) -> float:
    """Nominal frames per second; some streams say nothing, others 0 or their clock's 90,000."""
    return next((float(r) for r in (stream.average_rate, stream.guessed_rate) if r and 0 < r <= 1000), _GUESSED_RATE)


def _length(container: InputContainer, stream: VideoStream, rate: float) -> int | None:
    """Number of frames, counted or from the duration; None if the container knows neither."""
    if stream.frames:
        return int(stream.frames)
    seconds = Fraction(container.duration or 0, av.time_base)
    if stream.duration and stream.time_base:
        seconds = stream.duration * stream.time_base
    return round(seconds * Fraction(rate)) or None
