"""The unit as systemd's own tools judge it, on the tree that install.sh lays."""

import re
import subprocess

import pytest

from daemon.service.build_models import COMPILED
from daemon.service.service import ABORT, DRAIN
from tests.deploy.prometheus import DEPLOY
from tests.support.tools import needs_tool

UNIT = DEPLOY / "maskcast.service"
THRESHOLD = 2.5  # of 10; less is safer
needs_systemd = needs_tool("systemd-analyze", "systemd")


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False)


@pytest.mark.process
@needs_systemd
def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path):
    program = tmp_path / "maskcast"
    program.touch(mode=0o755)
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/maskcast/bin/maskcast", str(program)))
    done = analyze("verify", str(unit))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.process
@needs_systemd
def test_the_unit_is_exposed_little():
    done = analyze("security", "--offline=yes", f"--threshold={THRESHOLD * 10:.0f}", "--no-pager", str(UNIT))
    assert done.returncode == 0, done.stdout
    exposure = re.search(r"exposure level for maskcast.service: ([\d.]+)", done.stdout)
    assert exposure
    assert float(exposure[1]) <= THRESHOLD


@pytest.mark.parametrize(
    "line",
    [
        "Type=notify",
        "WatchdogSec=2min",
        "Restart=on-failure",
        "RestartPreventExitStatus=2",
        "ProtectSystem=strict",
        "NoNewPrivileges=yes",
        "DevicePolicy=closed",
        "StateDirectory=maskcast",
        "ExecReload=/bin/kill -HUP $MAINPID",
    ],
)
def test_the_unit_asks_for_what_the_daemon_is_built_for(line):
    assert line in UNIT.read_text().splitlines()


def test_what_is_compiled_lasts():
    """Not in /tmp, which is private to the service and gone when it stops."""
    lines = UNIT.read_text().splitlines()
    words = [word for line in lines if line.startswith("Environment=") for word in line.partition("=")[2].split()]
    environment = dict(word.split("=", 1) for word in words)
    assert "CacheDirectory=maskcast" in lines
    for variable in (COMPILED, "TRITON_CACHE_DIR", "CUDA_CACHE_PATH"):
        assert environment[variable].startswith("/var/cache/maskcast/")


def test_the_daemon_may_take_the_time_that_it_needs_to_stop():
    seconds = re.search(r"^TimeoutStopSec=(\d+)$", UNIT.read_text(), re.MULTILINE)
    assert seconds
    assert int(seconds[1]) > DRAIN + ABORT + 5
