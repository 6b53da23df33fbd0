"""The production path: ``maskcast run`` with full-size models, random weights, on frames of 720p."""

import json
import os
import subprocess
import sys
from pathlib import Path

import av
import pytest

from stages.testsrc.world import ShapesWorld
from tests.support.checkpoints import write_grounding_dino, write_sam2
from tests.support.media import write_video

pytestmark = pytest.mark.process

CLIP = Path(__file__).parents[3] / "shared" / "data" / "clips" / "driving.mp4"
FRAMES = 3


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """The first frames of a real clip where there is one, else of the test source, at 1280 x 720."""
    if CLIP.exists():
        with av.open(str(CLIP)) as container:
            images = [f.to_ndarray(format="rgb24") for _, f in zip(range(FRAMES), container.decode(video=0))]  # noqa: B905
    else:
        images = [ShapesWorld(0, 1280, 720).render(t)[0] for t in range(FRAMES)]
    return write_video(tmp_path_factory.mktemp("clip") / "driving.mp4", images)


def test_full_size_models_run_through_from_the_command_line(clip, tmp_path):
    """Grounding DINO tiny from a folder and SAM 2.1 tiny from a .pt file: every frame is tracked and recorded."""
    write_grounding_dino(tmp_path)
    checkpoint, _ = write_sam2(tmp_path, "tiny")
    command = [
        sys.executable,
        "-m",
        "daemon",
        "run",
        str(clip),
        "--prompt",
        "circle",
        "square",
        "--device",
        "cpu",
        "--json",
    ]
    models = ["--detector", str(tmp_path), "--segmenter", str(checkpoint), "--box-threshold", "0"]
    where = [
        "--device",
        "cpu",
        "--text-threshold",
        "0",
        "--record",
        str(tmp_path / "out"),
        "--publish",
        "tcp://127.0.0.1:0",
    ]
    few = {"MASKCAST_TRACKING__MAX_OBJECTS": "2", "MASKCAST_HTTP__LISTEN": "127.0.0.1:0", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *models, *where], capture_output=True, text=True, env={**os.environ, **few})
    assert done.returncode == 0, done.stderr
    [stream] = json.loads(done.stdout)["streams"]
    assert stream["frames"] == FRAMES
    lines = [json.loads(line) for line in (tmp_path / "out" / "driving.masks.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in lines] == list(range(FRAMES))
    assert all(line["width"] == 1280 and line["height"] == 720 for line in lines)
    assert all(1 <= len(line["objects"]) <= 2 for line in lines)
    assert all(thing["area"] > 0 for line in lines for thing in line["objects"])
