"""Real videos for tests, written by PyAV.

The mean of a numbered image encodes its number, so that a test can identify each decoded frame. A fixed grain makes the
encoded frames large enough that damage to the file hits frames and not only headers.
"""

import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import cv2
import numpy as np

from stages.types import Frame, Image

DARKEST, STEP, GRAIN = 20, 4, 12


def numbered(count: int, width: int = 64, height: int = 48) -> list[Image]:
    """Numbered images 0 to ``count`` - 1; at most 54."""
    grain = np.random.default_rng(0).permutation(np.resize([-GRAIN, GRAIN], width * height // 2 * 2))
    flat = np.zeros(width * height, np.int64)
    flat[: len(grain)] = grain
    texture = flat.reshape(height, width, 1).repeat(3, axis=2)
    return [(texture + DARKEST + STEP * number).astype(np.uint8) for number in range(count)]


def number(frame: Frame) -> int:
    """The number of the image that this frame was before encoding."""
    return round((float(frame.image.mean()) - DARKEST) / STEP)


def numbers(frames: Sequence[Frame]) -> list[int]:
    return [number(frame) for frame in frames]


def numbers_of_whole_pictures(frames: Sequence[Frame]) -> list[int]:
    """As ``numbers``, of pictures in which no part is damaged or missing."""
    for frame in frames:
        height, width = frame.image.shape[:2]
        truth = numbered(number(frame) + 1, width, height)[-1]
        difference = np.abs(frame.image.astype(int) - truth)
        assert difference.mean() < STEP, f"frame {frame.index} is damaged"
    return numbers(frames)


def quarters(width: int = 96, height: int = 64) -> Image:
    """Red and green above, blue and white below: shows how an image was rotated or flipped."""
    image = np.full((height, width, 3), 255, np.uint8)
    image[: height // 2, : width // 2] = (255, 0, 0)
    image[: height // 2, width // 2 :] = (0, 255, 0)
    image[height // 2 :, : width // 2] = (0, 0, 255)
    return image


def write_video(
    path: Path,
    images: Sequence[Image],
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    rate: int = 25,
    milliseconds: Sequence[int] | None = None,
    codec_options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
) -> Path:
    """Write a video of ``images``; ``milliseconds`` are their presentation times."""
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=rate, options=codec_options or {})
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = pix_fmt
        if milliseconds is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for index, image in enumerate(images):
            picture = av.VideoFrame.from_ndarray(image, format="rgb24")
            if milliseconds is not None:
                picture.pts, picture.time_base = milliseconds[index], Fraction(1, 1000)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def turn(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """Write the display matrix (a, b, c, d) into the track header of an MP4, as a phone does."""
    data = bytearray(path.read_bytes())
    a, b, c, d = (value << 16 for value in matrix)
    struct.pack_into(">9i", data, data.index(b"tkhd") + 44, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


def write_sound(path: Path, cover: Image | None = None) -> Path:
    """Write a second of silence as MP3, with a cover image if one is given."""
    with av.open(str(path), "w", options={"id3v2_version": "0"}) as container:
        stream = container.add_stream("libmp3lame", rate=48000, layout="mono")
        for start in range(0, 48000, 1152):
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1152), np.int16), format="s16p", layout="mono")
            silence.sample_rate, silence.pts = 48000, start
            container.mux(stream.encode(silence))
        container.mux(stream.encode())
    if cover is not None:
        picture = b"\0image/jpeg\0\3\0" + cv2.imencode(".jpg", cover)[1].tobytes()
        frame = b"APIC" + struct.pack(">IH", len(picture), 0) + picture
        size = bytes(len(frame) >> shift & 0x7F for shift in (21, 14, 7, 0))
        path.write_bytes(b"ID3\3\0\0" + size + frame + path.read_bytes())
    return path


@contextmanager
def http_server(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """A real HTTP/1.1 server on loopback whose replies ``answer`` writes; yields host:port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port of 127.0.0.1 that nothing listens on."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
