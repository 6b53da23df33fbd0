"""The benchmark of the conversion to RGB prints what it promises; no figure is judged."""

import json
import subprocess
import sys

import pytest

from tests.support.program import PATIENCE

pytestmark = pytest.mark.process


def test_each_kind_of_picture_is_compared_with_sdr():
    command = [sys.executable, "-m", "tests.benchmarks.rgb.to_rgb", "--size", "64x48", "--rounds", "1", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert len({row["picture"] for row in rows}) == 6
    assert rows[0]["over_sdr"] == 1
    assert all(row["ms"] > 0 for row in rows)
