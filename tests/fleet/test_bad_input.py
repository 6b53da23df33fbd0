"""Wrong uses of `maskcast fleet` that need no cluster: one line, exit code 2, at once."""

from pathlib import Path

import pytest

from daemon.fleet.controller import Controller
from daemon.fleet.settings import FleetSettings
from tests.fleet.cluster import fleet

pytestmark = pytest.mark.process

NOWHERE = "127.0.0.1:9"


@pytest.mark.parametrize(
    ("address", "words", "message"),
    [
        (NOWHERE, ("status",), f"no Ray cluster at {NOWHERE}: connection refused; start one there"),
        ("head", ("status",), "--address head: write it as HOST:PORT"),
        (NOWHERE, ("move", "gate"), "write it as: maskcast fleet move STREAM NODE"),
        (NOWHERE, ("drain",), "write it as: maskcast fleet drain NODE"),
        (NOWHERE, ("up", "--config", "nowhere.toml"), "nowhere.toml: no such file"),
    ],
)
def test_it_is_said_in_one_line(address, words, message):
    code, out, error = fleet(address, *words)
    assert (code, out) == (2, "")
    assert error.startswith(f"maskcast: error: {message}")
    assert error.count("\n") == 1


def test_a_state_that_cannot_be_kept_is_said_in_one_line(tmp_path: Path):
    blocked = tmp_path / "file"
    blocked.touch()
    controller = Controller(FleetSettings(fleet={"state": str(blocked / "fleet.json")}))
    problem = controller.problem()
    controller.stop()
    assert problem.startswith(f"fleet.state {blocked}/fleet.json: cannot be read: Not a directory")
    assert "\n" not in problem
