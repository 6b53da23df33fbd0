"""Live input without a clock of its own, and live input that comes in segments; from real servers, in real time."""

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from http.server import BaseHTTPRequestHandler
from itertools import pairwise
from pathlib import Path

import av
import cv2
import pytest

from stages.source.rgb.to_rgb import RgbConverter
from stages.source.source import open_source
from stages.types import Clock, Frame
from tests.support.media import free_port, http_server, number, numbered, numbers, write_video

pytestmark = pytest.mark.slow

BARE = {"g": "10", "bf": "0", "sc_threshold": "0", "crf": "10"}
BARE_HEVC = {"crf": "10", "x265-params": "keyint=10:bframes=0:log-level=none"}


@dataclass
class Camera:
    """Sends its pictures, 0 to 49 again and again, at ``rate`` a second, and notes when."""

    pictures: Sequence[bytes]
    rate: float
    sent: list[float] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def send_with(self, send: Callable[[bytes], object]) -> None:
        begun, n = time.monotonic(), 0
        with suppress(OSError):
            while not self.stop.wait(max(0.0, begun + n / self.rate - time.monotonic())):
                self.sent.append(time.time())
                send(self.pictures[n % 50])
                n += 1

    @contextmanager
    def multipart(self) -> Iterator[str]:
        """MJPEG over HTTP."""

        def answer(request: BaseHTTPRequestHandler) -> None:
            request.send_response(200)
            request.send_header("Content-Type", "multipart/x-mixed-replace; boundary=picture")
            request.end_headers()
            head = b"--picture\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"
            self.send_with(lambda jpeg: request.wfile.write(head % len(jpeg) + jpeg + b"\r\n"))

        with http_server(answer) as place:
            yield f"http://{place}/video"
            self.stop.set()

    @contextmanager
    def http(self) -> Iterator[str]:
        def answer(request: BaseHTTPRequestHandler) -> None:
            request.send_response(200)
            request.end_headers()
            request.close_connection = True
            self.send_with(request.wfile.write)

        with http_server(answer) as place:
            yield f"http://{place}/video"
            self.stop.set()

    @contextmanager
    def tcp(self) -> Iterator[str]:
        def serve() -> None:
            with listener.accept()[0] as connection:
                self.send_with(connection.sendall)

        with socket.create_server(("127.0.0.1", 0)) as listener:
            thread = threading.Thread(target=serve, daemon=True)
            thread.start()
            yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"
            self.stop.set()
            thread.join()

    @contextmanager
    def udp(self) -> Iterator[str]:
        port = free_port(socket.SOCK_DGRAM)

        def send(picture: bytes) -> None:
            for start in range(0, len(picture), 1316):
                with suppress(ConnectionRefusedError):  # nobody listens yet
                    outlet.sendto(picture[start : start + 1316], ("127.0.0.1", port))

        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outlet:
            thread = threading.Thread(target=self.send_with, args=(send,), daemon=True)
            thread.start()
            yield f"udp://127.0.0.1:{port}"
            self.stop.set()
            thread.join()


def jpegs() -> list[bytes]:
    return [cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes() for image in numbered(50)]


def bare(path: Path, codec: str, options: dict[str, str]) -> list[bytes]:
    """Bare pictures: without a container there are no time stamps."""
    with av.open(str(write_video(path, numbered(50), codec=codec, codec_options=options))) as video:
        return [bytes(packet) for packet in video.demux(video=0) if packet.size]


def watch(url: str, seconds: float) -> list[Frame]:
    """The frames of so many seconds, from the first one on."""
    source, frames = open_source(url), []
    assert source.live
    for frame in source.frames():
        frames.append(frame)
        if frame.captured_at - frames[0].captured_at >= seconds:
            break
    source.close()
    assert {frame.clock for frame in frames} == {Clock.ARRIVAL}
    return frames


def lags(frames: Sequence[Frame], sent: Sequence[float]) -> list[float]:
    """Seconds from sending a picture to its ``captured_at``."""
    first = number(frames[0])
    return [frame.captured_at - sent[first + frame.index] for frame in frames]


def test_cameras_without_a_clock_are_timed_by_arrival_at_any_rate(tmp_path):
    """FFmpeg makes up time stamps for them, mostly at 25 Hz."""
    h264 = bare(tmp_path / "bare.h264", "libx264", BARE)
    hevc = bare(tmp_path / "bare.hevc", "libx265", BARE_HEVC)
    fast, slow, seldom = (Camera(jpegs(), rate) for rate in (70, 9, 0.8))
    over_tcp, over_http, over_udp = Camera(h264, 11), Camera(hevc, 45), Camera(h264, 8)
    cameras = [fast, slow, seldom, over_tcp, over_http, over_udp]
    with ExitStack() as stack, ThreadPoolExecutor(len(cameras)) as pool:
        servers = [fast.multipart(), slow.multipart(), seldom.multipart(), over_tcp.tcp(), over_http.http()]
        urls = [stack.enter_context(server) for server in (*servers, over_udp.udp())]
        watched = list(pool.map(lambda url: watch(url, 4), urls))
    for camera, frames in zip(cameras, watched, strict=True):
        assert [frame.index for frame in frames] == list(range(len(frames)))
        assert numbers(frames) == [(number(frames[0]) + n) % 50 for n in range(len(frames))]
        assert len(frames) == pytest.approx(4 * camera.rate, rel=0.2, abs=2)
        assert max(lags(frames, camera.sent)) < 1
        # two pictures wait in the parser, a time is guessed at the start, and a busy machine sends late
        assert min(lags(frames, camera.sent)) > -3 / camera.rate - 0.1


