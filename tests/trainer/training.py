"""Images to train on, and a training of them in this process."""

import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from trainer import checkpoint
from trainer.data.datasets import load_data
from trainer.report.progress import TrainingProgress
from trainer.run import train
from trainer.training.files import LAST
from trainer.training.machine import new_accelerator
from trainer.training.recipe import FROM_SCRATCH, Recipe

CIFAR = Path(__file__).parents[3] / "shared" / "data" / "cifar10" / "cifar10-jpeg.tar.xz"


def cifar(folder: Path, **counts: int) -> Path:
    """So many real pictures of each class of the split ``train`` or ``test``; skips where they are not at hand."""
    if not CIFAR.exists():
        pytest.skip(f"the CIFAR-10 pictures are not at hand: {CIFAR}")
    with tarfile.open(CIFAR) as archive:
        for member in archive:
            path = Path(member.name)
            if member.isfile() and int(path.stem) < counts.get(path.parts[-3], 0):
                archive.extract(member, folder, filter="data")
    return folder


def write_picture(path: Path, seed: int = 0, colour: tuple[int, int, int] = (120, 120, 120), size: int = 32) -> None:
    """A JPEG of noise around a colour."""
    noise = np.random.default_rng(seed).normal(0, 30, (size, size, 3))
    picture = (noise + colour).clip(0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)


def two_colours(folder: Path, each: int = 20, size: int = 32) -> Path:
    """``each`` red and blue pictures in folders of that name."""
    for name, colour in (("blue", (40, 40, 180)), ("red", (180, 40, 40))):
        for index in range(each):
            write_picture(folder / name / f"{index:03d}.jpg", index, colour, size)
    return folder


class Watcher(TrainingProgress):
    """Does something after a step; keeps what was said."""

    def __init__(self, then: Callable[[Any], None] = lambda _: None) -> None:
        self._then = then
        self.said: list[str] = []

    def step(self, training: Any) -> None:
        self._then(training)

    def say(self, line: str) -> None:
        self.said.append(line)


def train_here(data: Path, out: Path, recipe: Recipe, watcher: TrainingProgress | None = None) -> dict[str, Any]:
    """What `maskcast train` does, in this process; goes on with the training that ``out`` has."""
    accelerator = new_accelerator("cpu", "float32", recipe.seed, recipe.batch_size)
    contents = checkpoint.read(out / LAST) if (out / LAST).exists() else None
    return train(
        accelerator, recipe, load_data(str(data), recipe.seed), str(data), out, 0, watcher or Watcher(), contents
    )


def small_recipe(**changes: Any) -> Recipe:
    """From scratch, in a few steps."""
    return replace(FROM_SCRATCH, **{"epochs": 2, "batch_size": 12, **changes})
