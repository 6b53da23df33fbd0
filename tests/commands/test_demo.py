"""``maskcast demo``: the whole pipeline in one command, with a verdict."""

import json
import os
import pty
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import av
import pytest

from tests.support.program import PATIENCE

pytestmark = pytest.mark.process

FRAMES = 40


def demo(*arguments: str, **streams: int) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MASKCAST_")}
    command = [sys.executable, "-m", "daemon", "demo", "--device", "cpu", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    environment = {**clean, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, text=True, env=environment, timeout=PATIENCE, check=False, **pipes)


class Screen:
    """A terminal, and all that was ever shown on it."""

    def __init__(self) -> None:
        self._keyboard, self.terminal = pty.openpty()
        self.shown = b""
        self._reader = threading.Thread(target=self._read)

    def __enter__(self) -> "Screen":
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.terminal)
        self._reader.join()
        os.close(self._keyboard)

    def _read(self) -> None:
        with suppress(OSError):  # how a terminal says that nobody is left to write to it
            while part := os.read(self._keyboard, 1 << 16):
                self.shown += part


@pytest.fixture(scope="module")
def busy() -> Iterator[None]:
    """The default ports are taken, as by a running daemon."""
    servers = []
    for port in (5555, 9109):
        try:
            servers.append(socket.create_server(("127.0.0.1", port)))
        except OSError:  # somebody has it already
            continue
    yield
    for server in servers:
        server.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def done(busy, folder: Path) -> subprocess.CompletedProcess[str]:
    return demo("--frames", str(FRAMES), "--out", str(folder), "--json")


@pytest.fixture(scope="module")
def summary(done) -> dict:
    return json.loads(done.stdout)


def test_it_ends_well_and_its_summary_is_one_json_object(done, summary):
    assert done.returncode == 0, done.stderr
    assert summary["frames"] == FRAMES
    assert summary["dropped"] == 0
    assert summary["fps"] > 0
    assert 0 < summary["latency_p50"] <= summary["latency_p95"]


def test_ports_that_are_taken_are_replaced_and_it_says_so(done):
    assert "tcp://127.0.0.1:5555 is in use, taking a free port" in done.stderr
    assert "127.0.0.1:9109 is in use, taking a free port" in done.stderr


def test_it_says_where_to_look_and_listen(done, folder):
    assert f"shapes: recording to {folder / 'shapes.mp4'}" in done.stderr
    assert "masks: maskcast watch tcp://127.0.0.1:" in done.stderr
    assert "metrics: http://127.0.0.1:" in done.stderr


def test_it_finds_and_follows_most_of_what_is_there(summary):
    quality = summary["quality"]
    assert quality["f1"] > 0.6
    assert quality["mask_iou"] > 0.6
    assert summary["tracks"] > 0


def test_it_records_every_frame(summary):
    video, lines = map(Path, summary["files"])
    with av.open(str(video)) as container:
        assert sum(1 for _ in container.decode(video=0)) == FRAMES
    assert len(lines.read_text().splitlines()) == FRAMES


def test_on_a_terminal_it_shows_a_bar_and_ends_with_the_verdict_in_words(busy, folder):
    with Screen() as screen:
        done = demo("--frames", "6", "--out", str(folder), stderr=screen.terminal)
    assert done.returncode == 0
    assert b"of 6 frames" in screen.shown
    assert "shapes: 6 frames, " in done.stdout
    assert "detection F1 " in done.stdout
    assert "mask IoU " in done.stdout


def test_a_demo_without_frames_makes_no_sense():
    done = demo("--frames", "0")
    assert (done.returncode, done.stderr) == (2, "maskcast: error: --frames 0: a demo has at least 1 frame\n")
