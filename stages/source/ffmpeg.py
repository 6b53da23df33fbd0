"""Video files, network streams and cameras through PyAV (FFmpeg)."""

import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
from av.codec.hwaccel import HWAccel
from av.packet import Packet
from av.video.frame import VideoFrame

from stages.errors import SourceError, SourceStalled
from stages.source.container import InputUrl, best_video_stream, frame_count, nominal_rate
from stages.source.frame_skipping import FrameSkipping, PacketAction
from stages.source.gpu_decoder import DecoderTrial, cuda_decoder, decoder_of
from stages.source.timestamps import FileClock, LiveClock
from stages.source.to_rgb import RgbConverter
from stages.types import Clock, Frame

_MAX_READ_ERRORS = 100  # consecutive read errors after which a damaged container counts as ended
_MAX_EMPTY_PACKETS = 50  # consecutive packets without a frame after which a live stream has changed its codec


class MediaSource:
    """One video stream of a file, URL or device. A Source (see stages.source.source).

    Files: ``captured_at`` is the presentation time since the first frame, clock ``file``. Live: Unix time by
    ``LiveClock``, clock ``arrival``. Damaged packets and frames are skipped and counted in ``decode_errors``; live
    frames that are read too late are skipped (see ``FrameSkipping``). Both kinds count in ``index`` and in the next
    frame's ``dropped_before``. The frame size may change from one frame to the next.
    """

    def __init__(
        self, url: InputUrl, live: bool | None, gpu: int | None = None, pixel_aspect: Fraction | None = None
    ) -> None:
        """Open ``url``. ``live`` None: live if its duration is unknown. ``gpu``: index of a GPU to decode on.

        ``pixel_aspect``: width over height of its pixels, None for what it says.

        Raises SourceError; SourceStalled when a timeout expires.
        """
        self._input, self._pixel_aspect = url, pixel_aspect
        self.decoder = "software"
        self._open(None if gpu is None else cuda_decoder(gpu))
        self.live = not self._container.duration if live is None else live
        self.rate = nominal_rate(self._stream)
        self.frames_expected = None if self.live else frame_count(self._container, self._stream, self.rate)
        self.decode_errors = 0
        self._file_clock, self._live_clock = FileClock(self.rate), LiveClock()
        self._skipping = FrameSkipping()
        self._next_index = 0  # of the next frame if none is dropped before it
        self._dropped = 0  # frames since the last delivered one
        self._delivered = False  # a first frame
        self._empty_packets = 0  # consecutive packets without a frame
        self._waiting_since = time.monotonic()  # for a frame
        self._closed = threading.Event()
        self._read_lock = threading.Lock()  # held during a read: FFmpeg must not be closed then

    def frames(self) -> Iterator[Frame]:
        """The frames in order. Raises SourceError when the source breaks off or no frame of a file can be decoded.

        Raises SourceStalled when a live source sends nothing, or nothing that can be decoded, within its timeouts.
        """
        self._waiting_since = time.monotonic()
        try:
            while (frames := self._read()) is not None:
                for frame in frames:
                    yield frame
                    self._waiting_since = time.monotonic()
            if not (self._delivered or self.live or self._closed.is_set()):
                name = self._input.name
                raise SourceError(f"{name}: no picture in it could be decoded; check that it plays elsewhere")
        finally:
            self.close()

    def close(self) -> None:
        """Release the source. A read in progress ends first: of a live source at its next packet or its timeout."""
        self._closed.set()
        if self._read_lock.acquire(blocking=False):
            self._container.close()
            self._read_lock.release()

    def _open(self, acceleration: HWAccel | None) -> None:
        try:
            self._container = self._input.open(acceleration)
        except SourceStalled:
            raise
        except SourceError:
            if acceleration is None:
                raise
            self._container = self._input.open()
        try:
            self._stream = best_video_stream(self._container, self._input.name)
        except SourceError:
            self._container.close()
            raise
        self._converter = RgbConverter(self._stream, self._pixel_aspect)
        self.decoder = decoder_of(self._stream)
        self._trial = DecoderTrial() if self.decoder != "software" else None
        self._demux()

    def _demux(self) -> None:
        # of a network source demux all streams, so that close() takes effect also while only audio arrives
        self._packets = self._container.demux(*([self._stream] if self._input.local else []))

    def _read(self) -> list[Frame] | None:
        """The frames of the next packet: mostly one, sometimes none or several; None at the end."""
        with self._read_lock:
            if self._closed.is_set():
                self._container.close()
                return None
            packet = self._next_packet()
            if packet is None:
                return None
            arrived = time.monotonic(), time.time()
            frames = self._frames_of(packet, arrived) if packet.stream.index == self._stream.index else []
            timeout = self._input.timeouts.decode
            if self.live and not frames and arrived[0] - self._waiting_since > timeout:
                raise SourceStalled(
                    f"{self._input.name} broke off: data came, but for {timeout:g} s no picture that could be "
                    "decoded; check what the sender sends"
                )
            return frames

    def _next_packet(self) -> "Packet[Any] | None":
        for _ in range(_MAX_READ_ERRORS):
            started = time.monotonic()
            failure = None
            try:
                return next(self._packets, None)
            except IndexError:  # from PyAV at the end, where a stream appeared after the start, as in MPEG-TS
                return None
            except av.error.FFmpegError as error:
                waited = time.monotonic() - started
                if self._input.timed_out(waited) or not isinstance(error, av.error.InvalidDataError):
                    failure = self._input.failure(f"{self._input.name} broke off", error, waited)
            if failure is not None:
                raise failure  # outside of "except": FFmpeg's error contains the password, it must not be its context
            self._count_error()
            self._demux()
        return None

    def _frames_of(self, packet: "Packet[Any]", arrived: tuple[float, float]) -> list[Frame]:
        action = PacketAction.CONVERT
        if self.live:
            delay = self._live_clock.delay(packet.pts, packet.time_base or self._time_base, arrived[0])
            action = self._skipping.action(delay, packet.is_keyframe, arrived[0])
        if action is not PacketAction.CONVERT:
            self._waiting_since = arrived[0]
        if action is PacketAction.SKIP:
            self._dropped += 1
            return []
        decoded = self._decode(packet)
        if action is PacketAction.DECODE:
            self._dropped += len(decoded)
            return []
        return [frame for video_frame in decoded if (frame := self._frame(video_frame, arrived))]

    @property
    def _time_base(self) -> Fraction:
        return self._stream.time_base or Fraction(1, av.time_base)

    def _decode(self, packet: "Packet[Any]") -> list[VideoFrame]:
        error = False
        try:
            decoded = packet.decode()
        except av.error.FFmpegError:
            decoded, error = [], True
        if self._trial and decoded:
            self.decoder, self._trial = decoder_of(self._stream), None
        elif self._trial and self._trial.failed(packet, error):
            self._container.close()
            self._open(None)
        elif error:
            self._count_error()
        self._empty_packets = 0 if decoded else self._empty_packets + 1
        if self.live and self._delivered and self._empty_packets >= _MAX_EMPTY_PACKETS:
            # FFmpeg keeps the decoder of the first codec
            raise SourceError(f"{self._input.name} broke off: its video became another one, perhaps in another codec")
        return decoded

    def _count_error(self) -> None:
        # a live stream that was joined between two I-frames cannot be decoded before the next one: no error
        if self._delivered or not self.live:
            self.decode_errors += 1
            self._dropped += 1

    def _frame(self, video_frame: VideoFrame, arrived: tuple[float, float]) -> Frame | None:
        """Convert to a Frame; None if damaged. ``arrived``: monotonic and wall clock in seconds."""
        time_base = video_frame.time_base or self._time_base
        image = self._converter.rgb(video_frame)
        if image is None:
            self._count_error()
            return None
        if self.live:
            captured_at = self._live_clock.seconds(video_frame.pts, time_base, *arrived)
        else:
            captured_at = self._file_clock.seconds(video_frame.pts, time_base)
        dropped, self._dropped = self._dropped, 0
        index = self._next_index + dropped
        self._next_index, self._delivered = index + 1, True
        return Frame(
            index=index,
            pts=video_frame.pts,
            time_base=time_base,
            captured_at=captured_at,
            clock=Clock.ARRIVAL if self.live else Clock.FILE,
            image=image,
            dropped_before=dropped,
        )
