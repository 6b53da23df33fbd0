"""PyAV: video files, network streams and cameras, all that FFmpeg opens."""

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
from stages.source.container import Address, best_video, length, nominal_rate
from stages.source.frame_skipping import FrameSkipping, Step
from stages.source.gpu_decoder import DecoderTrial, cuda_decoder, decoder_of
from stages.source.timestamps import FileClock, LiveClock
from stages.source.to_rgb import RgbConverter
from stages.types import Clock, Frame

_READ_ATTEMPTS = 100  # failures in a row after which a damaged container counts as ended
_BARREN_PACKETS = 50  # in a row without a picture, after which a live stream is no longer what it was


class MediaSource:
    """One video stream of a file, URL or device. A Source (see stages.source.source).

    Files: ``captured_at`` is the presentation time since the first frame, clock ``file``. Live: Unix time by
    ``LiveClock``, clock ``arrival``. Damaged packets and pictures are skipped and counted in ``decode_errors``; live
    ones that are read too late are left out (see ``FrameSkipping``). The next frame tells of both in
    ``dropped_before``, and ``index`` counts them. A picture may have another size than the one before.
    """

    def __init__(self, address: Address, live: bool | None, hardware: int | None = None) -> None:
        """Open ``address``. ``live`` None: live if its duration is unknown. ``hardware``: index of a GPU to decode on.

        Raises SourceError; SourceStalled when nothing came in time.
        """
        self._address = address
        self.decoder = "software"
        self._open(None if hardware is None else cuda_decoder(hardware))
        self.live = not self._container.duration if live is None else live
        self.rate = nominal_rate(self._stream)
        self.frames_expected = None if self.live else length(self._container, self._stream, self.rate)
        self.decode_errors = 0
        self._file_clock, self._live_clock = FileClock(self.rate), LiveClock()
        self._lateness = FrameSkipping()
        self._next = 0  # index of the next frame if none is lost before it
        self._lost = 0  # pictures since the last frame
        self._delivered = False
        self._barren = 0  # packets in a row that brought no picture
        self._converter = RgbConverter()
        self._waiting_since = time.monotonic()  # for a picture
        self._closed = threading.Event()
        self._in_use = threading.Lock()  # FFmpeg must not be closed in the middle of a read

    def frames(self) -> Iterator[Frame]:
        """The frames in order. SourceError when the source breaks off or a file holds no readable picture.

        A live source that sends nothing in time, or no picture that can be decoded, raises SourceStalled.
        """
        self._waiting_since = time.monotonic()
        try:
            while (frames := self._read()) is not None:
                for frame in frames:
                    yield frame
                    self._waiting_since = time.monotonic()
            if not (self._delivered or self.live or self._closed.is_set()):
                name = self._address.name
                raise SourceError(f"{name}: no picture in it could be decoded; check that it plays elsewhere")
        finally:
            self.close()

    def close(self) -> None:
        """Release the source; a read in progress ends first, a live one at the next packet or within seconds."""
        self._closed.set()
        if self._in_use.acquire(blocking=False):
            self._container.close()
            self._in_use.release()

    def _open(self, acceleration: HWAccel | None) -> None:
        try:
            self._container = self._address.open(acceleration)
        except SourceStalled:
            raise
        except SourceError:
            if acceleration is None:
                raise
            self._container = self._address.open()
        try:
            self._stream = best_video(self._container, self._address.name)
        except SourceError:
            self._container.close()
            raise
        self.decoder = decoder_of(self._stream)
        self._trial = DecoderTrial() if self.decoder != "software" else None
        self._demux()

    def _demux(self) -> None:
        # of a network's streams all, so that close() is noticed while only sound comes
        self._packets = self._container.demux(*([self._stream] if self._address.local else []))

    def _read(self) -> list[Frame] | None:
        """What the next packet brings: often one frame, sometimes none or several; None at the end."""
        with self._in_use:
            if self._closed.is_set():
                self._container.close()
                return None
            packet = self._next_packet()
            if packet is None:
                return None
            arrived = time.monotonic(), time.time()
            frames = self._frames_of(packet, arrived) if packet.stream.index == self._stream.index else []
            patience = self._address.patience.picture
            if self.live and not frames and arrived[0] - self._waiting_since > patience:
                raise SourceStalled(
                    f"{self._address.name} broke off: data came, but for {patience:g} s no picture that could be "
                    "decoded; check what the sender sends"
                )
            return frames

    def _next_packet(self) -> "Packet[Any] | None":
        for _ in range(_READ_ATTEMPTS):
            begun = time.monotonic()
            failure = None
            try:
                return next(self._packets, None)
            except IndexError:  # PyAV's, once all is read, where a stream came up in the middle, as in MPEG-TS
                return None
            except av.error.FFmpegError as error:
                waited = time.monotonic() - begun
                if self._address.too_long(waited) or not isinstance(error, av.error.InvalidDataError):
                    failure = self._address.failure(f"{self._address.name} broke off", error, waited)
            if failure is not None:
                raise failure  # outside of "except": FFmpeg's error, which repeats the password, stays behind
            self._count_error()
            self._demux()
        return None

    def _frames_of(self, packet: "Packet[Any]", arrived: tuple[float, float]) -> list[Frame]:
        step = Step.ALL
        if self.live:
            late = self._live_clock.late(packet.pts, packet.time_base or self._time_base, arrived[0])
            step = self._lateness.step(late, packet.is_keyframe, arrived[0])
        if step is not Step.ALL:
            self._waiting_since = arrived[0]
        if step is Step.NOTHING:
            self._lost += 1
            return []
        pictures = self._decode(packet)
        if step is Step.DECODE:
            self._lost += len(pictures)
            return []
        return [frame for picture in pictures if (frame := self._frame(picture, arrived))]

    @property
    def _time_base(self) -> Fraction:
        return self._stream.time_base or Fraction(1, av.time_base)

    def _decode(self, packet: "Packet[Any]") -> list[VideoFrame]:
        error = False
        try:
            pictures = packet.decode()
        except av.error.FFmpegError:
            pictures, error = [], True
        if self._trial and pictures:
            self.decoder, self._trial = decoder_of(self._stream), None
        elif self._trial and self._trial.failed(packet, error):
            self._container.close()
            self._open(None)
        elif error:
            self._count_error()
        self._barren = 0 if pictures else self._barren + 1
        if self.live and self._delivered and self._barren >= _BARREN_PACKETS:
            # FFmpeg goes on with the decoder that it began with
            raise SourceError(f"{self._address.name} broke off: its video became another one, perhaps in another codec")
        return pictures

    def _count_error(self) -> None:
        # until its first key picture a live stream that was joined in the middle cannot be decoded
        if self._delivered or not self.live:
            self.decode_errors += 1
            self._lost += 1

    def _frame(self, picture: VideoFrame, arrived: tuple[float, float]) -> Frame | None:
        """The picture as a Frame, or None if it is damaged. ``arrived``: monotonic and wall seconds."""
        time_base = picture.time_base or self._time_base
        image = self._converter.rgb(picture)
        if image is None:
            self._count_error()
            return None
        if self.live:
            captured_at = self._live_clock.seconds(picture.pts, time_base, *arrived)
        else:
            captured_at = self._file_clock.seconds(picture.pts, time_base)
        lost, self._lost = self._lost, 0
        index = self._next + lost
        self._next, self._delivered = index + 1, True
        return Frame(
            index=index,
            pts=picture.pts,
            time_base=time_base,
            captured_at=captured_at,
            clock=Clock.ARRIVAL if self.live else Clock.FILE,
            image=image,
            dropped_before=lost,
        )
