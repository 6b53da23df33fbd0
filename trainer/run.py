"""Train a model: epochs, best and last checkpoint, early stopping, exact resume after an interruption."""

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
from stages.plural import plural
from stages.stop_signals import StopSignals
from trainer import checkpoint
from trainer.data.datasets import Data
from trainer.errors import InterruptedTraining, TrainingError
from trainer.report.progress import TrainingProgress
from trainer.report.report import Predictions, write_report
from trainer.training.files import BEST, LAST, METRICS
from trainer.training.freezing import count_parameters
from trainer.training.machine import largest_batch, stop_signals
from trainer.training.recipe import Recipe, new_card
from trainer.training.training import Training

FEW_STEPS = 50  # in all; the default recipe takes 2,457 on CIFAR-10
SMALL_BATCH = 16  # images


@dataclass(slots=True)
class Run:
    """A training with its data and output folder. ``best`` and ``waited`` refer to the validation accuracy."""

    training: Training
    data: Data
    out: Path
    progress: TrainingProgress
    main: bool  # whether this process writes the files
    source: str  # --data, as given
    best: float = -1.0
    waited: int = 0  # epochs since the best

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or the training stops early."""
        recipe = self.training.recipe
        return self.training.epoch >= recipe.epochs or self.waited >= recipe.patience

    def contents(self) -> dict[str, Any]:
        """The checkpoint of the current state. With several processes, all of them must call it."""
        options = {"recipe": self.training.recipe.to_dict(), "data": self.source, "pictures": _split_sizes(self.data)}
        return self.training.state() | {"best": self.best, "waited": self.waited, "options": options}

    def save(self, name: str, contents: dict[str, Any]) -> None:
        """Write a checkpoint file, in the main process only."""
        if self.main:
            checkpoint.save(self.out / name, contents)

    def restore(self, contents: dict[str, Any]) -> None:
        """Continue from the state in ``contents``."""
        self.training.restore(contents)
        self.best, self.waited = contents["best"], contents["waited"]


def train(
    accelerator: Accelerator,
    recipe: Recipe,
    data: Data,
    source: str,
    out: Path,
    workers: int,
    progress: TrainingProgress,
    resume: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Train to the end and return the summary. ``resume``: the checkpoint to resume, of the same recipe and labels.

    Writes best.pt, last.pt, metrics.jsonl and the report into ``out``, each atomically. Raises ConfigError, ModelError,
    OutputError, TrainingError, and InterruptedTraining when the user stopped it and its state is saved.
    """
    started = time.monotonic()
    card = new_card(recipe, data.labels)
    if resume is not None:
        card = Card.from_dict(resume["card"])
        _check_same_data(card.labels, resume["options"]["pictures"], data)
    torch.manual_seed(recipe.seed)
    pretrained = not recipe.from_scratch and resume is None
    with accelerator.main_process_first():  # the main process downloads the weights, the others use its copy
        model = build_model(card.model, len(card.labels), weights=pretrained, options=card.options)
    training = Training(accelerator, recipe, card, model, data, workers)
    total, trainable = count_parameters(model)
    progress.say(f"{card.model}: {total:,} parameters, {trainable:,} trainable ({trainable / total:.2%})")
    if recipe.epochs * training.steps < FEW_STEPS and recipe.batch_size > SMALL_BATCH:
        progress.say(
            f"steps in all: {recipe.epochs * training.steps}; with so few pictures a smaller --batch-size, such as "
            f"{SMALL_BATCH}, learns more"
        )
    existing = sum(path.stat().st_size for name in (BEST, LAST) if (path := out / name).exists())
    checkpoint.create_folder(out, 3 * (4 * total + 8 * trainable) - existing)  # two files, and one being written
    run = Run(training, data, out, progress, accelerator.is_main_process, source)
    if resume is not None:
        run.restore(resume)
        progress.say(f"going on in epoch {min(training.epoch + 1, recipe.epochs)} of {recipe.epochs}")
    try:
        _train_epochs(run)
    finally:
        progress.close()
    summary = {"model": card.model, "labels": list(card.labels), "parameters": total, "trainable": trainable}
    return summary | _finish(run, model) | {"seconds": round(time.monotonic() - started, 1)}


def _train_epochs(run: Run) -> None:
    training = run.training
    out_of_memory = ""
    try:
        with stop_signals() as signals:
            val_batches = training.loader(run.data.val)
            feature_cache: list[torch.Tensor] = []
            while not run.finished:
                _train_epoch(run, val_batches, feature_cache, signals)
    except RuntimeError as error:  # the allocators of CUDA, cuDNN and the CPU have no error class in common
        if not should_reduce_batch_size(error):
            raise
        out_of_memory = str(error).partition("\n")[0]
    # outside of the handler, in which the error still holds the step's tensors
    if out_of_memory:
        raise TrainingError(_out_of_memory_message(training, out_of_memory))


