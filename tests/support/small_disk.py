"""Full disks: a real file system of 2 MB, and a limit on file sizes."""

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
    """A command prefix that mounts a file system of 2 MB at ``folder/small``, visible to that command only.

    When the command has ended, it is copied to ``folder/kept``; SIGTERM kills the command. Skips the test where
    mounting is not permitted.
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
    """Run ``command`` with ``small_disk``; returns exit code, stdout and stderr."""
    prefix = small_disk(folder)
    done = subprocess.run([*prefix, *command], capture_output=True, text=True, timeout=PATIENCE, check=False)
    return done.returncode, done.stdout, done.stderr


@contextmanager
def full_at(size: int) -> Iterator[None]:
    """Limit all files to ``size`` bytes: the kernel shortens writes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
