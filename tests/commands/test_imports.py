"""What a command does not need is not imported: a start is short, and a subscriber needs no GPU library."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import zmq

from tests.cli.test_cli import EMBEDDED, FREE, SHAPES
from tests.commands.test_watch import Station
from tests.support.program import PATIENCE

pytestmark = pytest.mark.process

SCRIPT = """
import json, sys
from daemon.__main__ import main
try:
    code = main(sys.argv[1:])
except SystemExit as end:
    code = end.code
print(json.dumps([code, sorted(sys.modules)]), file=sys.stderr)
"""
# of training, of other models, of pictures that nobody looks at, of compilation that was not asked for
NEVER = {
    "matplotlib",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "optuna",
    "pandas",
    "requests",
    "sam2.automatic_mask_generator",
    "sam2.sam2_video_predictor",
    "scipy.signal",
    "scipy.stats",
    "sklearn",
    "sqlalchemy",
    "stages.classification.classifier",
    "supervision",
    "torch._inductor.compile_fx",
    "torch.utils.tensorboard",
    "trainer",
    "transformers.models.mm_grounding_dino.modeling_mm_grounding_dino",
    "transformers.trainer",
}
MODEL_LIBRARIES = {"torch", "torchvision", "transformers", "sam2", "hydra", "scipy"}


def imported(*arguments: str) -> set[str]:
    """The modules that are imported once the command has ended well."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    code, modules = json.loads(done.stderr.splitlines()[-1])
    assert code == 0, done.stderr
    return set(modules)


def test_a_daemon_whose_pictures_nobody_sees_imports_only_what_tracking_needs():
    modules = imported("run", SHAPES, "--prompt", "red circle", *EMBEDDED, *FREE)
    assert "transformers.models.grounding_dino.modeling_grounding_dino" in modules
    assert modules & NEVER == set()


@pytest.mark.parametrize("command", [("--help",), ("run", "--help"), ("models", "list", *EMBEDDED[:4])])
def test_what_runs_no_model_imports_no_model_library(command):
    assert imported(*command) & (MODEL_LIBRARIES | NEVER) == set()


def test_a_subscriber_needs_no_model_library():
    with zmq.Context() as context, ThreadPoolExecutor() as pool:
        station = Station(context)
        modules = pool.submit(imported, "watch", station.endpoint, "--count", "1")
        station.wait()
        station.masks("gate", 0)
        assert "stages.output.wire" in modules.result(PATIENCE)
        assert modules.result() & (MODEL_LIBRARIES | NEVER) == set()
        station.socket.close()
