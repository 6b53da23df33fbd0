"""Machines in network namespaces of their own, joined by a bridge whose cables can be pulled."""

import ctypes
import os
import secrets
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import pytest

from tests.support.tools import needs_tool

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000  # linux/sched.h


def _may_make() -> bool:
    """Whether this user may make network namespaces with links, and mount them."""
    link = ("ip", "link", "add", "net", "type", "veth")
    return subprocess.run(["unshare", "--net", "--mount", *link], capture_output=True).returncode == 0


needs_ip = needs_tool("ip", "iproute2")
needs_root = pytest.mark.skipif(
    not (os.environ.get("MASKCAST_REQUIRE_TOOLS") or _may_make()),
    reason="network namespaces cannot be made here: run it as root, with the capability SYS_ADMIN",
)


class Machines:
    """Machines 0 to ``number`` - 1. At the end all processes in their namespaces are killed, and these removed."""

    def __init__(self, number: int) -> None:
        self._mark, subnet = secrets.token_hex(3), f"10.{secrets.randbelow(200) + 20}.{secrets.randbelow(250) + 1}"
        self._hub = f"maskcast-{self._mark}-hub"
        self.names = [f"maskcast-{self._mark}-{machine}" for machine in range(number)]
        self.addresses = [f"{subnet}.{machine + 1}" for machine in range(number)]

    def join(self) -> None:
        """Make them."""
        _ip("netns", "add", self._hub)
        _ip("-n", self._hub, "link", "add", "bridge", "up", "type", "bridge")
        for machine, (name, address) in enumerate(zip(self.names, self.addresses, strict=True)):
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
            cable = ("peer", "name", f"port{machine}", "netns", self._hub)
            _ip("-n", name, "link", "add", "net", "type", "veth", *cable)
            _ip("-n", name, "address", "add", f"{address}/24", "dev", "net")
            _ip("-n", name, "link", "set", "net", "up")
            _ip("-n", self._hub, "link", "set", f"port{machine}", "up")
            self.plug(machine)

    def unplug(self, machine: int) -> None:
        """Cut a machine off: what is on its way is lost, and no end of a connection is told."""
        _ip("-n", self._hub, "link", "set", f"port{machine}", "nomaster")

    def plug(self, machine: int) -> None:
        """Connect a machine."""
        _ip("-n", self._hub, "link", "set", f"port{machine}", "master", "bridge")

    def command(self, machine: int, command: Sequence[str]) -> list[str]:
        """What runs ``command`` on a machine."""
        return ["ip", "netns", "exec", self.names[machine], *command]

    def enter(self, machine: int) -> None:
        """Bring the thread that calls to a machine, for good."""
        with Path(f"/run/netns/{self.names[machine]}").open() as file:
            if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    def on(self, machine: int, function: Callable[[], T]) -> T:
        """The result of ``function``, called on a machine."""
        with ThreadPoolExecutor(1, initializer=self.enter, initargs=(machine,)) as thread:
            return thread.submit(function).result()

    def close(self) -> None:
        """Remove everything, as far as it is there."""
        for name in (*self.names, self._hub):
            while pids := _pids(name):  # what is killed may have just started others
                for pid in pids:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)


def _pids(name: str) -> list[int]:
    """Processes in a namespace; none where it is not there."""
    listed = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True)
    return [int(pid) for pid in listed.stdout.split()]


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"


@contextmanager
def machines(number: int) -> Iterator[Machines]:
    """Machines that are gone when the block ends."""
    made = Machines(number)
    try:
        made.join()
        yield made
    finally:
        made.close()
