"""A daemon's process under supervision: it comes back when it dies, and dies with the process that started it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from daemon.fleet.node.daemon_client import DaemonError
from daemon.fleet.node.daemon_process import DaemonProcess
from daemon.fleet.settings import FleetSettings, daemon_toml
from tests.support.program import wait_until

pytestmark = pytest.mark.process

EMBEDDED = {"detector": "embedded", "segmenter": "embedded", "device": "cpu"}
FREE = {"publish": {"endpoint": "tcp://127.0.0.1:0"}, "http": {"listen": "127.0.0.1:0"}}


def toml(token: str, **models: str) -> str:
    return daemon_toml(FleetSettings(models={**EMBEDDED, **models}, **FREE), "127.0.0.1", 0, token)


def is_ready(process: DaemonProcess) -> bool:
    client = process.client
    try:
        return client is not None and client.ready()
    except DaemonError:  # a busy machine answers late
        return False


@pytest.fixture
def environment():
    return {name: value for name, value in os.environ.items() if not name.startswith("MASKCAST_")} | {
        "OMP_NUM_THREADS": "1"
    }


def test_a_daemon_that_is_killed_is_started_again_and_takes_streams(environment):
    process = DaemonProcess(toml, environment)
    try:
        wait_until(lambda: is_ready(process))
        os.kill(process.pid, signal.SIGKILL)
        wait_until(lambda: process.starts == 2 and is_ready(process))
        process.client.add({"name": "a", "source": "testsrc://shapes?live=1", "prompts": ["red circle"]})
        assert set(process.client.streams()) == {"a"}
        process.client.remove("a")
        process.client.remove("a")  # that it is gone already is no error
        with pytest.raises(DaemonError, match="names nothing") as refused:
            process.client.add({"name": "b", "source": "testsrc://shapes?live=1", "prompts": ["?"]})
        assert refused.value.status == 422
    finally:
        process.stop()
    assert process.pid is None


def test_a_daemon_gets_the_environment_of_its_node_but_neither_settings_nor_the_folder_of_its_state(environment):
    shown = "import json, daemon.fleet.node.daemon_process as p; print(json.dumps(p.environment_of_raylet()))"
    own = {"HTTP_PROXY": "proxy", "MASKCAST_HTTP__TOKEN": "t", "RAY_X": "1", "STATE_DIRECTORY": "/var/lib/maskcast"}
    command = ["sh", "-c", f"'{sys.executable}' -c '{shown}'; :"]  # the shell is the parent, as the raylet is
    done = subprocess.run(command, env={**environment, **own}, capture_output=True, text=True, check=True)
    assert own.keys() & json.loads(done.stdout).keys() == {"HTTP_PROXY"}


def test_a_node_without_the_models_says_so_in_one_line(environment, tmp_path):
    missing = tmp_path / "grounding-dino"
    process = DaemonProcess(lambda token: toml(token, detector=str(missing)), environment)
    try:
        wait_until(lambda: process.problem)
        assert str(missing) in process.problem
        assert "\n" not in process.problem
    finally:
        process.stop()


def test_the_daemon_ends_when_the_process_that_supervises_it_is_killed(environment):
    program = """
import os, sys, time
from daemon.fleet.node.daemon_process import DaemonProcess
from tests.fleet.node.test_daemon_process import toml
process = DaemonProcess(toml, dict(os.environ))
while process.client is None:
    time.sleep(0.05)
print(process.pid, flush=True)
time.sleep(1000)
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environment
    ) as parent:
        daemon = int(parent.stdout.readline())
        assert Path(f"/proc/{daemon}").exists()
        parent.kill()
    wait_until(lambda: not Path(f"/proc/{daemon}").exists() or "Z" in Path(f"/proc/{daemon}/stat").read_text())
