"""How long a start takes, from the start of the process until the models can run, and what it consists of."""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from daemon.metrics.registry import MODELS, Metrics

log = logging.getLogger(__name__)


class StartTimes:
    """Measures the parts of a start, which come one after the other. One thread at a time uses it.

    All that came before it was made counts as imports.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._seconds = {"imports": process_age()}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the time of the block to this part: "imports", the role of a model, or "warm-up"."""
        began = time.perf_counter()
        yield
        self._seconds[name] = self._seconds.get(name, 0.0) + time.perf_counter() - began
        if name in MODELS:
            self._metrics.model_load.labels(name).set(self._seconds[name])

    def ready(self) -> None:
        """Report the whole start, which has just ended, in the log and as metrics."""
        total, parts = process_age(), self._seconds
        other = max(0.0, total - sum(parts.values()))  # ports, device, memory budget
        told = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in {**parts, "other": other}.items())
        log.info("ready %.1f s after the start: %s", total, told, extra={"event": "ready"})
        of_start = self._metrics.start
        of_start.labels("imports").set(parts["imports"])
        of_start.labels("models").set(sum(parts.get(model, 0.0) for model in MODELS))
        of_start.labels("warm_up").set(parts.get("warm-up", 0.0))
        of_start.labels("other").set(other)


def process_age() -> float:
    """Seconds since the kernel started this process, to a hundredth; Linux, see proc_pid_stat(5)."""
    after_name = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    started = int(after_name[19]) / os.sysconf("SC_CLK_TCK")  # field 22, in ticks since the machine's start
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started
