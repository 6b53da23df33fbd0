"""The commands of README's "Run it on your video" make a clip, and from it an annotated video and masks."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.program import PATIENCE, pictures_in

ROOT = Path(__file__).parents[2]
SECTION = (ROOT / "README.md").read_text().split("## Run it on your video")[1].split("\n## ")[0]
FREE = ("--publish", "tcp://127.0.0.1:0", "--http", "127.0.0.1:0", "--device", "cpu")  # not taken by other tests


def run(command: list[str], folder: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr


@pytest.mark.process
@pytest.mark.timeout(2 * PATIENCE)
def test_two_commands_lead_to_an_annotated_video_and_its_masks(tmp_path: Path) -> None:
    clip, daemon = (
        shlex.split(line) for line in re.findall(r"^    (\S.*)$", SECTION.replace("\\\n", ""), re.MULTILINE)
    )
    assert (clip[:2], daemon[:2]) == (["python", "-m"], ["maskcast", "run"])
    run([sys.executable, *clip[1:]], tmp_path)
    run([sys.executable, "-m", "daemon", *daemon[1:], *FREE], tmp_path)
    video, lines = re.findall(r"`(out/[\w.]+)`", SECTION)
    frames = [json.loads(line) for line in (tmp_path / lines).read_text().splitlines()]
    assert pictures_in(tmp_path / video) == len(frames) == 250
    assert {thing["prompt"] for frame in frames for thing in frame["objects"]} == {"blue star", "red square"}
