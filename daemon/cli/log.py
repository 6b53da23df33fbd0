"""Log lines: on stderr as the other messages, ``maskcast: warning: ...``; in a file with their time."""

import logging
import os
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from stages.errors import ConfigError

if TYPE_CHECKING:
    from daemon.service.service import Service

log = logging.getLogger(__name__)


def set_up(debug: bool, path: Path | None = None) -> "LogFile | None":
    """Show warnings and errors on stderr; with ``path`` all that is worth knowing goes there, and only errors to both.

    ``debug`` shows everything, with tracebacks. Raises ConfigError for a file that cannot be opened.
    """
    file = LogFile(path) if path is not None else None
    lines = _Lines(logging.ERROR if file else logging.NOTSET)
    lines.setFormatter(_OneLine("%(message)s"))
    logging.basicConfig(handlers=[lines, file] if file else [lines], level=logging.WARNING, force=True)
    usual = logging.INFO if file else logging.WARNING
    logging.getLogger("daemon").setLevel(logging.DEBUG if debug else usual)
    return file


def tell(text: str, before: str = "maskcast: ") -> None:
    """Print to stderr, looked up each time, so that a progress bar can put it above itself. It must stop nobody."""
    try:
        print(f"{before}{text}", file=sys.stderr, flush=True)
    except BrokenPipeError:  # whoever read it is gone; what is still buffered has nowhere to go
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    except OSError:
        pass


class LogFile(logging.FileHandler):
    """Appends one line a message. What cannot be written is lost, and stderr told once: a log must stop nobody.

    Raises ConfigError when the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._failed = self._told = False
        try:
            super().__init__(path, encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise ConfigError(f"--log {path}: {error.strerror}; choose a file that can be written") from None
        self.setFormatter(_OneLine("{asctime} {levelname} {message}", "%Y-%m-%dT%H:%M:%S%z", "{"))

    def reopen(self) -> None:
        """Go on in a new file, where the old one was renamed. Not for signal handlers: it takes the handler's lock."""
        with suppress(OSError):
            self.close()
        log.info("the log file was opened again")

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line; the base class opens the file where it is closed."""
        self._failed = False
        try:
            super().emit(record)
        except OSError:
            self.handleError(record)
        self._told = self._failed

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802, ARG002 - the base class names it so
        """Called while the exception is handled, that of a full disk too."""
        self._failed = True
        if not self._told:
            tell(f"warning: cannot write the log {self.baseFilename}: {sys.exception()}")


class Rotation:
    """Opens the log file again after SIGHUP. It watches the service: a signal can come amid a line that is written.

    Without a file SIGHUP does nothing, but what was started from a terminal still ends with it.
    """

    def __init__(self, file: LogFile | None) -> None:
        self._file, self._due = file, threading.Event()
        if file is not None or not sys.stderr.isatty():
            signal.signal(signal.SIGHUP, lambda *_: self._due.set())

    def started(self, service: "Service") -> None:
        """A signal that came before is answered by the first tick."""

    def tick(self, service: "Service") -> None:  # noqa: ARG002 - as of all watchers
        """Open the file again when a signal has asked for it."""
        if self._due.is_set():
            self._due.clear()
            if self._file is not None:
                self._file.reopen()

    def close(self) -> None:
        """The file stays open for what is still to be told."""


class _Lines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno < logging.CRITICAL:  # what ends the program is told when it ends
            tell(f"{record.levelname.lower()}: {self.format(record)}")


class _OneLine(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the base class names it so
        return " ".join(super().formatMessage(record).split())
