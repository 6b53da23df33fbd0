"""The forwarder as a process."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.program import PATIENCE, get

COMMAND = [sys.executable, "-m", "daemon.fleet.forwarder"]


class Process:
    """The running program, which has said where it listens."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.endpoint, self.metrics = (self.process.stdout.readline().split()[-1] for _ in range(2))

    def figure(self, name: str) -> float:
        found = re.search(rf"^maskcast_forwarder_{name} (\S+)$", get(self.metrics)[1], re.MULTILINE)
        assert found, name
        return float(found[1])

    def end(self, number: int) -> tuple[int, str]:
        """Its exit code after this signal, and what it said on stderr."""
        self.process.send_signal(number)
        said = self.process.communicate(timeout=PATIENCE)[1]
        return self.process.returncode, said


@contextmanager
def running(*arguments: str) -> Iterator[Process]:
    process = Process(*arguments)
    try:
        yield process
    finally:
        process.process.kill()
        process.process.communicate()
