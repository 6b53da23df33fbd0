"""A fleet's boxes: a machine each, on which Ray is started as the units of `deploy/fleet` do."""

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from tests.deploy.test_fleet import UNITS, commands, environment
from tests.fleet.network.namespaces import Machines
from tests.support.program import PATIENCE

RAY = [sys.executable, "-c", "import sys; from ray.scripts.scripts import main; sys.exit(main())"]
# sees no processes but its own, since Ray starts no second head beside nodes of the first; sh takes orphans over
ALONE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", '"$@"; exit $?', "sh"]
SMALL = ["--num-cpus=1", f"--object-store-memory={80 << 20}"]
AGAIN = 2.0  # seconds, the units' RestartSec


class Boxes:
    """Box 0 is the head; each other has a slot. `close` ends what runs there. ``folder`` must have a short path."""

    def __init__(self, machines: Machines, folder: Path) -> None:
        self.machines, self._folder = machines, folder
        self.address = f"{machines.addresses[0]}:6379"
        (folder / "ray_token").write_text("0123456789abcdef" * 4)
        (folder / "ray_token").chmod(0o600)
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._keep, args=(box,)) for box in range(len(machines.names))]
        for thread in self._threads:
            thread.start()

    def fleet(self, *words: str, **environment: str) -> tuple[int, str, str]:
        """Run ``maskcast fleet`` on the head: exit code, stdout, stderr."""
        command = [sys.executable, "-m", "daemon", "fleet", *words, "--address", self.address]
        done = subprocess.run(
            self.machines.command(0, command),
            env={**os.environ, **self._own(0), "RAY_AUTH_MODE": "token", **environment},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        return done.returncode, done.stdout, done.stderr

    def close(self) -> None:
        """Nothing is started again; what runs ends with its machine."""
        self._stopping.set()
        self.machines.close()
        for thread in self._threads:
            thread.join(PATIENCE)

    def said(self, box: int) -> str:
        """What Ray's processes said."""
        return (self._folder / f"box{box}.log").read_text()

    def _keep(self, box: int) -> None:
        """Start Ray again whenever it ends, as systemd does."""
        while not self._stopping.is_set():
            with (self._folder / f"box{box}.log").open("a") as log:
                process = subprocess.Popen(
                    self.machines.command(box, [*ALONE, *self._command(box)]),
                    env=self._environment(box),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            process.wait()
            self._stopping.wait(AGAIN)

    def _command(self, box: int) -> Sequence[str]:
        values = {
            "${HEAD}": self.machines.addresses[0],
            "${NODE}": self.machines.addresses[box],
            "${SITE}": "main",
            "%H": f"box{box}",
            "/var/lib/maskcast": str(self._folder / f"box{box}"),
        }
        options = " ".join(commands(_unit(box))[1:])
        for word, value in values.items():
            options = options.replace(word, value)
        return [*RAY, *options.split(), *SMALL, *(['--resources={"slot": 1}'] if box else [])]

    def _environment(self, box: int) -> dict[str, str]:
        of_unit = {
            name: value.replace("/var/lib/maskcast", str(self._folder / f"box{box}"))
            for name, value in environment(_unit(box)).items()
            if name.startswith("RAY_")
        }
        return {**os.environ, **of_unit, **self._own(box)}

    def _own(self, box: int) -> dict[str, str]:
        home = self._folder / f"box{box}"
        home.mkdir(exist_ok=True)
        quiet = {"RAY_USAGE_STATS_REPORT_URL": "http://127.0.0.1:9/", "OMP_NUM_THREADS": "1"}
        return {**quiet, "RAY_AUTH_TOKEN_PATH": str(self._folder / "ray_token"), "HOME": str(home)}


def _unit(box: int) -> Path:
    return UNITS[1 if box else 0]
