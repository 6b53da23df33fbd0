"""Shows how the streams come along: bars on a terminal, a line every ten seconds elsewhere. On stderr."""

import sys
import time
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from daemon.report import report
from daemon.service import Service

LINE_EVERY = 10.0  # seconds


def watch_progress(announce: Callable[[Service], None]) -> "Bars | Lines":
    """What fits where stderr goes; ``announce`` is called when all ports are open."""
    console = Console(stderr=True)
    return Bars(announce, console) if console.is_terminal else Lines(announce)


class Lines:
    """One line a stream, every ten seconds."""

    def __init__(self, announce: Callable[[Service], None]) -> None:
        self.started = announce
        self._last = time.monotonic()

    def tick(self, service: Service) -> None:
        """Print when it is time."""
        if time.monotonic() - self._last < LINE_EVERY:
            return
        self._last = time.monotonic()
        if not service.engine.ready.is_set():
            print("maskcast: loading the models", file=sys.stderr, flush=True)
        for stream in service.streams.values():
            if not stream.ended:
                print(f"maskcast: {report(stream)}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Nothing is left on the screen."""


class Bars:
    """A bar a stream; it pulses where the end is unknown."""

    def __init__(self, announce: Callable[[Service], None], console: Console) -> None:
        self._announce = announce
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[state]}"))
        self._progress = Progress(*columns, console=console, transient=True, refresh_per_second=4)
        self._tasks: dict[str, TaskID] = {}

    def started(self, service: Service) -> None:
        """Announce, then put the bars on the screen."""
        self._announce(service)
        self._progress.start()

    def tick(self, service: Service) -> None:
        """Move the bars."""
        for name, stream in service.streams.items():
            if name not in self._tasks:
                self._tasks[name] = self._progress.add_task(name, total=None, state="")
            now = report(stream)
            of = f" of {now.expected}" if now.expected else ""
            state = f"{now.frames}{of} frames, {stream.metrics.fps():.1f} FPS, {now.dropped} dropped"
            state = state if service.engine.ready.is_set() else "loading the models"
            self._progress.update(self._tasks[name], completed=now.frames, total=now.expected, state=state)

    def close(self) -> None:
        """Take the bars away."""
        self._progress.stop()
