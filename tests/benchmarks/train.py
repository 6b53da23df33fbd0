"""Images per second of the trainer against a plain torch loop of the same recipe, in the same run.

    python -m tests.benchmarks.train
    python -m tests.benchmarks.train --from-scratch --batch-size 32 --data FOLDER

The plain loop is that of tutorials: images are decoded and augmented one by one in the loader's processes, the whole
model runs with its frozen blocks, and all options are torch's defaults. Both loops use the same files, model,
augmentation, optimizer, precision, batch size and number of processes, and run in turns.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from stages.classification.card import Card
from stages.classification.classifier import build_model
from stages.errors import MaskcastError
from tests.benchmarks.support.stopwatch import now, settle
from trainer.data.datasets import load_data
from trainer.data.images import Augment
from trainer.training.freezing import freeze
from trainer.training.machine import PRECISIONS, default_workers, new_accelerator
from trainer.training.recipe import FINE_TUNING, FROM_SCRATCH, Recipe, new_card
from trainer.training.training import Training

Round = Callable[[int, int], list[float]]  # steps before, steps timed -> clock before and after the timed ones
DTYPES = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Files(Dataset[tuple[torch.Tensor, int]]):
    """Image files, each decoded by Pillow and augmented on its own."""

    def __init__(self, paths: Sequence[Path], targets: Sequence[int], card: Card) -> None:
        self._paths, self._targets = paths, targets
        look, augment = card.preprocessing, Augment(card.preprocessing)
        self._transform = v2.Compose(
            [
                v2.Resize((look.size, look.size), v2.InterpolationMode(look.interpolation)),
                *augment._transform.transforms,
                v2.ToImage(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(look.mean, look.std),
                augment._erase,
            ]
        )

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self._transform(Image.open(self._paths[index]).convert("RGB")), int(self._targets[index])


def plain_loop(recipe: Recipe, card: Card, data: Any, device: torch.device, dtype: torch.dtype, workers: int) -> Round:
    """The function that runs a round of the plain loop."""
    model = new_model(card)
    freeze(model, recipe.unfreeze)  # only to freeze the same parameters
    model.to(device).train()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, recipe.lr, weight_decay=recipe.weight_decay)
    loss = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
    scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
    files = Files(data.train.images, data.train.targets, card)
    loader = DataLoader(
        files, recipe.batch_size, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=workers > 0
    )

    def learn(pictures: torch.Tensor, targets: torch.Tensor) -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            wrong = loss(model(pictures.to(device)), targets.to(device))
        scaler.scale(wrong).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(parameters, recipe.clip)
        scaler.step(optimizer)
        scaler.update()

    def round_(before: int, timed: int) -> list[float]:
        marks = []
        for step, batch in enumerate(loader, start=1):
            learn(*batch)
            if step in (before, before + timed):
                marks.append(clock(device, workers))
            if step == before + timed:
                break
        return marks

    return round_


def trainer_loop(training: Training, device: torch.device, workers: int) -> Round:
    """The function that runs a round of the trainer's loop."""

    def round_(before: int, timed: int) -> list[float]:
        marks: list[float] = []

        def show(now_: Training) -> None:
            if now_.step in (before, before + timed):
                marks.append(clock(device, workers))

        training.finish_epoch(lambda: training.step == before + timed, show)
        training.epoch, training.step = training.epoch + 1, 0
        return marks

    return round_


def clock(device: torch.device, workers: int) -> float:
    settle(device)
    return time.perf_counter() if workers else now(device)


def new_model(card: Card) -> nn.Module:
    torch.manual_seed(0)
    return build_model(card.model, len(card.labels), options=card.options)


def write_pictures(folder: Path, count: int, side: int) -> None:
    """Write JPEGs of noise in two classes."""
    chance = np.random.default_rng(0)
    for index in range(count):
        place = folder / ("odd" if index % 2 else "even")
        place.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(chance.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        coarse.resize((side, side), Image.Resampling.BICUBIC).save(place / f"{index}.jpg")


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    recipe = FROM_SCRATCH if arguments.from_scratch else FINE_TUNING
    recipe = replace(recipe, batch_size=arguments.batch_size, **({"model": arguments.model} if arguments.model else {}))
    needed = (arguments.before + arguments.steps) * recipe.batch_size
    where = arguments.data
    if where is None:
        write_pictures(folder, needed * 10 // 9 + 20, arguments.side)
        where = str(folder)
    data = load_data(where, 0)
    if len(data.train) < needed or isinstance(data.train.images, np.ndarray):
        raise SystemExit(f"{where}: {needed} training pictures in files are needed; take fewer --steps")
    card, workers = new_card(recipe, data.labels), arguments.workers
    accelerator = new_accelerator(arguments.device, arguments.precision, 0, recipe.batch_size)
    device, dtype = accelerator.device, DTYPES[accelerator.mixed_precision]
    loops = {
        "plain": plain_loop(recipe, card, data, device, dtype, workers),
        "trainer": trainer_loop(Training(accelerator, recipe, card, new_model(card), data, workers), device, workers),
    }
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(arguments.rounds):
        for name, round_ in loops.items():
            began, ended = round_(arguments.before, arguments.steps)
            seconds[name].append(ended - began)
    pictures = arguments.steps * recipe.batch_size
    rates = {name: pictures / statistics.median(taken) for name, taken in seconds.items()}
    return {
        "machine": torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"CPU, {torch.get_num_threads()} threads",
        "model": card.model,
        "precision": str(dtype).removeprefix("torch."),
        "batch_size": recipe.batch_size,
        "workers": workers,
        "torch": torch.__version__,
        "images_per_second": rates,
        "trainer_over_plain": rates["trainer"] / rates["plain"],
    }


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.train", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--from-scratch", action="store_true", help="the recipe for small pictures")
    parser.add_argument("--model", help="instead of the recipe's")
    parser.add_argument("--data", metavar="FOLDER", help="pictures of your own; else JPEGs are made")
    parser.add_argument("--side", type=int, default=32, help="of those, in pixels (32, as CIFAR-10's)")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--before", type=int, default=5, metavar="STEPS", help="not timed: to compile, to fill queues")
    parser.add_argument("--steps", type=int, default=20, help="timed, in each round")
    parser.add_argument("--rounds", type=int, default=3, help="of each loop, in turns; the median counts")
    parser.add_argument("--workers", type=int, default=default_workers())
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--precision", choices=["auto", *PRECISIONS], default="auto")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    with tempfile.TemporaryDirectory() as folder:
        try:
            report = measure(arguments, Path(folder))
        except MaskcastError as error:
            raise SystemExit(str(error)) from None
    if arguments.json:
        print(json.dumps(report))
        return
    rates = report.pop("images_per_second")
    ratio = report.pop("trainer_over_plain")
    print(", ".join(f"{name} {value}" for name, value in report.items()))
    for name, rate in rates.items():
        print(f"{name:8} {rate:10.1f} images/s")
    print(f"trainer / plain: {ratio:.2f}")


if __name__ == "__main__":
    main()
