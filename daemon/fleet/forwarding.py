"""The forwarder's process, beside the controller: it goes on while no controller runs."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from daemon.fleet.forwarder.upstream import write_upstream
from daemon.fleet.node.daemon_process import environment_of_raylet
from daemon.fleet.settings import FleetSettings

SHORTEST, LONGEST = 1.0, 60.0  # seconds between two starts of one that ends at once; doubled each time
STOP = 10.0  # seconds that it has to end
RAN_WELL = 60.0  # seconds of life after which the pause begins with the shortest again


class Forwarding:
    """Keeps one ``python -m daemon.fleet.forwarder`` running. One thread at a time calls.

    Its files lie beside ``fleet.state``: which daemons it reads, its process id, its messages. With keys it opens the
    daemons with ``forwarder.key_secret`` of ``publish.curve_dir``.
    """

    def __init__(self, settings: FleetSettings) -> None:
        state = settings.state_file
        self._upstream, self._pid_file = state.with_name("forwarder.json"), state.with_name("forwarder.pid")
        self._log = state.with_name("forwarder.log")
        self._command = [sys.executable, "-m", "daemon.fleet.forwarder", "--bind", settings.fleet.endpoint]
        self._command += ["--upstream", str(self._upstream)]
        if settings.publish.curve_dir:
            keys = Path(settings.publish.curve_dir)
            self._command += ["--curve-dir", str(keys), "--key", str(keys / "forwarder.key_secret")]
            self._command += ["--server", str(keys / "server.key")]
        if settings.publish.insecure:
            self._command += ["--insecure"]
        self._given: tuple[frozenset[str], frozenset[str]] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._started, self._pause = -LONGEST, SHORTEST / 2  # monotonic seconds of the last start; seconds after it
        self._seen = -LONGEST  # monotonic seconds when it was last seen to run

    def read_from(self, daemons: Iterable[str], streams: Iterable[str]) -> None:
        """Say which daemons publish, and start a forwarder where none runs. Raises OSError."""
        given = frozenset(daemons), frozenset(streams)
        if given != self._given:
            write_upstream(self._upstream, *given)
            self._given = given
        now = time.monotonic()
        if self._running() is not None:
            self._seen = now
        elif now - self._started >= self._pause:
            self._start(now)

    def _start(self, now: float) -> None:
        self._pause = SHORTEST if self._seen - self._started > RAN_WELL else min(2 * self._pause, LONGEST)
        self._started = now
        with self._log.open("ab") as messages:
            # a session of its own: Ray ends the children of an actor that ends
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=messages,
                env=environment_of_raylet(),
                start_new_session=True,
            )
        self._pid_file.write_text(str(self._process.pid))

    def stop(self) -> None:
        """End it, whoever has started it."""
        pid = self._running()
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        if self._process is not None:
            try:
                self._process.wait(STOP)
            except subprocess.TimeoutExpired:
                self._process.kill()

    def _running(self) -> int | None:
        """The process id of the forwarder, also of one that an earlier controller has started."""
        if self._process is not None and self._process.poll() is None:
            return self._process.pid  # /proc has no command yet of one that has just been started
        try:
            pid = int(self._pid_file.read_text())
            command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        except (OSError, ValueError):
            return None
        return pid if command[:-1] == self._command else None
