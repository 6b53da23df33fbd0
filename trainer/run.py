"""The verb: train a model, keep its best, and go on after an interruption as if there had been none."""

import json
import shlex
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils.memory import should_reduce_batch_size
from torch import nn

from stages.classification.card import Card
from stages.classification.classifier import build_model
from stages.errors import ConfigError, OutputError
from trainer import checkpoint
from trainer.data.datasets import Data
from trainer.errors import InterruptedTraining, TrainingError
from trainer.report.progress import Shown
from trainer.report.report import Predictions, write_report
from trainer.training.files import BEST, LAST, METRICS
from trainer.training.freezing import count_parameters
from trainer.training.machine import Interrupt, largest_batch
from trainer.training.recipe import Recipe, new_card
from trainer.training.training import Training

FEW = 50  # steps; the recipe takes 2,457
SMALL = 16  # pictures


@dataclass(slots=True)
class Run:
    """A training with its folder. ``best`` and ``waited`` are of the validation accuracy."""

    training: Training
    data: Data
    out: Path
    shown: Shown
    main: bool  # of many processes, the one that writes
    source: str  # --data, as written
    best: float = -1.0
    waited: int = 0  # epochs since the best

    @property
    def over(self) -> bool:
        recipe = self.training.recipe
        return self.training.epoch >= recipe.epochs or self.waited >= recipe.patience

    def contents(self) -> dict[str, Any]:
        """A checkpoint to go on from. With several processes, all of them have to ask."""
        options = {"recipe": self.training.recipe.to_dict(), "data": self.source, "pictures": _sizes(self.data)}
        return self.training.state() | {"best": self.best, "waited": self.waited, "options": options}

    def save(self, name: str, contents: dict[str, Any]) -> None:
        if self.main:
            checkpoint.save(self.out / name, contents)

    def restore(self, contents: dict[str, Any]) -> None:
        self.training.restore(contents)
        self.best, self.waited = contents["best"], contents["waited"]


