"""Several processes train one model, as `torchrun` starts them for several GPUs; here on the CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.program import PATIENCE
from tests.trainer.training import two_colours

pytestmark = pytest.mark.process

FLAGS = ("--from-scratch", "--epochs", "1", "--batch-size", "8", "--device", "cpu", "--workers", "0", "--json")


def test_two_processes_train_one_model_and_one_of_them_tells(tmp_path: Path) -> None:
    """31 held-out pictures, which two processes cannot share evenly, are each measured once."""
    data, out = two_colours(tmp_path / "pictures", 16), tmp_path / "out"
    for split in ("train", "val"):
        (data / split).mkdir()
    for name in ("blue", "red"):
        (data / name).rename(data / "train" / name)
    two_colours(data / "val", 16)
    (data / "val" / "red" / "000.jpg").unlink()
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*torchrun, "--standalone", "-m", "daemon", "train", "--data", str(data), "--out", str(out), *FLAGS],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    [summary] = map(json.loads, done.stdout.splitlines())
    assert done.stderr.count("validation accuracy") == 1
    [row] = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
    assert summary["val_accuracy"] == row["val_accuracy"]
    assert 31 * row["val_accuracy"] == pytest.approx(round(31 * row["val_accuracy"]), abs=1e-3)
    assert "31 pictures of val" in (out / "report.md").read_text()
    assert not list(out.glob(".*"))
