"""The five commands of trainer/README.md lead from a recording to classes in the stream."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.clip import make_clip
from tests.support.program import PATIENCE

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[2]
SMALL = {  # what each needs to run without a download, a GPU or an evening
    "train": ("--from-scratch", "--epochs", "1", "--batch-size", "4", "--workers", "0", "--device", "cpu"),
    "evaluate": ("--workers", "0", "--device", "cpu"),
    "run": ("--device", "cpu", "--http", "127.0.0.1:0", "--publish", "tcp://127.0.0.1:0"),
}


def commands() -> list[list[str]]:
    section = (ROOT / "trainer" / "README.md").read_text().split("## Train your own classifier")[1]
    block = section.split("\n\n")[2]
    return [shlex.split(line) for line in block.splitlines()]


def run(command: list[str], folder: Path) -> str:
    program, name, *arguments = command
    assert program == "maskcast"
    more = () if "--frames-from" in arguments else SMALL.get(name, ())
    done = subprocess.run(
        [sys.executable, "-m", "daemon", name, *arguments, *more],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.timeout(5 * PATIENCE)
def test_five_commands_lead_from_a_recording_to_classes_in_the_stream(tmp_path: Path) -> None:
    """As written, on clips of the test source; in between a person sorts the frames."""
    cut, train, evaluate, export, daemon = commands()
    make_clip(tmp_path / "monday.mp4", seconds=24, fps=5)
    make_clip(tmp_path / "tuesday.mp4", seconds=2, fps=5, seed=1)
    run(cut, tmp_path)
    frames = sorted((tmp_path / "gate").glob("*.jpg"))
    assert len(frames) == 24
    for index, frame in enumerate(frames):
        place = tmp_path / "gate" / ("open" if index < 12 else "closed")
        place.mkdir(exist_ok=True)
        frame.rename(place / frame.name)
    run(train, tmp_path)
    assert run(evaluate, tmp_path).startswith("2 pictures of val, ten views of each\n")
    run(export, tmp_path)
    run(daemon, tmp_path)
    first, *rest = map(json.loads, (tmp_path / "out" / "tuesday.masks.jsonl").read_text().splitlines())
    assert {entry["label"] for entry in first["classes"]} == {"open", "closed"}
    assert sum(entry["score"] for entry in first["classes"]) == pytest.approx(1, abs=0.02)
    assert len(rest) == 9
