"""The readers of deploy/clients/readers as processes: built by what their README names, in a folder of their own.

Where a compiler, a library or a registry is missing their tests skip with the reason, unless
``MASKCAST_REQUIRE_TOOLS`` is set: then they fail.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from select import select
from typing import NoReturn

import pytest

from tests.support.program import PATIENCE

CLIENTS = Path(__file__).parents[2] / "deploy" / "clients"
READERS = CLIENTS / "readers"
SOURCES = {"python": "watch.py", "javascript": "watch.mjs", "go": "main.go", "cpp": "watch.cpp"}
RUN = {  # as in the README of deploy/clients
    "python": [sys.executable, "watch.py"],
    "javascript": ["node", "watch.mjs"],
    "go": ["./watch"],
    "cpp": ["./watch"],
}
BUILD = {
    "javascript": ["npm", "ci", "--prefer-offline", "--ignore-scripts", "--no-audit", "--no-fund"],
    "go": ["go", "build", "-buildvcs=false", "-o", "watch", "."],
    "cpp": ["g++", "-std=c++20", "-O1", "-Wall", "-Wextra", "-Werror", "watch.cpp", "-o", "watch", "-lzmq"],
}


def build(language: str, folder: Path, change: Callable[[Path], object] = lambda place: None) -> Path:
    """A copy of the reader in ``folder``, ready to be run there by its command of RUN; ``change`` edits it before."""
    place = _copy(READERS / language, folder)
    change(place)
    if language in BUILD:
        _run(BUILD[language], place)
    return place


def install(package: str, folder: Path) -> Path:
    """A copy of a package in deploy/clients with what it needs."""
    place = _copy(CLIENTS / package, folder)
    _run(BUILD[package], place)
    return place


def _copy(source: Path, folder: Path) -> Path:
    return shutil.copytree(source, folder / source.name, ignore=shutil.ignore_patterns("node_modules"))


def _run(command: list[str], place: Path) -> None:
    if shutil.which(command[0]) is None:
        _unavailable(f"no {command[0]}: install what deploy/clients/README.md names")
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False, timeout=PATIENCE)
    if done.returncode:
        _unavailable(f"{' '.join(command[:2])} failed: {done.stderr.strip()[-600:]}")


def _unavailable(reason: str) -> NoReturn:
    if os.environ.get("MASKCAST_REQUIRE_TOOLS"):
        pytest.fail(reason)
    pytest.skip(reason)


class Reader:
    """A running reader; its lines are ``frame id area``."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def until(self, last: str) -> list[str]:
        """The lines before ``last``."""
        return list(iter(self._line, last))

    def lines(self, count: int) -> list[str]:
        """The next ``count`` lines."""
        return [self._line() for _ in range(count)]

    def silent(self) -> bool:
        """Whether it runs and has nothing to say."""
        assert self._process.stdout is not None
        return self._process.poll() is None and not select([self._process.stdout], [], [], 0)[0]

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the reader ended with {self._process.wait()}: {self._process.communicate()[1]}"
        return line.rstrip("\n")


@contextmanager
def reading(language: str, place: Path, endpoint: str, stream: str, **environment: str) -> Iterator[Reader]:
    """The reader that ``build`` put into ``place``, subscribed to the masks of ``stream``."""
    process = subprocess.Popen(
        [*RUN[language], endpoint, stream],
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )
    try:
        yield Reader(process)
    finally:
        process.kill()
        process.communicate()
