"""The Python examples of deploy/clients/README.md do what it says."""

import re
import subprocess
import sys

import pytest

from maskcast_client import Frame
from tests.clients import golden
from tests.clients.clients import CLIENTS
from tests.clients.golden import event_message, masks_message

pytestmark = pytest.mark.process

TEXT = (CLIENTS / "README.md").read_text()
LOOP, EVENTS, *_ = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize(
    ("code", "kind", "printed"), [(LOOP, "masks", "10 2 car 1"), (EVENTS, "event", "4 car because it is so")]
)
def test_an_example_prints_what_comes(code: str, kind: str, printed: str) -> None:
    with golden.station() as station:
        code = code.replace("tcp://gpu:5555", station.endpoint)
        program = subprocess.Popen([sys.executable, "-uc", code], stdout=subprocess.PIPE, text=True)
        try:
            station.heard(f"v1/gate/{kind}")
            about = {"kind": "track_started", "track": 4, "prompt": "car", "reason": "because it is so"}
            station.send(masks_message(objects=golden.header_of("masks-one-pixel-rle")["objects"][1:2], frame=10))
            station.send(event_message(**about))
            assert program.stdout is not None
            assert program.stdout.readline() == f"{printed}\n"
        finally:
            program.kill()
            program.communicate()


def test_the_table_of_a_frame_names_what_it_has() -> None:
    rows = re.findall(r"^\| (`.+?) \|", TEXT.split("## JavaScript")[0], re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)(?:\(\))?`", row)}
    assert {"objects", "detections", "lost", "to_rows"} <= named
    assert named <= set(dir(Frame)) | set(Frame.__dataclass_fields__)
