"""Cameras in real time: ``python -m tests.gpu.load.cameras CLIP COUNT RATE`` sends a clip's pictures again and again.

Bare H.264 over TCP, one port of loopback for each camera; the ports are printed in one line. A process of its own, so
that the daemon that is measured shares no interpreter with it.
"""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

import av


@contextmanager
def cameras(clip: Path, number: int, rate: float) -> Iterator[list[str]]:
    """The addresses of so many cameras, each with ``rate`` pictures a second; ``clip`` is a bare .h264 file."""
    command = [sys.executable, "-m", "tests.gpu.load.cameras", str(clip), str(number), str(rate)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield [f"tcp://127.0.0.1:{port}" for port in process.stdout.readline().split()]
        finally:
            process.kill()


def _serve(listener: socket.socket, pictures: Sequence[bytes], rate: float) -> None:
    """Send to one reader after the other."""
    while True:
        connection, _ = listener.accept()
        began = time.monotonic()
        with connection, suppress(OSError):
            for n in count():
                time.sleep(max(0.0, began + n / rate - time.monotonic()))
                connection.sendall(pictures[n % len(pictures)])


def main() -> None:
    clip, number, rate = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    with av.open(clip) as video:
        pictures = [bytes(packet) for packet in video.demux(video=0) if packet.size]
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    for listener in listeners:
        threading.Thread(target=_serve, args=(listener, pictures, rate)).start()
    print(*(listener.getsockname()[1] for listener in listeners), flush=True)


if __name__ == "__main__":
    main()
