"""The detector's checkpoint from a hub: real downloads by huggingface_hub, from a server on this machine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stages.detection.grounding_dino import EMBEDDED
from tests.support.hub import serving
from tests.support.program import PATIENCE

pytestmark = pytest.mark.process

LOAD_EACH = """
import sys, torch
from stages.detection.grounding_dino import GroundingDino
from stages.errors import ModelError
for name in sys.argv[1:]:
    try:
        GroundingDino(name, torch.device("cpu"), torch.float32)
        print("loaded", name)
    except ModelError as error:
        print(error)
"""


def _load_elsewhere(home: Path, names: list[str], **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", LOAD_EACH, *names],
        cwd=EMBEDDED.parents[2],
        env=os.environ | {"HF_HOME": str(home), "OMP_NUM_THREADS": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_hub_id_is_downloaded_or_refused_in_one_line(tmp_path: Path) -> None:
    """A known id loads, an unknown one is refused, and without network and cache any is; nothing else is printed."""
    with serving({"owner/shapes": EMBEDDED}) as hub:
        online = _load_elsewhere(tmp_path / "a", ["owner/shapes", "owner/none"], HF_ENDPOINT=hub.endpoint)
        offline = _load_elsewhere(tmp_path / "b", ["owner/shapes"], HF_HUB_OFFLINE="1")
        online_out, offline_out = online.communicate(timeout=PATIENCE), offline.communicate(timeout=PATIENCE)
    known, unknown = online_out[0].splitlines()
    (unreachable,) = offline_out[0].splitlines()
    assert known == "loaded owner/shapes"
    assert unknown.startswith(
        "detector owner/none cannot be loaded: owner/none is not a local folder and is not a valid"
    )
    assert unreachable.startswith("detector owner/shapes is not on this machine, and the hub cannot be reached: where")
    assert unknown.endswith("check the name, or give a folder with the model")
    assert (online_out[1], offline_out[1]) == ("", "")
