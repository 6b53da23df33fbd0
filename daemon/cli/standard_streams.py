"""Standard streams that are closed, broken or full: the work goes on, and only output that is the product may fail."""

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Literal, TextIO, cast

from stages.errors import OutputError


def prepare_streams() -> None:
    """Put the null device in the place of standard streams that are closed. To be called before anything is opened.

    A supervisor may start a program with them closed. Else the next file or socket would get the number of one of them.
    Characters that stdout cannot encode, also those of a file's name that is not UTF-8, are printed as escapes.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # Python's sign that it was closed
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115 - stays open
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


@contextmanager
def guarded(name: Literal["stdout", "stderr"], product: bool) -> Iterator[None]:
    """Handle failing writes to ``sys.stdout`` or ``sys.stderr`` by what is written: the product, or messages.

    Messages that cannot be written are lost, and nothing is raised. A product that cannot be written raises
    BrokenPipeError where its reader has gone, else OutputError.
    """
    before: TextIO = getattr(sys, name)
    setattr(sys, name, cast(TextIO, _Guard(before, product)))
    try:
        yield
    finally:
        setattr(sys, name, before)
        try:
            before.flush()
        except OSError:  # what is still buffered would fail again, noisily, when the interpreter ends
            _discard(before)


class _Guard:
    """A text stream that handles failing writes; everything else is the stream's own."""

    def __init__(self, stream: TextIO, product: bool) -> None:
        self._stream, self._product = stream, product

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as error:
            self._failed(error)
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._failed(error)

    def _failed(self, error: OSError) -> None:
        # messages stay buffered on a full disk, which may get room again
        if self._product or error.errno != errno.ENOSPC:
            _discard(self._stream)
        if self._product and isinstance(error, BrokenPipeError):
            raise error
        if self._product:
            raise OutputError(f"cannot write to standard output: {error.strerror}; send it elsewhere")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _discard(stream: TextIO) -> None:
    """Send what the stream has buffered, and all that is yet to come, to the null device."""
    with suppress(OSError, ValueError):  # a stream without a descriptor
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
