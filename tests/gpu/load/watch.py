"""Looks at a daemon from outside: what it publishes, what its threads do when it is silent, what the GPU holds."""

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.benchmarks.support.live_run import Arrival
from tests.support.measured import MeasuredProgram, find_py_spy, subscriber

SILENCE = 5.0  # seconds without a frame after which all threads' stacks are written


class Subscriber(threading.Thread):
    """Reads all masks messages, and with ``pictures`` the pictures too, until the process ends."""

    def __init__(self, program: MeasuredProgram, names: Sequence[str], pictures: bool) -> None:
        super().__init__(daemon=True)
        kinds = ("masks", "frame") if pictures else ("masks",)
        self._program, self._topics = program, [f"v1/{name}/{kind}" for name in names for kind in kinds]
        self.arrivals: list[Arrival] = []
        self.objects = 0  # in all masks messages
        self.last = time.monotonic()  # when a masks message came

    def run(self) -> None:
        with subscriber(self._program, *self._topics) as messages:
            for topic, text, *_ in messages:
                if topic.endswith(b"/masks"):
                    header = json.loads(text)
                    late = header["published_at"] - header["captured_at"]
                    self.objects += len(header["objects"])
                    self.arrivals.append(
                        Arrival(header["stream"], header["captured_at"], late, header["dropped_before"])
                    )
                    self.last = time.monotonic()


class Silence:
    """Writes the daemon's stacks, once each time that nothing comes for ``longest`` seconds."""

    def __init__(self, program: MeasuredProgram, what: str, longest: float = SILENCE) -> None:
        self._program, self._what, self._longest, self._told = program, what, longest, float("-inf")

    def look(self, last: float) -> None:
        """``last``: monotonic seconds at which something came."""
        if time.monotonic() - last > self._longest and self._told < last:
            self._told = time.monotonic()
            print(f"- {self._what} for {self._longest:g} s: stacks are in the log", flush=True)
            write_stacks(self._program)


def write_stacks(program: MeasuredProgram) -> None:
    """Write what each thread of the daemon does: to stdout by py-spy, which names them, or to the daemon's stderr."""
    pid = program.process.pid
    if (py_spy := find_py_spy()) and not subprocess.run([py_spy, "dump", "--pid", str(pid)]).returncode:
        return
    os.kill(pid, signal.SIGUSR1)  # see tests.gpu.load.watched_daemon


@contextmanager
def relayed(program: MeasuredProgram) -> Iterator[None]:
    """Print what the daemon writes to stderr, twice a second."""
    done = threading.Event()

    def relay() -> None:
        after, ending = 0, False
        while not ending:
            ending = done.wait(0.5)
            said = program.stderr(after)
            after += len(said)
            print(said.decode(errors="replace"), end="", flush=True)

    thread = threading.Thread(target=relay, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


class GpuMeter:
    """Samples the GPU's memory and use once a second by nvidia-smi, where it is there."""

    def __init__(self) -> None:
        self._samples: list[tuple[float, float]] = []
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def stop(self) -> tuple[float, float] | None:
        """Most MiB used, and the mean of the share of time in which the GPU worked; None without a sample."""
        self._done.set()
        self._thread.join()
        if not self._samples:
            return None
        used, shares = zip(*self._samples, strict=True)
        return max(used), sum(shares) / len(shares) / 100

    def _sample(self) -> None:
        command = ["nvidia-smi", "--query-gpu=memory.used,utilization.gpu", "--format=csv,noheader,nounits"]
        while not self._done.wait(1.0):
            try:
                said = subprocess.run(command, capture_output=True, text=True, timeout=10).stdout
                used, share = said.splitlines()[0].split(",")
                self._samples.append((float(used), float(share)))
            except (OSError, subprocess.TimeoutExpired, ValueError, IndexError):
                return  # no nvidia-smi, or one that cannot tell
