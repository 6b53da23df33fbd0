"""``detection.auto_threshold`` in the real program, as a subscriber sees it."""

import json
from pathlib import Path

import pytest
import zmq

from stages.testsrc.world import ShapesWorld
from tests.support.program import PATIENCE, Program

pytestmark = pytest.mark.process

SHOWN = [name.title() for name in dict.fromkeys(ShapesWorld(3).labels)]
ABSENT = "Purple Triangle"
START = 0.65  # more than the model's scores call for
CONFIGURATION = "".join(
    f"""
[[streams]]
name = "{name}"
source = "testsrc://shapes?seed=3&frames=60"
prompts = {json.dumps([*SHOWN, ABSENT])}
detection.every = 2
detection.least = 2
detection.box_threshold = {START}
detection.text_threshold = {START}
detection.auto_threshold = {automatic}
"""
    for name, automatic in (("auto", "true"), ("fixed", "false"))
)


def last_statuses(endpoint: str) -> dict[str, dict]:
    """The status of each stream right after its source went down."""
    found, ended = {}, set()
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.set(zmq.RCVTIMEO, PATIENCE * 1000)
        socket.subscribe("v1/")
        socket.connect(endpoint)
        while len(found) < 2:
            header = json.loads(socket.recv_multipart()[1])
            stream = header["stream"]
            if header.get("type") == "source_down":
                ended.add(stream)
            if header["schema"] == "maskcast/v1/status" and stream in ended:
                found[stream] = header
    return found


@pytest.fixture(scope="module")
def statuses(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    """Of two streams with one source; only one of them chooses its thresholds."""
    file: Path = tmp_path_factory.mktemp("auto") / "maskcast.toml"
    file.write_text(CONFIGURATION)
    waits = {"MASKCAST_PUBLISH__WAIT_FOR": "1", "MASKCAST_PUBLISH__WHEN_FULL": "wait"}
    program = Program("--config", str(file), **waits)
    found = last_statuses(program.address("masks"))
    code, _, wrong = program.end()
    assert (code, wrong) == (0, [])
    return found


def test_a_stream_without_auto_threshold_reports_its_fixed_thresholds(statuses):
    assert statuses["fixed"]["thresholds"] == dict.fromkeys([*SHOWN, ABSENT], START)


def test_the_thresholds_of_objects_that_appeared_have_moved(statuses):
    thresholds = statuses["auto"]["thresholds"]
    assert list(thresholds) == [*SHOWN, ABSENT]
    moved = [name for name in SHOWN if thresholds[name] < START - 0.02]
    assert len(moved) >= 2
    assert all(0.05 <= value <= 0.7 for value in thresholds.values())


def test_the_threshold_of_an_object_that_never_appeared_has_not_fallen(statuses):
    assert statuses["auto"]["thresholds"][ABSENT] >= START
