"""What README shows is true: its subscriber receives every frame, with the masks of the recording."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pycocotools.mask
import pytest

from stages.testsrc.world import ShapesWorld
from tests.support.program import PATIENCE

pytestmark = pytest.mark.process

README = (Path(__file__).parents[2] / "README.md").read_text()
FRAMES = 20


def subscriber_of_readme(endpoint: str, stream: str) -> str:
    """The code block, pointed at this test's daemon; nothing else is changed."""
    [code] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert code.count("tcp://127.0.0.1:5555") == code.count('stream="clip"') == 1
    return code.replace("tcp://127.0.0.1:5555", endpoint).replace('stream="clip"', f'stream="{stream}"')


def test_the_subscriber_of_readme_receives_every_frame_and_the_masks_of_the_recording(tmp_path):
    """It runs in another process; the daemon waits for it and loses nothing. It ends when the file ends."""
    endpoint, names = f"ipc://{tmp_path}/masks", ", ".join(dict.fromkeys(ShapesWorld(4).labels))
    environment = {
        **os.environ,
        "MASKCAST_PUBLISH__WAIT_FOR": "1",
        "MASKCAST_PUBLISH__WHEN_FULL": "wait",
        "OMP_NUM_THREADS": "1",
    }
    code = subscriber_of_readme(endpoint, "shapes")
    subscriber = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    command = [sys.executable, "-m", "daemon", "run", f"testsrc://shapes?seed=4&frames={FRAMES}", "--prompt", names]
    models = ["--detector", "embedded", "--segmenter", "embedded", "--device", "cpu", "--publish", endpoint]
    where = ["--http", "127.0.0.1:0", "--record", str(tmp_path / "out")]
    try:
        subprocess.run([*command, *models, *where], env=environment, check=True, timeout=PATIENCE, capture_output=True)
        printed = subscriber.communicate(timeout=PATIENCE)[0]
    finally:
        subscriber.kill()
    expected = []
    for line in (tmp_path / "out" / "shapes.masks.jsonl").read_text().splitlines():
        frame = json.loads(line)
        for thing in frame["objects"]:
            area = int(pycocotools.mask.area(thing["mask"]))
            expected.append(f"{frame['frame']} {thing['id']} {thing['prompt']} {thing['state']} {area}")
    assert len({line.split()[0] for line in expected}) == FRAMES
    assert printed.splitlines() == expected
    assert subscriber.returncode == 0
