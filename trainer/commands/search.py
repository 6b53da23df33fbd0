"""Try learning rates, batch sizes and numbers of unfrozen blocks: a training for each combination.

DIR gets search.csv, search.png, search.db (Optuna's, for optuna-dashboard) and a folder for each training with its
best.pt and report. The same command again goes on where it was stopped; more values extend the grid.

examples:
  maskcast search --data gate --out gate-search
  maskcast search --data gate --lr 3e-5 1e-4 --batch-size 64 --unfreeze 1 3 6 --epochs 5 --out gate-search
  maskcast search --data cifar10 --from-scratch --lr 5e-4 1e-3 2e-3
"""

import json
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.errors import ConfigError
from stages.plural import plural
from trainer.commands.data import read_data
from trainer.commands.machine_flags import add_machine_flags

if TYPE_CHECKING:
    from trainer.data.datasets import Data
    from trainer.training.recipe import Recipe

SHARED = ("model", "from_scratch", "epochs", "class_weights", "seed")  # flags that apply to all trainings
LR_FACTORS = (0.3, 1.0, 3.0)  # times the recipe's learning rate
BATCH_SIZES = (64, 128)
UNFREEZE = (1, 3, 6)


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of ``maskcast search``."""
    parser.add_argument("--data", required=True, metavar="cifar10|FOLDER", help="what to learn from")
    parser.add_argument("--out", type=Path, default=Path("search"), metavar="DIR", help="folder to write to (search)")
    parser.add_argument(
        "--lr", type=float, nargs="+", metavar="RATE", help="learning rates (a third, once, thrice the recipe's)"
    )
    parser.add_argument("--batch-size", type=int, nargs="+", metavar="N", help="pictures in a step (64 128)")
    parser.add_argument(
        "--unfreeze", type=int, nargs="+", metavar="BLOCKS", help="blocks to train (1 3 6; from scratch all)"
    )
    parser.add_argument("--model", help="as for `maskcast train`")
    parser.add_argument("--from-scratch", action="store_true", default=None, help="as for `maskcast train`")
    parser.add_argument("--epochs", type=int, metavar="N", help="as for `maskcast train`")
    parser.add_argument("--class-weights", action="store_true", default=None, help="as for `maskcast train`")
    parser.add_argument("--seed", type=int, metavar="N", help="seed of all random numbers (0)")
    parser.add_argument("--json", action="store_true", help="print the table as JSON")
    add_machine_flags(parser)


def run(arguments: Namespace) -> int:
    """Run the search; 1 when every training failed. Raises ConfigError, SourceError, ModelError, OutputError."""
    from trainer.commands.train import new_recipe
    from trainer.search import TABLE, count_points, search

    given = {name: getattr(arguments, name) for name in SHARED if getattr(arguments, name) is not None}
    recipe = new_recipe(given)
    grid = _grid(arguments, recipe)
    data = read_data(arguments.data, recipe.seed)
    shared = {name: getattr(recipe, name) for name in SHARED} | {"data": arguments.data}
    count = count_points(grid)
    print(f"maskcast: {count} {plural(count, 'training')} in {arguments.out}", file=sys.stderr)
    rows = search(grid, shared, arguments.out, lambda values, out: _train(arguments, recipe, data, values, out))
    if arguments.json:
        print(json.dumps(rows, ensure_ascii=False))
    else:
        print("\n".join([*map(_line, rows), f"table: {arguments.out / TABLE}"]))
    return 0 if any(row["val_accuracy"] is not None for row in rows) else 1


def _grid(arguments: Namespace, recipe: "Recipe") -> dict[str, list[float]]:
    """The values of each hyperparameter, without duplicates. Raises ConfigError."""
    from dataclasses import replace

    if recipe.from_scratch and arguments.unfreeze:
        raise ConfigError("--unfreeze: from scratch everything trains; leave it out")
    grid: dict[str, list[float]] = {
        "lr": arguments.lr or [float(f"{recipe.lr * factor:.3g}") for factor in LR_FACTORS],
        "batch_size": arguments.batch_size or list(BATCH_SIZES),
    }
    if not recipe.from_scratch:
        grid["unfreeze"] = arguments.unfreeze or list(UNFREEZE)
    for name, values in grid.items():
        for value in values:
            point: dict[str, Any] = {name: value}
            replace(recipe, **point)  # validates the value
    return {name: list(dict.fromkeys(values)) for name, values in grid.items()}


def _train(arguments: Namespace, recipe: "Recipe", data: "Data", values: dict[str, Any], out: Path) -> dict[str, Any]:
    """Train at one point, or resume the training where it was stopped."""
    from dataclasses import replace

    from trainer import checkpoint
    from trainer.errors import InterruptedTraining
    from trainer.report.progress import ConsoleProgress
    from trainer.run import train
    from trainer.training.files import LAST
    from trainer.training.machine import default_workers, new_accelerator

    recipe = replace(recipe, **values)
    accelerator = new_accelerator(arguments.device, arguments.precision, recipe.seed, recipe.batch_size)
    if accelerator.num_processes > 1:
        raise ConfigError("search trains on one GPU; start it without torchrun")
    workers = default_workers() if arguments.workers is None else arguments.workers
    resume = checkpoint.read(out / LAST) if (out / LAST).exists() else None
    progress = ConsoleProgress()
    progress.say(out.name)
    try:
        summary = train(accelerator, recipe, data, arguments.data, out, workers, progress, resume)
    except InterruptedTraining:
        raise InterruptedTraining(f"stopped in {out} and saved; the same command goes on") from None
    finally:
        accelerator.free_memory()
    (out / LAST).unlink()  # the training is complete: saves half of the disk space
    return summary


def _line(row: dict[str, Any]) -> str:
    values = ", ".join(f"{name} {row[name]:g}" for name in ("lr", "batch_size", "unfreeze") if name in row)
    if row["val_accuracy"] is None:
        return f"{values}: {row['failed']}"
    tested = "" if row["test_accuracy"] is None else f", test {row['test_accuracy']:.2%}"
    return f"{values}: validation {row['val_accuracy']:.2%}{tested}, {row['seconds']:.0f} s, {row['checkpoint']}"