def test_pictures_without_a_clock_are_left_out_when_they_come_too_fast_and_the_others_keep_their_times(monkeypatch):
    convert = RgbConverter.rgb

    def slow(*arguments):
        time.sleep(0.05)
        return convert(*arguments)

    monkeypatch.setattr(RgbConverter, "rgb", slow)
    camera = Camera(jpegs(), 50)
    with camera.multipart() as url:
        frames = watch(url, 4)
    assert sum(frame.dropped_before for frame in frames) > 20
    assert all(after.index == before.index + 1 + after.dropped_before for before, after in pairwise(frames))
    assert [number(frame) for frame in frames] == [frame.index % 50 for frame in frames]
    assert max(lags(frames, camera.sent)) < 1


# --- segments

SEGMENT, RATE = 1.5, 10
FRAMES = int(SEGMENT * RATE)


def segment(path: Path, first: int, start: int) -> bytes:
    """15 pictures as MPEG-TS, the first with the number ``first`` and stamped ``start`` / 10 s."""
    with av.open(str(path), "w", format="mpegts") as out:
        stream = out.add_stream("libx264", rate=RATE, options=BARE | {"g": str(FRAMES)})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for n in range(FRAMES):
            picture = av.VideoFrame.from_ndarray(numbered(50)[(first + n) % 50], format="rgb24")
            picture.pts, picture.time_base = start + n, Fraction(1, RATE)
            out.mux(stream.encode(picture))
        out.mux(stream.encode())
    return path.read_bytes()


def playlist(numbers: range, tag: str = "", end: str = "") -> bytes:
    head = f"#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:{numbers[0]}\n"
    return (head + "".join(f"{tag}#EXTINF:{SEGMENT},\n{n}.ts\n" for n in numbers) + end).encode()


@contextmanager
def hls(segments: Sequence[bytes], listed: Callable[[], bytes]) -> Iterator[str]:
    def answer(request: BaseHTTPRequestHandler) -> None:
        is_list = request.path.endswith(".m3u8")
        body = listed() if is_list else segments[int(Path(request.path).stem)]
        request.send_response(200)
        request.send_header("Content-Type", "application/vnd.apple.mpegurl" if is_list else "video/mp2t")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    with http_server(answer) as place:
        yield f"http://{place}/live.m3u8"


def test_segments_give_evenly_timed_frames_and_may_wait_as_long_as_they_last(tmp_path):
    """Also where each begins its time stamps anew. All frames of a segment arrive at once."""
    goes_on = [segment(tmp_path / "on.ts", FRAMES * n, FRAMES * n) for n in range(9)]
    anew = [segment(tmp_path / "anew.ts", FRAMES * n, 0) for n in range(9)]
    begun = time.monotonic()

    def live(tag: str) -> Callable[[], bytes]:
        return lambda: playlist(range(int((time.monotonic() - begun) / SEGMENT), 9)[:3], tag)

    def slowly(url: str) -> list[Frame]:
        frames = []
        for frame in open_source(url).frames():
            frames.append(frame)
            time.sleep(0.07)  # 10 come in a second
            if len(frames) == 4 * FRAMES:
                break
        return frames

    with ExitStack() as stack, ThreadPoolExecutor(2) as pool:
        lists = (hls(goes_on, live("")), hls(anew, live("#EXT-X-DISCONTINUITY\n")))
        watched = list(pool.map(slowly, [stack.enter_context(server) for server in lists]))
    for frames in watched:
        assert sum(frame.dropped_before for frame in frames) == 0
        assert numbers(frames) == [(number(frames[0]) + n) % 50 for n in range(len(frames))]
        steps = [after.captured_at - before.captured_at for before, after in pairwise(frames)]
        assert steps == pytest.approx([1 / RATE] * len(steps), abs=0.09)
        assert frames[-1].captured_at - frames[0].captured_at == pytest.approx(len(steps) / RATE, abs=0.5)


def test_a_list_of_segments_that_ends_is_a_file(tmp_path):
    """Nothing of it may be lost: https://github.com/roboflow/inference/issues/1160"""
    segments = [segment(tmp_path / "vod.ts", FRAMES * n, FRAMES * n) for n in range(3)]
    with hls(segments, lambda: playlist(range(3), end="#EXT-X-ENDLIST\n")) as url:
        source = open_source(url)
        frames = list(source.frames())
    assert (source.live, source.frames_expected) == (False, 3 * FRAMES)
    assert numbers(frames) == list(range(3 * FRAMES))
    assert [frame.captured_at for frame in frames] == pytest.approx([n / RATE for n in range(3 * FRAMES)], abs=0.001)
