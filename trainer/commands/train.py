"""Make a classifier of your own pictures.

FOLDER has a folder of pictures for each class, or folders train, val and test of such. Without val, a tenth of each
class is held out. Defaults: the last three blocks of an ImageNet ViT-B/16 are trained further, in 7 epochs. DIR gets
best.pt, which `maskcast run --classifier` takes, last.pt, metrics.jsonl, curves, confusion matrix and a report.
Several GPUs: torchrun --nproc-per-node gpu -m daemon train ...

examples:
  maskcast train --frames-from monday.mp4 --every 1s --out gate
  maskcast train --data gate --out gate-model
  maskcast train --resume --out gate-model
  maskcast train --data cifar10 --model swin_v2_t --unfreeze 4
  maskcast train --data cifar10 --from-scratch
"""

import json
import shlex
from argparse import ArgumentParser, Namespace
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from stages.errors import ConfigError
from stages.plural import plural
from trainer.commands.data import read_data
from trainer.commands.machine_flags import add_machine_flags
from trainer.training.files import LAST
from trainer.training.recipe import FINE_TUNING, FROM_SCRATCH, Recipe

RECIPE_FLAGS = ("model", "unfreeze", "epochs", "batch_size", "lr", "seed", "class_weights", "from_scratch")


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of ``maskcast train``. None: the recipe, or the resumed checkpoint, gives the value."""
    parser.add_argument("--data", metavar="cifar10|FOLDER", help="what to learn from")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder to write to (classifier; frames)")
    parser.add_argument("--resume", action="store_true", help="go on with the training in DIR")
    parser.add_argument("--model", help="a ViT or Swin of torchvision (vit_b_16), or compact_vit")
    parser.add_argument("--unfreeze", type=int, metavar="BLOCKS", help="how many blocks to train, from the end (3)")
    parser.add_argument(
        "--from-scratch",
        action="store_true",
        default=None,
        help="no pretrained weights: a compact ViT for small pictures, or --model; everything trains",
    )
    parser.add_argument("--epochs", type=int, metavar="N", help="passes over the pictures (7; from scratch 60)")
    parser.add_argument("--batch-size", type=int, metavar="N", help="pictures in a step, over all GPUs (128)")
    parser.add_argument("--lr", type=float, metavar="RATE", help="highest learning rate (1e-4; from scratch 1e-3)")
    parser.add_argument(
        "--class-weights", action="store_true", default=None, help="rare classes count as much as frequent ones"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="seed of all random numbers (0)")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    parser.add_argument("--frames-from", metavar="RECORDING", help="only cut frames of a video into DIR, to be sorted")
    parser.add_argument("--every", metavar="TIME", help='between two such frames, as in "500ms" (1s)')
    add_machine_flags(parser)


def run(arguments: Namespace) -> int:
    """Train, or extract frames. Raises ConfigError, SourceError, ModelError, OutputError, TrainingError."""
    if arguments.frames_from:
        if arguments.data or arguments.resume:
            raise ConfigError("--frames-from only cuts frames; sort them, then train with --data alone")
        return _cut_frames(arguments)
    if arguments.every:
        raise ConfigError("--every goes with --frames-from")
    out = arguments.out or Path("classifier")
    given = {name: getattr(arguments, name) for name in RECIPE_FLAGS if getattr(arguments, name) is not None}
    if arguments.resume:
        if not (out / LAST).exists():
            raise ConfigError(f"--resume: there is no {out / LAST}; give the folder of a training with --out")
        from trainer import checkpoint

        contents = checkpoint.read(out / LAST)
        return _train(arguments, _same_recipe(contents, given), contents["options"]["data"], out, contents)
    if (out / LAST).exists():
        raise ConfigError(f"{out} has a training already: go on with it with --resume, or give another --out")
    if not arguments.data:
        raise ConfigError('--data is missing: give a folder with a folder for each class, or "cifar10"')
    return _train(arguments, new_recipe(given), arguments.data, out, None)


def new_recipe(given: dict[str, Any]) -> Recipe:
    """The default recipe with the ``given`` values. Raises ConfigError."""
    if given.get("from_scratch") and "unfreeze" in given:
        raise ConfigError("--unfreeze: from scratch everything trains; leave it out")
    return replace(FROM_SCRATCH if given.get("from_scratch") else FINE_TUNING, **given)


def _train(arguments: Namespace, recipe: Recipe, source: str, out: Path, contents: dict[str, Any] | None) -> int:
    from trainer.data.datasets import CIFAR_10
    from trainer.report.progress import ConsoleProgress, TrainingProgress
    from trainer.run import train
    from trainer.training.machine import default_workers, new_accelerator
    from trainer.training.recipe import new_card

    new_card(recipe, ())  # reports a wrong model name before the images are read
    source = arguments.data or source
    accelerator = new_accelerator(arguments.device, arguments.precision, recipe.seed, recipe.batch_size)
    with accelerator.main_process_first() if source == CIFAR_10 else nullcontext():  # downloads once
        data = read_data(source, recipe.seed, quiet=not accelerator.is_main_process)
    workers = default_workers() if arguments.workers is None else arguments.workers
    progress = ConsoleProgress() if accelerator.is_main_process else TrainingProgress()
    try:
        summary = train(accelerator, recipe, data, source, out, workers, progress, contents)
    finally:
        accelerator.end_training()
    if accelerator.is_main_process:
        print(json.dumps(summary, ensure_ascii=False) if arguments.json else _summary_text(summary, out))
    return 0


def _same_recipe(contents: dict[str, Any], given: dict[str, Any]) -> Recipe:
    """The recipe of a checkpoint. Raises ConfigError when a given flag differs from it."""
    recipe = Recipe.from_dict(contents["options"]["recipe"])
    for name, value in given.items():
        if getattr(recipe, name) != value:
            flag = name.replace("_", "-")
            raise ConfigError(
                f"--{flag} {value}: the training to go on with has {getattr(recipe, name)}; leave the flag out, or "
                f"start anew without --resume"
            )
    return recipe


def _cut_frames(arguments: Namespace) -> int:
    from trainer.data.frames import cut_frames, parse_interval

    out = arguments.out or Path("frames")
    count = cut_frames(arguments.frames_from, parse_interval(arguments.every or "1s"), out)
    if arguments.json:
        print(json.dumps({"frames": count, "folder": str(out)}))
    else:
        folder = shlex.quote(str(out))
        sort = f"sort them into {out}/<class>/, then maskcast train --data {folder}"
        print(f"{count} {plural(count, 'frame')} in {out}: {sort}")
    return 0


def _summary_text(summary: dict[str, Any], out: Path) -> str:
    tested = summary["test_accuracy"]
    return (
        f"validation accuracy {summary['val_accuracy']:.2%} in epoch {summary['best_epoch']}"
        + (f", test accuracy {tested:.2%}" if tested is not None else "")
        + f"\nmodel: {summary['checkpoint']}; report: {out / 'report.md'}"
        f"\nuse it: maskcast run SOURCE --classifier {shlex.quote(summary['checkpoint'])}"
    )
