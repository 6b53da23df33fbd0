"""The process of a daemon: started, watched, and started again when it ends."""

import json
import logging
import os
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO

from daemon.fleet.node.daemon_client import DaemonClient
from stages.errors import ConfigError

SHORTEST, LONGEST = 0.5, 60.0  # seconds before a daemon that ended is started again; doubled each time
RAN_WELL = 60.0  # seconds of life after which the pause begins with the shortest again
STOP = 15.0  # seconds that a daemon has to end

log = logging.getLogger(__name__)


class DaemonProcess:
    """Keeps one ``maskcast run --stay`` running, until `stop`.

    The kernel kills the daemon when the thread that started it ends (``PR_SET_PDEATHSIG``), so that thread is one of
    its own that lives as long as this process. ``starts`` counts the daemons; ``problem`` says why the last one
    ended, "" while one runs. Any thread may call and read.
    """

    def __init__(self, toml: Callable[[str], str], environment: Mapping[str, str], token: str = "") -> None:
        """``toml`` makes the configuration, given the daemon's ``token``; without one it is drawn."""
        self._toml, self._environment = toml, environment
        self._token = token or secrets.token_urlsafe(24)
        self._process: subprocess.Popen[str] | None = None
        self._stopping = threading.Event()
        self._draining = False
        self.client: DaemonClient | None = None  # once its ports are known
        self.starts = 0
        self.problem = ""
        self.drained = False  # it ended as asked, and is not started again
        self._thread = threading.Thread(target=self._supervise, name="daemon-process", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int | None:
        """Process id of the daemon, None while none runs."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def drain(self) -> None:
        """Do not start it again when it ends; it was asked to by HTTP."""
        self._draining = True

    def kill(self) -> None:
        """End a daemon that hangs; it is started again."""
        process = self._process
        if process is not None:
            process.kill()

    def stop(self) -> None:
        """End the daemon, and return when it has ended."""
        self._stopping.set()
        process = self._process
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(STOP)
            except subprocess.TimeoutExpired:
                process.kill()
        self._thread.join(STOP)

    def _supervise(self) -> None:
        pause = SHORTEST
        with tempfile.TemporaryDirectory(prefix="maskcast-") as folder:
            while not self._stopping.is_set():
                began = time.monotonic()
                try:
                    code = self._run(Path(folder))
                except OSError as error:
                    self.problem, code = f"the daemon cannot be started: {error}", 1
                self.client, self._process = None, None
                if code == 0 and self._draining:
                    self.drained = True
                    return
                if self._stopping.is_set():
                    return
                if time.monotonic() - began > RAN_WELL:
                    pause = SHORTEST
                log.warning("%s; it is started again in %.1f s", self.problem, pause)
                self._stopping.wait(pause)
                pause = min(2 * pause, LONGEST)

    def _run(self, folder: Path) -> int:
        """Run one daemon until it ends."""
        config = folder / "maskcast.toml"
        config.touch(mode=0o600)  # it holds the token
        config.write_text(self._toml(self._token))
        self.starts += 1
        # setpriv of util-linux asks the kernel for the signal, in the new process
        command = ("setpriv", "--pdeathsig", "KILL", sys.executable, "-m", "daemon", "run", "--stay", "--config")
        self._process = process = subprocess.Popen(  # noqa: S603 - our own program
            (*command, str(config)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            env=self._environment,
            cwd=folder,
        )
        if self._stopping.is_set():
            process.terminate()
        assert process.stdout is not None
        assert process.stderr is not None
        last = deque[str](maxlen=1)
        errors = threading.Thread(target=_follow, args=(process.stderr, last), daemon=True)
        errors.start()
        endpoint = ""
        for line in process.stdout:
            name, _, value = line.strip().partition(": ")
            if name == "masks":
                endpoint = value.split()[-1]
            elif name == "metrics":
                self.client = DaemonClient(value.removesuffix("/metrics"), endpoint, self._token)
                self.problem = ""
        code = process.wait()
        errors.join(STOP)
        why = _reason(last[0]) if last else f"exit code {code}"
        self.problem = f"the daemon ended: {why if code >= 0 else f'signal {-code}'}"
        return code


def _reason(line: str) -> str:
    """The text of a line of stderr, which is an object where the settings have log.format = "json"."""
    with suppress(ValueError, KeyError, TypeError):
        return str(json.loads(line)["text"])
    return line.removeprefix("maskcast: ").removeprefix("error: ")


def _follow(stream: IO[str], last: deque[str]) -> None:
    """Pass the daemon's errors on to ours, and keep the last line."""
    for line in stream:
        if line.strip():
            print(line.rstrip(), file=sys.stderr, flush=True)
            if ": error: " in line or not last:
                last.append(line.strip())


def environment_of_raylet(extra: tuple[str, ...] = ("CUDA_VISIBLE_DEVICES",)) -> dict[str, str]:
    """The environment that the node's Ray was started with, without the settings of ``maskcast`` in it.

    Nor has it systemd's STATE_DIRECTORY, the node's, which may have many daemons. Ray gives its workers more, such as
    OMP_NUM_THREADS=1, which a daemon must not have; of that only ``extra``. Call it in a worker of Ray's, whose parent
    is the raylet. Raises ConfigError.
    """
    try:
        lines = Path(f"/proc/{os.getppid()}/environ").read_bytes().decode(errors="surrogateescape").split("\0")
    except OSError as error:
        raise ConfigError(f"the environment of Ray's raylet cannot be read: {error.strerror}") from None
    given = dict(line.split("=", 1) for line in lines if "=" in line)
    left_out = ("MASKCAST_", "RAY_", "STATE_DIRECTORY")
    kept = {name: value for name, value in given.items() if not name.startswith(left_out)}
    return kept | {name: os.environ[name] for name in extra if name in os.environ}
