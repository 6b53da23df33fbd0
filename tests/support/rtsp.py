"""Cameras for tests: GStreamer's RTSP server as a process, and servers with faults.

Tests that need the server are marked ``@needs_rtsp_server``. Without the packages they are skipped, or fail if
``MASKCAST_REQUIRE_RTSP`` is set.
"""

import functools
import os
import re
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.media import free_port
from tests.support.program import PATIENCE

Change = Callable[[bytes], bytes | None]

PYTHON = "/usr/bin/python3"  # has GStreamer's bindings
SCRIPT = Path(__file__).with_name("rtsp_server.py")
ADVICE = (
    "apt-get install --no-install-recommends gir1.2-gst-rtsp-server-1.0 python3-gi "
    "gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad"
)


@functools.cache
def missing_server() -> str | None:
    """Why GStreamer's RTSP server cannot run here; None if it can."""
    try:
        result = subprocess.run(
            [PYTHON, SCRIPT, "--check"], capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"no RTSP server ({error}): {ADVICE}"
    if result.returncode:
        return f"no RTSP server ({result.stderr.strip().splitlines()[-1]}): {ADVICE}"
    return None


needs_rtsp_server = pytest.mark.skipif(
    missing_server() is not None and not os.environ.get("MASKCAST_REQUIRE_RTSP"), reason=missing_server() or ""
)


class RtspServer:
    """A camera that plays ``clips`` in a loop; ``options`` are those of tests/support/rtsp_server.py.

    It keeps its port and URL when it is killed and started again.
    """

    def __init__(self, *clips: Path, port: int | None = None, options: tuple[str, ...] = ()) -> None:
        self.port = port or free_port()
        self.url = f"rtsp://127.0.0.1:{self.port}/stream"
        self._command = [PYTHON, str(SCRIPT), "--leave-with-stdin", *options, str(self.port), *map(str, clips)]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server and wait until its port accepts connections."""
        if reason := missing_server():
            pytest.fail(reason)
        with tempfile.TemporaryFile() as said:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said
            )
            deadline = time.monotonic() + PATIENCE
            while not _accepts(self.port):
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self.kill()
                    said.seek(0)
                    raise RuntimeError(f"the RTSP server did not start: {said.read().decode()}")
                time.sleep(0.02)

    def kill(self) -> None:
        """Kill the server with SIGKILL, also when it is paused; its connections close. No effect if it does not run."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def pause(self) -> None:
        """Stop the process with SIGSTOP: connections stay open, but nothing is sent."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None, "the server does not run"
        self._process.send_signal(number)

    def __enter__(self) -> "RtspServer":
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.kill()


def _accepts(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@contextmanager
def silent_server() -> Iterator[str]:
    """A camera that accepts connections and never answers; yields its URL."""
    with _peer(lambda connection, stop: stop.wait()) as port:
        yield f"rtsp://127.0.0.1:{port}/stream"


@contextmanager
def frameless_server() -> Iterator[str]:
    """A camera that completes the handshake up to PLAY and then sends nothing; yields its URL."""
    with _peer(_shake_hands) as port:
        yield f"rtsp://127.0.0.1:{port}/stream"


@contextmanager
def changed(camera: RtspServer, ask: Change = bytes, answer: Change = bytes) -> Iterator[str]:
    """``camera`` with some of its RTSP messages changed, or with an end of the connection for None; yields its URL."""

    def serve(client: socket.socket, stop: threading.Event) -> None:
        with socket.create_connection(("127.0.0.1", camera.port), timeout=0.1) as server:
            while not stop.is_set():
                for source, sink, change in ((client, server, ask), (server, client, answer)):
                    with suppress(TimeoutError):
                        message = source.recv(65536)
                        changed_message = change(message) if message else None
                        if changed_message is None:
                            return
                        sink.sendall(changed_message)

    with _peer(serve) as port:
        yield f"rtsp://127.0.0.1:{port}/stream"


_SDP = (
    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n"
    "a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\na=control:video\r\n"
)
_REPLIES = {
    "OPTIONS": "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n\r\n",
    "DESCRIBE": f"Content-Type: application/sdp\r\nContent-Length: {len(_SDP)}\r\n\r\n{_SDP}",
    "SETUP": "Session: 1\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n\r\n",
}


def _shake_hands(connection: socket.socket, stop: threading.Event) -> None:
    waiting = b""
    while not stop.is_set():
        with suppress(TimeoutError):
            received = connection.recv(4096)
            if not received:
                return
            waiting += received
        while b"\r\n\r\n" in waiting:
            request, waiting = waiting.split(b"\r\n\r\n", 1)
            method = request.split(b" ", 1)[0].decode()
            number = re.search(rb"CSeq: (\d+)", request)
            assert number is not None
            reply = _REPLIES.get(method, "Session: 1\r\n\r\n")
            connection.sendall(f"RTSP/1.0 200 OK\r\nCSeq: {number[1].decode()}\r\n{reply}".encode())


@contextmanager
def _peer(serve: Callable[[socket.socket, threading.Event], object]) -> Iterator[int]:
    """A TCP server on loopback that calls ``serve`` in a thread per connection; yields its port."""
    stop = threading.Event()
    threads: list[threading.Thread] = []

    def handle(connection: socket.socket) -> None:
        connection.settimeout(0.1)
        with connection, suppress(OSError):
            serve(connection, stop)

    def accept(listener: socket.socket) -> None:
        while not stop.is_set():
            with suppress(TimeoutError):
                threads.append(threading.Thread(target=handle, args=(listener.accept()[0],), daemon=True))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.1)
        threads.append(threading.Thread(target=accept, args=(listener,), daemon=True))
        threads[0].start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            stop.set()
            for thread in threads:
                thread.join(PATIENCE)
