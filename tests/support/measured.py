"""The real program as a process for long runs, with its metrics and process statistics."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psutil
import zmq
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from tests.support.program import PATIENCE


class Scrape:
    """All series of one scrape."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._samples = samples

    def sum(self, name: str, **labels: str) -> float:
        """Sum of the series ``maskcast_<name>`` with these labels."""
        wanted = labels.items()
        return sum(s.value for s in self._samples if s.name == f"maskcast_{name}" and wanted <= s.labels.items())


class MeasuredProgram:
    """``maskcast run`` on free ports; its stderr goes to a file, so that it never blocks on a full pipe.

    ``module`` is run instead of the daemon's own, with the same arguments.
    """

    def __init__(self, *arguments: str, module: str = "daemon", **environment: str) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("MASKCAST_")}
        free = ("--publish", "tcp://127.0.0.1:0", "--http", "127.0.0.1:0")
        self._complaints = tempfile.TemporaryFile("w+")  # noqa: SIM115 - for as long as the program runs
        self._program = subprocess.Popen(
            [sys.executable, "-m", module, "run", *arguments, *free],
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            text=True,
            env={**clean, **environment},
        )
        self.process = psutil.Process(self._program.pid)
        self._addresses: dict[str, str] = {}

    def address(self, name: str) -> str:
        """The address that the program prints after "masks:" or "metrics:". Exits with its stderr if it has ended."""
        assert self._program.stdout is not None
        while name not in self._addresses:
            line = self._program.stdout.readline()
            if not line:
                sys.exit(f"maskcast ended at once: {self.complaints()}")
            key, separator, value = line.partition(": ")
            if separator:
                self._addresses[key] = value.split()[-1]
        return self._addresses[name]

    def scrape(self) -> Scrape:
        with urllib.request.urlopen(self.address("metrics"), timeout=PATIENCE) as answer:
            families = text_string_to_metric_families(answer.read().decode())
        return Scrape([sample for family in families for sample in family.samples])

    def complaints(self) -> str:
        """The last lines of its stderr."""
        return " | ".join(self.stderr().decode(errors="replace").splitlines()[-5:])

    def stderr(self, after: int = 0) -> bytes:
        """What it has written there, from byte ``after`` on."""
        file = self._complaints.fileno()
        return os.pread(file, os.fstat(file).st_size, after)  # does not move the program's place in the file

    def wait(self) -> int:
        """Wait until the program has ended; its exit code."""
        self._program.communicate(timeout=PATIENCE)
        return self._program.returncode

    def close(self) -> None:
        """Terminate the program if it still runs."""
        self._program.terminate()
        try:
            self._program.communicate(timeout=PATIENCE)
        finally:
            self._program.kill()
            self._complaints.close()


def find_py_spy() -> str | None:
    """The program's path: on the PATH, beside Python, or where ``pip install --target`` puts it."""
    folders = [os.environ.get("PATH", ""), sysconfig.get_path("scripts"), *(f"{place}/bin" for place in sys.path)]
    return shutil.which("py-spy", path=os.pathsep.join(folders))


@contextmanager
def subscriber(program: MeasuredProgram, *topics: str) -> Iterator[Iterator[list[bytes]]]:
    """Iterator over the messages of ``topics``, in parts. Exits with the program's stderr when it ends or is silent."""
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.connect(program.address("masks"))
        for topic in topics:
            socket.subscribe(topic)
        yield _messages(program, socket)


def _messages(program: MeasuredProgram, socket: "zmq.Socket[bytes]") -> Iterator[list[bytes]]:
    silent = 0
    while silent < PATIENCE:
        running = program.process.is_running() and program.process.status() != psutil.STATUS_ZOMBIE
        if socket.poll(1000):
            silent = 0
            yield socket.recv_multipart()
        elif running:
            silent += 1
        else:
            sys.exit(f"maskcast ended: {program.complaints()}")
    sys.exit(f"no message in {silent} s: {program.complaints()}")
