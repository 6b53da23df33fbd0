"""Shows how the streams come along: who has started, then bars on a terminal, a line every ten seconds elsewhere."""

import logging
import sys
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from daemon.cli.log import tell
from daemon.service.service import Service
from daemon.service.status import introduce, introduce_stream, report
from daemon.settings.schema import Settings

LINE_EVERY = 10.0  # seconds

log = logging.getLogger(__name__)


def watch_progress() -> "Bars | Lines":
    """What fits where stderr goes."""
    console = Console(stderr=True)
    return Bars(console) if console.is_terminal else Lines()


class Announcer:
    """Says where to look, and of each stream what it does once it is up. On stdout, or ``aside``: on stderr."""

    def __init__(self, settings: Settings, aside: bool) -> None:
        self._settings, self._aside = settings, aside
        self._waiting = list(settings.streams)
        self._service: Service | None = None

    def started(self, service: Service) -> None:
        """All ports are open."""
        self._service = service
        self._say(introduce(service, self._settings))

    def tick(self, service: Service) -> None:
        """Announce the streams that have come up."""
        for settings in tuple(self._waiting):
            stream = service.streams.get(settings.name)
            if stream is not None and (stream.up or stream.metrics.frames_published):
                self._waiting.remove(settings)
                self._say(introduce_stream(settings, self._settings))

    def close(self) -> None:
        """Announce those that came and went between two looks."""
        if self._service is not None:
            self.tick(self._service)

    def _say(self, text: str) -> None:
        for line in text.splitlines():
            log.info("%s", line)
        if self._aside:
            tell(text, before="")
        else:
            print(text, flush=True)


class Lines:
    """One line a stream, every ten seconds, on stderr."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def started(self, service: Service) -> None:
        """The first lines come after ten seconds."""

    def tick(self, service: Service) -> None:
        """Print when it is time."""
        if time.monotonic() - self._last < LINE_EVERY:
            return
        self._last = time.monotonic()
        if not service.models_loaded:
            tell("loading the models")
        for stream in service.streams.values():
            if not stream.ended:
                tell(str(report(stream)))

    def close(self) -> None:
        """Nothing is left on the screen."""


class Bars:
    """A bar a stream, on stderr; it pulses where the end is unknown."""

    def __init__(self, console: Console) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[state]}"))
        # what is printed goes above the bars, but not what a program reads
        self._progress = Progress(
            *columns, console=console, transient=True, refresh_per_second=4, redirect_stdout=sys.stdout.isatty()
        )
        self._tasks: dict[str, TaskID] = {}

    def started(self, service: Service) -> None:  # noqa: ARG002 - as of all watchers
        """Put the bars on the screen."""
        self._progress.start()

    def tick(self, service: Service) -> None:
        """Move the bars."""
        for name in self._tasks.keys() - service.streams.keys():
            self._progress.remove_task(self._tasks.pop(name))
        for name, stream in service.streams.items():
            if name not in self._tasks:
                self._tasks[name] = self._progress.add_task(name, total=None, state="")
            now = report(stream)
            of = f" of {now.expected}" if now.expected else ""
            state = f"{now.frames}{of} frames, {stream.metrics.fps():.1f} FPS, {now.dropped} dropped"
            state = state if service.models_loaded else "loading the models"
            self._progress.update(self._tasks[name], completed=now.frames, total=now.expected, state=state)

    def close(self) -> None:
        """Take the bars away."""
        self._progress.stop()
