"""Disks that fill up: a real file system of 2 MB, and a limit on the size of files."""

import resource
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.program import PATIENCE

MOUNT = ("unshare", "--map-root-user", "--mount", "sh", "-c")
RUN = """
mount -t tmpfs -o size=2m none "$0/small" || exit
"$@" &
trap "kill -9 $!" TERM
wait $!
code=$?
cp -r "$0/small/." "$0/kept"
exit $code
"""


def small_disk(folder: Path) -> list[str]:
    """What to put before a command so that ``folder/small`` is a file system of 2 MB, for that command alone.

    It is copied to ``folder/kept`` when the command has ended; SIGTERM kills the command. Skips the test where this is
    not permitted.
    """
    for name in ("small", "kept"):
        (folder / name).mkdir()
    try:
        probe = subprocess.run([*MOUNT, RUN, str(folder), "true"], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        pytest.skip(f"no small file system: {error}")
    if probe.returncode:
        pytest.skip(f"this machine permits no small file system: {probe.stderr.strip()}")
    return [*MOUNT, RUN, str(folder)]


def on_small_disk(folder: Path, command: Sequence[str]) -> tuple[int, str, str]:
    """Run ``command`` with a ``small_disk``: exit code, stdout and stderr."""
    prefix = small_disk(folder)
    done = subprocess.run([*prefix, *command], capture_output=True, text=True, timeout=PATIENCE, check=False)
    return done.returncode, done.stdout, done.stderr


@contextmanager
def full_at(size: int) -> Iterator[None]:
    """No file can grow beyond ``size`` bytes: the kernel cuts writes short, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
