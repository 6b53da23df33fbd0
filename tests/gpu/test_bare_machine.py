"""What measures the tracker needs no web server's packages, and nothing touches the GPU before a step runs."""

import json
import subprocess
import sys

import pytest

from tests.gpu.load.daemon_load import WEB
from tests.gpu.step import ROOT

pytestmark = pytest.mark.process

CODE = """
import json, sys
from importlib import import_module
sys.modules.update(dict.fromkeys(WEB))  # as if they were not installed
found = {}

try:
    import fastapi
except ImportError:
    found["blocked"] = True

import torch

def touched(*_):
    raise AssertionError("an import touched the GPU")

places = [(torch.cuda, name) for name in ("_lazy_init", "is_available", "device_count")]
places.append((torch._C, "_cuda_getDeviceCount"))
kept = [getattr(owner, name, None) for owner, name in places]
for owner, name in places:
    setattr(owner, name, touched)
import tests.gpu.__main__
from tests.gpu.plan import plan
steps = [step.function for step in plan("cuda") + plan("cpu")]
for function in steps:
    module, _, name = function.partition(":")
    getattr(import_module(module), name)
import tests.gpu.preload
for (owner, name), value in zip(places, kept):
    setattr(owner, name, value) if value is not None else delattr(owner, name)
found["steps"] = steps

from tests.gpu.load.daemon_load import load
from tests.gpu.step import Asked, Skipped
try:
    load(Asked("cpu", True, "."), cameras=1, files=0)
except Skipped as reason:
    found["daemon"] = str(reason)

import pytest
from tests.gpu.correctness import files_with_gpu_tests

class Collected:
    def pytest_collection_modifyitems(self, items):
        found["tests"] = [item.name for item in items if item.get_closest_marker("gpu")]

options = ["-q", "--collect-only", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
found["pytest"] = int(pytest.main([*options, *files_with_gpu_tests()], plugins=[Collected()]))
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found() -> dict:
    """What a process finds in which the web server's packages cannot be imported."""
    code = CODE.replace("WEB", repr(WEB), 1)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_every_step_is_imported_without_the_web_server_and_without_touching_the_gpu(found):
    """A process that has touched the GPU cannot be forked into steps that use it."""
    assert found["blocked"]
    assert len(found["steps"]) > 20


def test_the_daemon_is_skipped_with_the_reason(found):
    assert found["daemon"] == "the daemon needs fastapi, starlette, uvicorn, not installed here"


def test_tests_marked_gpu_are_found_without_the_web_server(found):
    assert found["pytest"] == 0
    assert "test_on_a_gpu_the_memory_goes_back_to_the_device" in found["tests"]
    assert "test_the_gpus_pictures_are_those_of_the_software[video.mp4]" in found["tests"]
