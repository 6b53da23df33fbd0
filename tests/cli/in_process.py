"""A command in this process: all of the program but the start of an interpreter, which imports for seconds."""

import re

import pytest

from daemon.__main__ import main

PROGRESS = re.compile(r"maskcast: (loading the models|compiling takes minutes|\w+: \d+ frames?, )")


def printed_here(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Standard output of a command that ends with 0."""
    code, said = main(arguments), capsys.readouterr()
    assert code == 0, said.err
    return said.out


def error_here(capsys: pytest.CaptureFixture[str], *arguments: str, code: int) -> str:
    """The one line on stderr of a command that ends with ``code``; what tells of progress does not count."""
    try:
        ended: object = main(arguments)
    except SystemExit as end:  # argparse's
        ended = end.code
    assert ended == code
    lines = capsys.readouterr().err.splitlines()
    [line] = [line for line in lines if not PROGRESS.match(line)]
    assert line.startswith("maskcast: error: ")
    return line.removeprefix("maskcast: error: ")
