"""Logging: to stderr as ``maskcast: warning: ...``, and to a file with times."""

import logging
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
    """Log warnings and errors to stderr. With ``path``, info and above go to that file and only errors also to stderr.

    ``debug`` adds debug messages and tracebacks. Raises ConfigError if the file cannot be opened.
    """
    file = LogFile(path) if path is not None else None
    stderr = _StderrHandler(logging.ERROR if file else logging.NOTSET)
    stderr.setFormatter(_OneLineFormatter("%(message)s"))
    logging.basicConfig(handlers=[stderr, file] if file else [stderr], level=logging.WARNING, force=True)
    level = logging.INFO if file else logging.WARNING
    logging.getLogger("daemon").setLevel(logging.DEBUG if debug else level)
    return file


def print_message(text: str, prefix: str = "maskcast: ") -> None:
    """Print a line to the current ``sys.stderr``, which progress bars may replace."""
    print(f"{prefix}{text}", file=sys.stderr, flush=True)


class LogFile(logging.FileHandler):
    """Appends one line per message. If writing fails, the line is lost and stderr gets one warning; nothing is raised.

    The constructor raises ConfigError if the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._failed = self._warned = False
        try:
            super().__init__(path, encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise ConfigError(f"--log {path}: {error.strerror}; choose a file that can be written") from None
        self.setFormatter(_OneLineFormatter("{asctime} {levelname} {message}", "%Y-%m-%dT%H:%M:%S%z", "{"))

    def reopen(self) -> None:
        """Open the path again, after a rename. Takes the logging lock, so do not call it in a signal handler."""
        with suppress(OSError):
            self.close()
        log.info("the log file was opened again")

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line; the base class opens a closed file."""
        self._failed = False
        try:
            super().emit(record)
        except OSError:
            self.handleError(record)
        self._warned = self._failed

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802, ARG002 - signature of the base class
        """Warn on stderr, once until a line is written again. Called while the exception is handled."""
        self._failed = True
        if not self._warned:
            print_message(f"warning: cannot write the log {self.baseFilename}: {sys.exception()}")


class Rotation:
    """Reopens the log file after SIGHUP. It does so in ``tick``, since a signal may interrupt the writing of a line.

    Without a file SIGHUP is ignored, except on a terminal, where it still ends the program.
    """

    def __init__(self, file: LogFile | None) -> None:
        self._file, self._requested = file, threading.Event()
        if file is not None or not sys.stderr.isatty():
            signal.signal(signal.SIGHUP, lambda *_: self._requested.set())

    def started(self, service: "Service") -> None:
        """Nothing: the first tick handles an earlier signal."""

    def tick(self, service: "Service") -> None:  # noqa: ARG002 - signature of watchers
        """Reopen the file if SIGHUP has arrived."""
        if self._requested.is_set():
            self._requested.clear()
            if self._file is not None:
                self._file.reopen()

    def close(self) -> None:
        """Nothing: the file stays open for later messages."""


class _StderrHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno < logging.CRITICAL:  # critical errors end the program, which prints them itself
            print_message(f"{record.levelname.lower()}: {self.format(record)}")


class _OneLineFormatter(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - name of the base class
        return " ".join(super().formatMessage(record).split())
