"""Progress of the streams: start messages, then bars on a terminal.

Elsewhere files get a line every ten seconds, and live streams none: nobody looks at what never ends, and its lines
would fill a log.
"""

import logging
import sys
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from daemon.cli.log import is_json, print_message
from daemon.service.service import Service
from daemon.service.status import introduce, introduce_stream, report
from daemon.settings.schema import Settings
from stages.plural import plural

LINE_EVERY = 10.0  # seconds

log = logging.getLogger(__name__)


def progress_display() -> "ProgressBars | ProgressLines":
    """ProgressBars if stderr is a terminal that gets text, else lines."""
    console = Console(stderr=True)
    return ProgressBars(console) if console.is_terminal and not is_json() else ProgressLines()


class StartMessages:
    """Prints the addresses of the daemon, then what each stream does once it is up; also to the log.

    On stdout, or on stderr with ``to_stderr``.
    """

    def __init__(self, settings: Settings, to_stderr: bool) -> None:
        self._settings, self._to_stderr = settings, to_stderr
        self._told: set[str] = set()  # sessions
        self._service: Service | None = None

    def started(self, service: Service) -> None:
        """Print the addresses: all ports are open."""
        self._service = service
        self._print(introduce(service, self._settings), None, "listening")

    def tick(self, service: Service) -> None:
        """Print the messages of streams that have come up; streams come and go with changes."""
        running, wanted = service.streams, service.configuration.wanted
        self._told &= {stream.identity.session for stream in running.values()}
        for name, settings in wanted.streams.items():
            stream = running.get(name)
            if stream is None or stream.identity.session in self._told:
                continue
            if stream.up or stream.metrics.frames_published:
                self._told.add(stream.identity.session)
                self._print(introduce_stream(settings, wanted.settings), name, "stream_started")

    def close(self) -> None:
        """Print the messages of streams that started and ended since the last tick."""
        if self._service is not None:
            self.tick(self._service)

    def _print(self, text: str, stream: str | None, event: str) -> None:
        for line in text.splitlines():
            log.info("%s", line, extra={"stream": stream, "event": event, "printed": True})
        if not self._to_stderr:
            print(text, flush=True)
        elif not is_json():
            print_message(text, prefix="")


class ProgressLines:
    """Prints one line per stream that ends by itself to stderr, every LINE_EVERY seconds."""

    def __init__(self) -> None:
        self._last = time.monotonic()
        self._loading_told = False

    def started(self, service: Service) -> None:
        """Nothing: the first lines come after LINE_EVERY seconds."""

    def tick(self, service: Service) -> None:
        """Print the lines when they are due."""
        if time.monotonic() - self._last < LINE_EVERY:
            return
        self._last = time.monotonic()
        if not service.models_loaded:  # no stream has frames before
            if not self._loading_told:
                print_message("loading the models", event="loading")
            self._loading_told = True
            return
        for stream in service.streams.values():
            if not (stream.ended or stream.live):
                print_message(str(report(stream)), stream=stream.name, event="progress")

    def close(self) -> None:
        """Nothing to remove."""


class ProgressBars:
    """Shows one bar per stream on stderr; the bar pulses if the number of frames is unknown."""

    def __init__(self, console: Console) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[state]}"))
        # printed text goes above the bars, except stdout that another program reads
        self._progress = Progress(
            *columns, console=console, transient=True, refresh_per_second=4, redirect_stdout=sys.stdout.isatty()
        )
        self._tasks: dict[str, TaskID] = {}

    def started(self, service: Service) -> None:  # noqa: ARG002 - signature of watchers
        """Show the bars."""
        self._progress.start()

    def tick(self, service: Service) -> None:
        """Update the bars."""
        for name in self._tasks.keys() - service.streams.keys():
            self._progress.remove_task(self._tasks.pop(name))
        for name, stream in service.streams.items():
            if name not in self._tasks:
                self._tasks[name] = self._progress.add_task(name, total=None, state="")
            current = report(stream)
            of = f" of {current.expected}" if current.expected else ""
            frames = f"{current.frames}{of} {plural(current.expected or current.frames, 'frame')}"
            state = f"{frames}, {stream.metrics.fps():.1f} FPS, {current.dropped} dropped"
            state = state if service.models_loaded else "loading the models"
            self._progress.update(self._tasks[name], completed=current.frames, total=current.expected, state=state)

    def close(self) -> None:
        """Remove the bars."""
        self._progress.stop()