def _train_epoch(run: Run, val_batches: Any, feature_cache: list[torch.Tensor], signals: StopSignals) -> None:
    """Train and validate one epoch, or the rest of it; write checkpoints and metrics."""
    training, started, first_step = run.training, time.monotonic(), run.training.step
    if not training.finish_epoch(lambda: signals.requested, run.progress.step):
        run.save(LAST, run.contents())
        raise InterruptedTraining(
            f"stopped in epoch {training.epoch + 1} of {training.recipe.epochs} and saved; go on with: "
            f"maskcast train --resume --out {shlex.quote(str(run.out))}"
        )
    seconds = time.monotonic() - started
    train = training.metrics(all_processes=True)
    lr = training.lr
    val = training.evaluate(val_batches, feature_cache)
    training.end_epoch(
        lr=lr,
        train_loss=train.loss,
        train_accuracy=train.accuracy,
        val_loss=val.loss,
        val_accuracy=val.accuracy,
        images_per_second=round((training.steps - first_step) * training.batch / seconds, 1),
        seconds=round(time.monotonic() - started, 3),
    )
    better = val.accuracy > run.best
    run.best, run.waited = max(val.accuracy, run.best), 0 if better else run.waited + 1
    contents = run.contents()
    if better:
        run.save(BEST, contents)
    run.save(LAST, contents)  # after best.pt: a run killed in between repeats this epoch and writes both again
    if run.main:
        _write_metrics(run.out / METRICS, training.history)
    run.progress.say(
        f"epoch {training.epoch}/{training.recipe.epochs}: loss {train.loss:.3f}, accuracy {train.accuracy:.1%}, "
        f"validation loss {val.loss:.3f}, validation accuracy {val.accuracy:.2%}"
        + (", the best so far" if better else "")
    )


def _finish(run: Run, model: nn.Module) -> dict[str, Any]:
    """Evaluate the best model on the test images, else on the validation images, and write the report."""
    path, training = run.out / BEST, run.training
    training.wait_for_all()  # the main process writes the file, all read it
    if not path.exists():
        raise OutputError(f"{path} has gone since it was written; train again, into another folder")
    contents = checkpoint.read(path)
    model.load_state_dict(contents["model"])
    metrics = contents["card"]["metrics"]
    split, images = ("val", run.data.val) if run.data.test is None else ("test", run.data.test)
    logits, truth = training.predict(training.loader(images))
    predictions = Predictions(run.data.labels, truth.numpy(), logits.softmax(1).numpy())
    metrics |= {f"{split}_{metric}": value for metric, value in predictions.summary().items()}
    if run.main:
        run.save(BEST, contents)
        about = {
            "model": training.card.model,
            "data": run.source,
            "measured on": f"{len(truth):,} {plural(len(truth), 'picture')} of {split}",
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


def _out_of_memory_message(training: Training, reason: str) -> str:
    size = training.recipe.batch_size
    if not training.single_process:  # trying a step needs all processes at the same step, which they are not
        return f"out of memory with --batch-size {size}: give a smaller one ({reason})"
    fits = largest_batch(training.try_step, size)
    advice = f"--batch-size {fits} fits" if fits else "not even one picture fits; choose a smaller --model"
    return f"out of memory with --batch-size {size}: {advice} ({reason})"


def _split_sizes(data: Data) -> list[int]:
    """The numbers of training and validation images."""
    return [len(data.train), len(data.val)]


def _check_same_data(labels: tuple[str, ...], split_sizes: list[int], data: Data) -> None:
    """Raises ConfigError for other data: its split would mix training and validation images."""
    advice = "give the data it was trained on, or start anew, without --resume, into another --out"
    if labels != data.labels:
        raise ConfigError(
            f"--resume: the checkpoint's classes are {', '.join(labels)}, the data's {', '.join(data.labels)}; {advice}"
        )
    if split_sizes != _split_sizes(data):
        was, now = ("{:,} + {:,}".format(*sizes) for sizes in (split_sizes, _split_sizes(data)))
        raise ConfigError(f"--resume: training and validation had {was} pictures, the data has {now}; {advice}")


def _write_metrics(path: Path, history: list[dict[str, Any]]) -> None:
    lines = "".join(json.dumps(row) + "\n" for row in history)
    checkpoint.write_atomically(path, lines.encode())
