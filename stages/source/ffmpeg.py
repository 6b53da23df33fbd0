"""Video files, network streams and cameras through PyAV (FFmpeg)."""

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from typing import Any

import av
from av.codec.hwaccel import HWAccel
from av.packet import Packet
from av.video.frame import VideoFrame

from stages.errors import SourceError, SourceStalled
from stages.source.container import InputUrl, frame_count, nominal_rate
from stages.source.demuxer import Arrival, Demuxer
from stages.source.gpu_decoder import DecoderTrial, cuda_decoder, decoder_of
from stages.source.patience import Patience
from stages.source.rgb.to_rgb import RgbConverter
from stages.source.timing.frame_skipping import PacketAction
from stages.source.timing.live_timing import LiveTiming
from stages.source.timing.packet_queue import PacketQueue
from stages.source.timing.timestamps import FileClock, has_clock, has_jumps
from stages.types import Clock, Frame

_MAX_EMPTY_PACKETS = 50  # consecutive packets without a frame after which a live stream has changed its codec


class MediaSource:
    """One video stream of a file, URL or device. A Source (see stages.source.source).

    Files: ``captured_at`` is the presentation time since the first frame, clock ``file``. Live: Unix time by
    ``LiveClock``, clock ``arrival``; the time of arrival itself where the format has no clock. A thread takes live
    packets as they arrive (see ``PacketQueue``). Damaged packets and frames are skipped and counted in
    ``decode_errors``; live frames that are decoded too late are skipped (see ``FrameSkipping``). Both kinds count in
    ``index`` and in the next frame's ``dropped_before``. The frame size may change from one frame to the next.
    """

    def __init__(self, url: InputUrl, live: bool | None, gpu: int | None = None) -> None:
        """Open ``url``. ``live`` None: live if its duration is unknown. ``gpu``: index of a GPU to decode on.

        Raises SourceError; SourceStalled when a timeout expires; ConfigError when that can never work.
        """
        self._input, self._patience = url, Patience(url.timeouts)
        self._open(None if gpu is None else cuda_decoder(gpu))
        container, stream = self._demuxer.container, self._demuxer.stream
        self.live = not container.duration if live is None else live
        self._clocked = has_clock(container.format)
        self.rate = nominal_rate(stream, self._clocked or url.local)
        self.frames_expected = None if self.live else frame_count(container, stream, self.rate)
        self.still = container.format.name.endswith(("_pipe", "image2"))  # FFmpeg takes it for one picture
        self.decode_errors = 0
        self._file_clock = FileClock(self.rate, has_jumps(container.format))
        self._next_index = 0  # of the next frame if none is dropped before it
        self._dropped = 0  # frames since the last delivered one
        self._delivered = False  # a first frame
        self._empty_packets = 0  # consecutive packets without a frame
        self._arrival: Arrival | None = None  # the last one
        self._picture_at = time.monotonic()  # when the last picture arrived
        self._closed = threading.Event()
        self._lock = threading.Lock()  # held while a file is read and while packets are decoded: not to be closed then

    def frames(self) -> Iterator[Frame]:
        """The frames in order. Raises SourceError when the source breaks off or no frame of a file can be decoded.

        Raises SourceStalled when a live source sends nothing, or nothing that can be decoded, within its timeouts.
        """
        self._picture_at = time.monotonic()
        try:
            if self.live:
                self._start_queue()
            while (frames := self._read()) is not None:
                yield from frames
            if not (self._delivered or self.live or self._closed.is_set()):
                name = self._input.name
                raise SourceError(f"{name}: no picture in it could be decoded; check that it plays elsewhere")
        except SourceError:
            yield from self._remaining()
            raise
        finally:
            self.close()

    @property
    def patience(self) -> float:
        """Seconds that a live source may be without a frame before it raises SourceStalled."""
        return max(self._patience.silence, self._patience.blind)

    def close(self) -> None:
        """Release the source. A read in progress ends first: of a live source at its next packet or its timeout."""
        self._closed.set()
        if self._lock.acquire(blocking=False):
            self._release()
            self._lock.release()

    def _release(self) -> None:
        if self._queue is not None:
            self._queue.close()
        else:
            self._demuxer.close()

    def _open(self, acceleration: HWAccel | None) -> None:
        self._demuxer = Demuxer(self._input, self._patience, acceleration)
        self._queue: PacketQueue | None = None
        self._timing: LiveTiming | None = None
        self._read_errors = 0
        self._converter = RgbConverter(self._demuxer.stream, self._input.pixel_aspect)
        self.decoder = decoder_of(self._demuxer.stream)
        self._trial = DecoderTrial() if self.decoder != "software" else None
        self._trial_failed = False

    def _start_queue(self) -> None:
        with self._lock:
            if self._closed.is_set():
                return
            self._queue = PacketQueue(self._demuxer, self._lock)
        container = self._demuxer.container
        self._timing = LiveTiming(container.format, self.rate, self._queue, self._demuxer.opening)

    def _read(self) -> list[Frame] | None:
        """The frames of the next packet: mostly one, sometimes none or several; None at the end."""
        arrival = self._queue.read() if self._queue is not None else self._read_file()
        self._count_read_errors()
        if arrival is None:
            return None
        self._arrival = arrival
        with self._lock:
            if self._closed.is_set():
                self._release()
                return None
            frames = self._frames_of(arrival) if self._demuxer.of_video(arrival.packet) else []
            timeout = self._patience.blind
            if self.live and not frames and arrival.monotonic - self._picture_at > timeout:
                raise SourceStalled(
                    f"{self._input.name} broke off: data came, but for {timeout:g} s no picture that could be "
                    "decoded; check what the sender sends"
                )
        if self._trial_failed:
            self._open_in_software()
        return frames

    def _remaining(self) -> list[Frame]:
        """The frames that the decoder holds when the source breaks off."""
        arrival = self._arrival
        with self._lock, suppress(av.error.FFmpegError):
            if arrival is not None and not self._closed.is_set():
                pictures = self._demuxer.stream.decode()
                return [frame for picture in pictures if (frame := self._frame(picture, arrival))]
        return []

    def _read_file(self) -> Arrival | None:
        with self._lock:
            if self._closed.is_set():
                self._release()
                return None
            return self._demuxer.read()

    def _open_in_software(self) -> None:
        self._release()
        if self._queue is not None:
            self._queue.join()
        self._open(None)
        if self.live:
            self._start_queue()

    def _frames_of(self, arrival: Arrival) -> list[Frame]:
        packet, action = arrival.packet, PacketAction.CONVERT
        if self._timing is not None:
            action = self._timing.action(arrival)
        if action is not PacketAction.CONVERT:
            self._picture_came(packet.pts, arrival)
        if action is PacketAction.SKIP:
            self._dropped += 1
            return []
        decoded = self._decode(packet)
        if action is PacketAction.DECODE:
            self._dropped += len(decoded)
            return []
        frames = [frame for video_frame in decoded if (frame := self._frame(video_frame, arrival))]
        if frames:
            self._picture_came(frames[-1].pts, arrival)
        return frames

    def _picture_came(self, pts: int | None, arrival: Arrival) -> None:
        """Adjust the patience to the rate that the source shows."""
        presented = None if pts is None or not self._clocked else float(pts * _fraction(arrival.packet.time_base))
        self._patience.arrived(max(0.0, arrival.monotonic - self._picture_at), presented)
        self._picture_at = arrival.monotonic

    def _count_read_errors(self) -> None:
        for _ in range(self._read_errors, self._demuxer.errors):
            self._count_error()
        self._read_errors = self._demuxer.errors

    def _decode(self, packet: "Packet[Any]") -> list[VideoFrame]:
        error = False
        try:
            decoded = packet.decode()
        except av.error.FFmpegError:
            decoded, error = [], True
        if self._trial and decoded:
            self.decoder, self._trial = decoder_of(self._demuxer.stream), None
        elif self._trial and self._trial.failed(packet, error):
            self._trial_failed = True
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

    def _frame(self, video_frame: VideoFrame, arrival: Arrival) -> Frame | None:
        """Convert to a Frame; None if damaged."""
        time_base = _fraction(video_frame.time_base or self._demuxer.stream.time_base)
        image = self._converter.rgb(video_frame)
        if image is None:
            self._count_error()
            return None
        dropped, self._dropped = self._dropped, 0
        index = self._next_index + dropped
        self._next_index, self._delivered = index + 1, True
        return Frame(
            index=index,
            pts=video_frame.pts,
            time_base=time_base,
            captured_at=self._captured_at(video_frame.pts, time_base, arrival),
            clock=Clock.ARRIVAL if self.live else Clock.FILE,
            image=image,
            dropped_before=dropped,
            due=self._timing.due if self._timing is not None else 0.0,
        )

    def _captured_at(self, pts: int | None, time_base: Fraction, arrival: Arrival) -> float:
        if self._timing is not None:
            return self._timing.captured_at(pts, time_base, arrival)
        return self._file_clock.seconds(pts if self._clocked or self._input.local else None, time_base)


def _fraction(ratio: Any) -> Fraction:
    """A time base of any PyAV: from release 19 on they have a type of PyAV's own."""
    return Fraction(ratio or Fraction(1, av.time_base))
