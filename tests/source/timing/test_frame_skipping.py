"""A live source that is read more slowly than it sends: what is left out, and that this is told."""

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import av
import pytest

from stages.errors import SourceError
from stages.source.ffmpeg import MediaSource
from stages.source.rgb.to_rgb import RgbConverter
from stages.source.source import open_source
from stages.source.timing.frame_skipping import FrameSkipping, PacketAction
from tests.support.media import http_server, number, numbered, write_video

pytestmark = pytest.mark.slow

FRAMES, RATE, KEYS = 150, 25, 10
SLOW = 0.08  # seconds; a picture comes every 0.04


@contextmanager
def camera(folder: Path) -> Iterator[str]:
    """MPEG-TS over HTTP, 6 s at its own pace; yields its URL. Picture n is numbered n % 50, every tenth is a key."""
    options = {"g": str(KEYS), "sc_threshold": "0", "bf": "0", "crf": "10"}
    clip = write_video(folder / "clip.mp4", numbered(50) * (FRAMES // 50), codec_options=options)
    stop = threading.Event()

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        with suppress(OSError):
            send(Chunks(request))
            request.wfile.write(b"0\r\n\r\n")

    def send(chunks: Chunks) -> None:
        options = {"flush_packets": "1"}
        with av.open(str(clip)) as video, av.open(chunks, "w", format="mpegts", options=options) as out:
            stream = out.add_stream_from_template(video.streams.video[0])
            begun = time.monotonic()
            for n, packet in enumerate(video.demux(video=0)):
                if stop.wait(max(0, begun + n / RATE - time.monotonic())) or packet.dts is None:
                    return
                packet.stream = stream
                out.mux(packet)

    with http_server(answer) as place:
        try:
            yield f"http://{place}/stream"
        finally:
            stop.set()


class Chunks:
    """A file to write to that sends its content in HTTP's chunks."""

    def __init__(self, request: BaseHTTPRequestHandler) -> None:
        self._request = request

    def write(self, data: bytes) -> int:
        self._request.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
        return len(data)


def slowed(method: Callable) -> Callable:
    def slow(*arguments):
        time.sleep(SLOW)
        return method(*arguments)

    return slow


def read(url: str) -> tuple[list[tuple[int, int, int]], int]:
    """Index, dropped_before and picture number of each frame; and the errors."""
    source, frames = open_source(url), []
    with suppress(SourceError):  # newer releases of FFmpeg take the end of such a stream for an error
        for frame in source.frames():
            frames.append((frame.index, frame.dropped_before, number(frame)))  # noqa: PERF401 - kept at an error
    assert source.live
    return frames, source.decode_errors


def assert_every_picture_is_there_or_told_of(frames: list[tuple[int, int, int]]) -> None:
    assert all(shown == index % 50 for index, _, shown in frames)
    before = [-1, *(index for index, _, _ in frames)]
    assert all(index == last + 1 + dropped for last, (index, dropped, _) in zip(before, frames, strict=False))


def test_a_camera_that_is_read_fast_enough_loses_nothing(tmp_path):
    with camera(tmp_path) as url:
        frames, _ = read(url)
    assert_every_picture_is_there_or_told_of(frames)
    assert [index for index, _, _ in frames] == list(range(FRAMES))


def test_where_converting_is_too_slow_late_pictures_are_left_out_and_told_of(tmp_path, monkeypatch):
    """Else the last of them would come 6 s late, and ever later the longer it runs."""
    monkeypatch.setattr(RgbConverter, "rgb", slowed(RgbConverter.rgb))
    with camera(tmp_path) as url:
        frames, errors = read(url)
    assert_every_picture_is_there_or_told_of(frames)
    assert sum(dropped for _, dropped, _ in frames) > FRAMES // 5
    assert errors == 0


def test_where_decoding_is_too_slow_it_goes_on_at_a_key_picture(tmp_path, monkeypatch):
    monkeypatch.setattr(MediaSource, "_decode", slowed(MediaSource._decode))
    with camera(tmp_path) as url:
        frames, errors = read(url)
    assert_every_picture_is_there_or_told_of(frames)
    after_gaps = [index for index, dropped, _ in frames if dropped > RATE // 2]
    assert after_gaps
    assert {index % KEYS for index in after_gaps} == {0}
    assert errors == 0


# --- the steps


class Reader:
    """Reads pictures 0.04 s apart, the first at time 0; each takes what its step costs."""

    def __init__(self, costs: dict[PacketAction, float]) -> None:
        self.skipping, self.costs = FrameSkipping(), costs
        self.now, self.picture = 0.0, 0

    def read(self, count: int) -> list[tuple[PacketAction, float]]:
        """Action and seconds of delay of each packet."""
        done = []
        for _ in range(count):
            self.picture += 1
            taken = self.picture / 25
            self.now = max(self.now, taken)
            late = self.now - taken
            step = self.skipping.action(late, keyframe=self.picture % 50 == 0, now=self.now)
            self.now += self.costs[step]
            done.append((step, late))
        return done


def steps(done: list[tuple[PacketAction, float]]) -> list[PacketAction]:
    """Without repeats."""
    return [step for step, _ in itertools.groupby(step for step, _ in done)]


def test_slow_conversion_keeps_a_second_behind():
    done = Reader({PacketAction.CONVERT: 0.08, PacketAction.DECODE: 0.005}).read(5000)
    assert max(late for _, late in done) < 1.1
    assert sum(step is PacketAction.CONVERT for step, _ in done) == pytest.approx(5000 * 35 / 75, rel=0.1)


def test_slow_decoding_catches_up_at_key_pictures():
    done = Reader({PacketAction.CONVERT: 0.06, PacketAction.DECODE: 0.05, PacketAction.SKIP: 0.001}).read(5000)
    assert max(late for _, late in done) < 2
    assert steps(done)[:4] == [PacketAction.CONVERT, PacketAction.DECODE, PacketAction.SKIP, PacketAction.CONVERT]
    resumed = [n for n in range(1, 5000) if done[n][0] is PacketAction.CONVERT and done[n - 1][0] is PacketAction.SKIP]
    assert {(n + 1) % 50 for n in resumed} == {0}
    assert sum(step is PacketAction.CONVERT for step, _ in done) > 1000


def test_what_a_stall_held_back_is_passed_over_up_to_the_last_second():
    reader = Reader({PacketAction.CONVERT: 0.005, PacketAction.DECODE: 0.001})
    reader.read(50)
    reader.now += 4
    done = reader.read(200)
    assert steps(done) == [PacketAction.DECODE, PacketAction.CONVERT]
    assert 70 < sum(step is PacketAction.DECODE for step, _ in done) < 80
