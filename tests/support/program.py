"""The real program as a process, and helpers to read its output files and HTTP."""

import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import zmq

from stages.recording import segment
from stages.recording.segment import videos

PATIENCE = 600  # seconds to wait for anything, also on a very busy machine; only what hangs takes longer


class Program:
    """``maskcast run`` with the embedded models on free ports; ``before`` is a prefix of the command."""

    def __init__(self, *arguments: str, before: Sequence[str] = (), **environment: str) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("MASKCAST_")}
        embedded = ("--detector", "embedded", "--segmenter", "embedded", "--device", "cpu")
        free = ("--publish", "tcp://127.0.0.1:0", "--http", "127.0.0.1:0")
        self.process = subprocess.Popen(
            [*before, sys.executable, "-m", "daemon", "run", *embedded, *free, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**clean, "OMP_NUM_THREADS": "1", **environment},
        )
        self.said: list[str] = []

    def address(self, name: str) -> str:
        """The address that the program prints after "masks:" or "metrics:"."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line)
            if line.startswith(f"{name}: "):
                return line.split()[-1]
        raise AssertionError(f"it ended without naming its {name}: {self.said} {self.process.communicate()}")

    def end(self) -> tuple[int, str, list[str]]:
        """Exit code, stdout, and the lines of stderr except those about progress."""
        out, err = self.process.communicate(timeout=PATIENCE)
        progress = re.compile(r"maskcast: (loading the models|[\w.-]+: \d+ frames?, .*)|(masks|metrics|shapes): .*")
        wrong = [line for line in err.splitlines() if not progress.fullmatch(line)]
        return self.process.returncode, "".join(self.said) + out, wrong


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def wait_until(condition: Any, what: str = "it") -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"{what} never happened"
        time.sleep(0.05)


def lines_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def recorded(folder: Path, stream: str) -> list[dict[str, Any]]:
    """The headers in all segments of a live stream so far, in the order of their names."""
    files = [lines for video in videos(folder, stream) if (lines := segment.lines_of(video)).exists()]
    return [json.loads(line) for file in files for line in file.read_bytes().split(b"\n")[:-1]]


def pictures_in(video: Path) -> int:
    with av.open(str(video)) as container:
        return sum(1 for _ in container.decode(video=0))


@contextmanager
def deaf_subscriber(folder: Path) -> Iterator[str]:
    """The endpoint of a subscriber that never reads."""
    endpoint = f"ipc://{folder}/masks"
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.set(zmq.RCVHWM, 1)
        socket.subscribe("")
        socket.connect(endpoint)
        yield endpoint
