"""Measure classifiers on labelled pictures: checkpoints of `maskcast train`, .onnx files, or "embedded".

Several together are an ensemble: the mean of their scores. The pictures are the data's test pictures, or, where there
are none, those that the training held out for validation.

examples:
  maskcast evaluate runs/gate/best.pt --data frames
  maskcast evaluate runs/a/best.pt runs/b/best.pt --data cifar10 --tta --out evaluation
  maskcast evaluate gate.onnx --data other-frames --split all --json
"""

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.plural import plural
from trainer.commands.data import read_data
from trainer.commands.machine_flags import add_machine_flags

if TYPE_CHECKING:
    from trainer.report.report import Predictions

SPLITS = ("test", "val", "train", "all")


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of ``maskcast evaluate``."""
    parser.add_argument("checkpoints", nargs="+", metavar="CHECKPOINT", help="best.pt, an .onnx file, or embedded")
    parser.add_argument("--data", required=True, metavar="FOLDER", help="as for `maskcast train`, or cifar10")
    parser.add_argument("--split", choices=SPLITS, help="default: test, or val where there is none")
    parser.add_argument("--tta", action="store_true", help="the mean over ten shifted and mirrored views; slower")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write report.md, per_class.csv, confusion_matrix.png")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    add_machine_flags(parser)


def run(arguments: Namespace) -> int:
    """Evaluate each checkpoint, then the ensemble. Raises ConfigError, SourceError, ModelError, OutputError."""
    from trainer.report.report import write_report

    alone, ensemble, split, models = _measure(arguments)
    count = len(ensemble.truth)
    on = f"{count:,} {plural(count, 'picture')} of {split}"
    if arguments.out is not None:
        about = {
            "checkpoints": ", ".join(arguments.checkpoints),
            "model": ", ".join(models),
            "data": arguments.data,
            "measured on": on,
            "test-time augmentation": "ten views" if arguments.tta else "none",
        }
        write_report(arguments.out, ensemble, about)
    if arguments.json:
        print(json.dumps(_summary(arguments, split, alone, ensemble), ensure_ascii=False))
        return 0
    print(f"{on}{', ten views of each' if arguments.tta else ''}")
    for path, one in zip(arguments.checkpoints, alone, strict=True):
        print(_line(path, one))
    if len(alone) > 1:
        print(_line("together", ensemble))
    return 0


def _measure(arguments: Namespace) -> "tuple[list[Predictions], Predictions, str, list[str]]":
    """The predictions of each checkpoint and of the ensemble, the split's name, and the names of the models."""
    from trainer import evaluate
    from trainer.report.report import Predictions
    from trainer.training.machine import default_workers, new_accelerator

    accelerator = new_accelerator(arguments.device, arguments.precision, seed=0, batch_size=evaluate.BATCH)
    networks = [evaluate.open_network(path, accelerator) for path in arguments.checkpoints]
    labels = evaluate.common_labels(networks)
    data = read_data(arguments.data, evaluate.split_seed(networks))
    split, images = evaluate.select_split(data, arguments.split)
    evaluate.check_held_out(networks, arguments.data, split)
    truth = evaluate.map_targets(labels, data, images)
    workers = default_workers() if arguments.workers is None else arguments.workers
    scores = [evaluate.predict(one, images, accelerator.device, workers, arguments.tta) for one in networks]
    alone = [Predictions(labels, truth, one) for one in scores]
    return alone, evaluate.ensemble(labels, truth, scores), split, [network.card.model for network in networks]


def _summary(arguments: Namespace, split: str, alone: "list[Predictions]", ensemble: "Predictions") -> dict[str, Any]:
    each = [{"checkpoint": path} | one.summary() for path, one in zip(arguments.checkpoints, alone, strict=True)]
    common = {"data": arguments.data, "split": split, "pictures": len(ensemble.truth), "tta": arguments.tta}
    return common | ensemble.summary() | {"checkpoints": each}


def _line(name: str, predictions: "Predictions") -> str:
    figures = predictions.summary()
    return (
        f"{name}: accuracy {figures['accuracy']:.2%}, macro F1 {figures['macro_f1']:.4f}, "
        f"log loss {figures['log_loss']:.4f}"
    )
