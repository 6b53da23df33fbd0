"""Logging: to stderr as ``maskcast: warning: ...``, and to a file with times; to both as JSON where that is set."""

import logging
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from daemon.cli.log_lines import Format, formatter, message
from stages.errors import ConfigError

if TYPE_CHECKING:
    from daemon.service.service import Service

log = logging.getLogger(__name__)


def set_up(debug: bool, path: Path | None = None, kind: Format = "text", level: str = "") -> "LogFile | None":
    """Log to stderr, and with ``path`` to that file, too: then only errors go to stderr.

    ``level`` is the least that is logged: debug, info, warning or error; "" is info in a file, else warning. ``debug``
    adds debug messages and tracebacks. Raises ConfigError if the file cannot be opened.
    """
    file = LogFile(path, kind) if path is not None else None
    stderr = _StderrHandler(kind, logging.ERROR if file else logging.NOTSET)
    least = "debug" if debug else level or ("info" if file else "warning")
    number = logging.getLevelNamesMapping()[least.upper()]
    # of libraries only what is wrong
    logging.basicConfig(handlers=[stderr, file] if file else [stderr], level=max(number, logging.WARNING), force=True)
    logging.getLogger("daemon").setLevel(number)
    logging.captureWarnings(kind == "json")  # else Python writes them to stderr as text
    return file


def is_json() -> bool:
    """Whether stderr gets JSON."""
    return any(
        isinstance(handler, _StderrHandler) and handler.kind == "json" for handler in logging.getLogger().handlers
    )


def print_message(text: str, prefix: str = "maskcast: ", stream: str | None = None, event: str | None = None) -> None:
    """Print a line to the current ``sys.stderr``, which progress bars may replace.

    ``stream`` and ``event`` are fields of JSON, which has no ``prefix``.
    """
    if is_json():
        _print_line(formatter("json", "").format(message(text, logging.INFO, stream, event)))
    else:
        _print_line(f"{prefix}{text}")


def print_error(text: str, error: Exception | None = None) -> None:
    """Print why the program ends; with ``error`` also its traceback."""
    if is_json():
        _print_line(formatter("json", "").format(message(text, logging.ERROR, event="error", error=error)))
        return
    if error is not None:
        traceback.print_exception(error)
    print_message(f"error: {text}")


def _print_line(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class LogFile(logging.FileHandler):
    """Appends one line per message. If writing fails, the line is lost and stderr gets one warning; nothing is raised.

    The constructor raises ConfigError if the file cannot be opened.
    """

    def __init__(self, path: Path, kind: Format = "text") -> None:
        self._failed = self._warned = False
        try:
            super().__init__(path, encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise ConfigError(f"--log {path}: {error.strerror}; choose a file that can be written") from None
        self.setFormatter(formatter(kind, "{asctime} {levelname} {message}"))

    def reopen(self) -> None:
        """Open the path again, after a rename. Takes the logging lock, so do not call it in a signal handler."""
        with suppress(OSError):
            self.close()
        log.info("the log file was opened again", extra={"event": "log_reopened"})

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

    Then it calls ``then``. Without a file, on a terminal, SIGHUP still ends the program.
    """

    def __init__(self, file: LogFile | None, then: "Callable[[Service], None]") -> None:
        """``then``: runs in a thread of its own, since it may take long."""
        self._file, self._then, self._requested = file, then, threading.Event()
        if file is not None or not sys.stderr.isatty():
            signal.signal(signal.SIGHUP, lambda *_: self._requested.set())

    def started(self, service: "Service") -> None:
        """Nothing: the first tick handles an earlier signal."""

    def tick(self, service: "Service") -> None:
        """Reopen the file if SIGHUP has arrived."""
        if self._requested.is_set():
            self._requested.clear()
            if self._file is not None:
                self._file.reopen()
            threading.Thread(target=self._then, args=(service,), name="after-hangup", daemon=True).start()

    def close(self) -> None:
        """Nothing: the file stays open for later messages."""


class _StderrHandler(logging.Handler):
    def __init__(self, kind: Format, level: int) -> None:
        super().__init__(level)
        self.kind = kind
        self.setFormatter(formatter(kind, "{message}"))

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.CRITICAL:  # such errors end the program, which prints them itself
            return
        line = self.format(record)
        if self.kind == "json":
            _print_line(line)
        elif not getattr(record, "printed", False):  # for people, in its own words
            print_message(f"{record.levelname.lower()}: {line}")
