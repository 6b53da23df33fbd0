"""How an embedded model is to be trained."""

from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass(frozen=True, slots=True)
class Run:
    """One training. Its result depends on ``steps``, ``seed``, ``start`` and ``factor``, not on the workers."""

    steps: int
    out: Path
    seed: int = 0
    start: Path | None = None  # a trained model to train further, or the state of a training that was cut off
    device: torch.device = torch.device("cpu")
    workers: int = 0  # processes that draw the pictures; 0: none but this one
    factor: int = 1  # times the pictures of a step, for a device that has room for them