def train(
    accelerator: Accelerator,
    recipe: Recipe,
    data: Data,
    source: str,
    out: Path,
    workers: int,
    shown: Shown,
    resume: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Train to the end; the summary. ``resume``: the checkpoint to go on from, of the same recipe and labels.

    Writes best.pt, last.pt and metrics.jsonl into ``out``, each whole or not at all. Raises ConfigError, ModelError,
    OutputError, TrainingError, and InterruptedTraining when it was stopped and saved.
    """
    began = time.monotonic()
    card = new_card(recipe, data.labels)
    if resume is not None:
        card = Card.from_dict(resume["card"])
        _check_same(card.labels, resume["options"]["pictures"], data)
    torch.manual_seed(recipe.seed)
    pretrained = not recipe.from_scratch and resume is None
    with accelerator.main_process_first():  # it downloads for all
        model = build_model(card.model, len(card.labels), weights=pretrained, options=card.options)
    training = Training(accelerator, recipe, card, model, data, workers)
    everything, trained = count_parameters(model)
    shown.say(f"{card.model}: {everything:,} parameters, {trained:,} trainable ({trained / everything:.2%})")
    if recipe.epochs * training.steps < FEW and recipe.batch_size > SMALL:
        shown.say(
            f"steps in all: {recipe.epochs * training.steps}; with so few pictures a smaller --batch-size, such as "
            f"{SMALL}, learns more"
        )
    there = sum(path.stat().st_size for name in (BEST, LAST) if (path := out / name).exists())
    checkpoint.make_room(out, 3 * (4 * everything + 8 * trained) - there)  # two files, and one being written
    run = Run(training, data, out, shown, accelerator.is_main_process, source)
    if resume is not None:
        run.restore(resume)
        shown.say(f"going on in epoch {min(training.epoch + 1, recipe.epochs)} of {recipe.epochs}")
    try:
        _epochs(run)
    finally:
        shown.close()
    summary = {"model": card.model, "labels": list(card.labels), "parameters": everything, "trainable": trained}
    return summary | _finish(run, model) | {"seconds": round(time.monotonic() - began, 1)}


def _epochs(run: Run) -> None:
    training = run.training
    failed = ""
    try:
        with Interrupt() as interrupt:
            held_out = training.loader(run.data.val)
            kept: list[torch.Tensor] = []
            while not run.over:
                _epoch(run, held_out, kept, interrupt)
    except RuntimeError as error:  # CUDA's, cuDNN's and the CPU's allocator have no class in common
        if not should_reduce_batch_size(error):
            raise
        failed = str(error).partition("\n")[0]
    # not inside the handler, where the error still holds the step's tensors
    if failed:
        raise TrainingError(_too_large(training, failed))


def _epoch(run: Run, held_out: Any, kept: list[torch.Tensor], interrupt: Interrupt) -> None:
    training, began, first = run.training, time.monotonic(), run.training.step
    if not training.finish_epoch(lambda: interrupt.asked, run.shown.step):
        run.save(LAST, run.contents())
        raise InterruptedTraining(
            f"stopped in epoch {training.epoch + 1} of {training.recipe.epochs} and saved; go on with: "
            f"maskcast train --resume --out {shlex.quote(str(run.out))}"
        )
    seconds = time.monotonic() - began
    learned = training.measured(everywhere=True)
    lr = training.lr
    held = training.evaluate(held_out, kept)
    training.end_epoch(
        lr=lr,
        train_loss=learned.loss,
        train_accuracy=learned.accuracy,
        val_loss=held.loss,
        val_accuracy=held.accuracy,
        images_per_second=round((training.steps - first) * training.batch / seconds, 1),
        seconds=round(time.monotonic() - began, 3),
    )
    better = held.accuracy > run.best
    run.best, run.waited = max(held.accuracy, run.best), 0 if better else run.waited + 1
    contents = run.contents()
    if better:
        run.save(BEST, contents)
    run.save(LAST, contents)  # after the best: who goes on from here finds that, or makes it again
    if run.main:
        _write_metrics(run.out / METRICS, training.history)
    run.shown.say(
        f"epoch {training.epoch}/{training.recipe.epochs}: loss {learned.loss:.3f}, accuracy {learned.accuracy:.1%}, "
        f"validation loss {held.loss:.3f}, validation accuracy {held.accuracy:.2%}"
        + (", the best so far" if better else "")
    )


def _finish(run: Run, model: nn.Module) -> dict[str, Any]:
    """Measure the best model on the test pictures, else on those of validation, and write what there is to know."""
    path, training = run.out / BEST, run.training
    training.wait()  # one writes it, all read it
    if not path.exists():
        raise OutputError(f"{path} has gone since it was written; train again, into another folder")
    contents = checkpoint.read(path)
    model.load_state_dict(contents["model"])
    metrics = contents["card"]["metrics"]
    name, pictures = ("val", run.data.val) if run.data.test is None else ("test", run.data.test)
    logits, truth = training.predict(training.loader(pictures))
    predictions = Predictions(run.data.labels, truth.numpy(), logits.softmax(1).numpy())
    figures = predictions.summary()
    metrics |= {f"{name}_{figure}": value for figure, value in figures.items()}
    if run.main:
        run.save(BEST, contents)
        about = {
            "model": training.card.model,
            "data": run.source,
            "measured on": f"{len(truth):,} pictures of {name}",
            "best epoch": f"{metrics['epoch']} of {training.epoch}",
        }
        write_report(run.out, predictions, about, training.history)
    return {
        "epochs": training.epoch,
        "best_epoch": metrics["epoch"],
        "val_accuracy": metrics["val_accuracy"],
        "test_accuracy": metrics.get("test_accuracy"),
        "checkpoint": str(path),
    }


def _too_large(training: Training, failed: str) -> str:
    size = training.recipe.batch_size
    if not training.alone:  # a step needs all processes, and they are no longer at the same one
        return f"out of memory with --batch-size {size}: give a smaller one ({failed})"
    fits = largest_batch(training.probe, size)
    advice = f"--batch-size {fits} fits" if fits else "not even one picture fits; choose a smaller --model"
    return f"out of memory with --batch-size {size}: {advice} ({failed})"


def _sizes(data: Data) -> list[int]:
    return [len(data.train), len(data.val)]


def _check_same(labels: tuple[str, ...], pictures: list[int], data: Data) -> None:
    """Raises ConfigError for other data: what was held out would be learned, and what was learned be held out."""
    advice = "give the data it was trained on, or start anew, without --resume, into another --out"
    if labels != data.labels:
        raise ConfigError(
            f"--resume: the checkpoint's classes are {', '.join(labels)}, the data's {', '.join(data.labels)}; {advice}"
        )
    if pictures != _sizes(data):
        was, now = ("{:,} + {:,}".format(*sizes) for sizes in (pictures, _sizes(data)))
        raise ConfigError(f"--resume: training and validation had {was} pictures, the data has {now}; {advice}")


def _write_metrics(path: Path, history: list[dict[str, Any]]) -> None:
    lines = "".join(json.dumps(row) + "\n" for row in history)
    checkpoint.write_whole(path, lines.encode())
