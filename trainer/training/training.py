"""A training and all that changes while it goes on: weights, optimizer, schedule, position and history.

Built on accelerate, which spreads over GPUs and processes, autocasts, scales and clips gradients, and shuffles and
skips batches. Lightning does the same and owns the loop and the checkpoint's format too; here the checkpoint is what
the daemon serves from, a training may stop after any step, and going on from there gives the same bits. With Lightning
that would be more code of ours, working around its loop, than the loop itself is; and accelerate needs hardly more than
transformers does already.

All chance is drawn from seeds made of the recipe's, the step's and the process's number, so no generator's state has
to be kept.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator, skip_first_batches
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from transformers import get_cosine_schedule_with_warmup

from stages.classification.card import Card
from stages.classification.classifier import checkpoint
from trainer.data.datasets import Data
from trainer.data.pictures import Augment, Collate, Pictures, Prepare, as_read
from trainer.errors import TrainingError
from trainer.training.freezing import freeze
from trainer.training.machine import leave_signals_to_parent
from trainer.training.recipe import Recipe

KEPT = 4 * 2**30  # bytes; outputs of the frozen half that are kept for the validation pictures


class Measured(NamedTuple):
    """Means over pictures."""

    loss: float
    accuracy: float


def new_schedule(optimizer: torch.optim.Optimizer, recipe: Recipe, steps: int) -> Any:
    """Linear warm-up from 0, then half a cosine to 0, by steps; ``steps`` make an epoch."""
    return get_cosine_schedule_with_warmup(optimizer, recipe.warm_up_epochs * steps, recipe.epochs * steps)


def class_weights(targets: np.ndarray[Any, np.dtype[np.int64]], classes: int) -> torch.Tensor:
    """float32 (classes,): the mean number of pictures of a class over that of each."""
    counts = np.bincount(targets, minlength=classes)
    return torch.tensor(counts.mean() / counts, dtype=torch.float32)


class Training:
    """One model in training. ``state`` and ``restore`` are exact inverses, after any step."""

    def __init__(
        self, accelerator: Accelerator, recipe: Recipe, card: Card, model: nn.Module, data: Data, workers: int
    ) -> None:
        self.recipe, self.card, self.model, self._accelerator = recipe, card, model, accelerator
        cuda = accelerator.device.type == "cuda"
        model.to(accelerator.device)
        if cuda:
            model.to(memory_format=torch.channels_last)
        self._frozen, self._trained = freeze(model, recipe.unfreeze)
        if cuda and len(self._frozen):
            self._frozen.compile()
        self._parameters = list(self._trained.parameters())
        optimizer = torch.optim.AdamW(self._parameters, recipe.lr, weight_decay=recipe.weight_decay, fused=cuda)
        self._augment, self._prepare = Augment(card.preprocessing), Prepare(card.preprocessing)
        self._workers = workers
        self._batches = self.loader(data.train, shuffle=True)
        self.steps = len(self._batches)  # in an epoch
        self.batch = min(recipe.batch_size, len(data.train))  # pictures in a step
        self._schedule = new_schedule(optimizer, recipe, self.steps)  # before accelerate wraps the optimizer's step
        self._network, self._optimizer = accelerator.prepare(self._trained, optimizer)
        weights = class_weights(data.train.targets, len(card.labels)) if recipe.class_weights else None
        self._loss = nn.CrossEntropyLoss(weights, label_smoothing=recipe.label_smoothing).to(accelerator.device)
        self.epoch = self.step = 0  # epochs completed, and steps of the next one
        self._sums = torch.zeros(3, dtype=torch.float64, device=accelerator.device)  # loss, correct, pictures
        self.history: list[dict[str, Any]] = []  # a row for each epoch

    @property
    def lr(self) -> float:
        """Of the next step."""
        rate: float = self._schedule.get_last_lr()[0]
        return rate

    @property
    def alone(self) -> bool:
        """Whether no other process trains the same model."""
        return bool(self._accelerator.num_processes == 1)

    def wait(self) -> None:
        """Until all processes have come here."""
        self._accelerator.wait_for_everyone()

    def loader(self, pictures: Pictures, shuffle: bool = False) -> Any:
        """Batches on the device, each process its part."""
        size, cuda = self.recipe.batch_size, self._accelerator.device.type == "cuda"
        loader = DataLoader(
            pictures,
            size,
            shuffle,
            drop_last=shuffle and len(pictures) >= size,
            collate_fn=Collate(self.card.preprocessing),
            num_workers=self._workers,
            persistent_workers=self._workers > 0,
            pin_memory=cuda,
            worker_init_fn=leave_signals_to_parent,
        )
        return self._accelerator.prepare(loader)

    def finish_epoch(self, stop: Callable[[], bool], show: Callable[["Training"], None]) -> bool:
        """Train to the epoch's end; False when ``stop`` says so before."""
        self._trained.train()
        self._batches.set_epoch(self.epoch)
        batches = skip_first_batches(self._batches, self.step) if self.step else self._batches
        for pictures, targets in as_read(batches):
            self._seed()
            self.learn(pictures, targets)
            self.step += 1
            show(self)
            if self._anyone(stop()):
                return False
        return True

    def learn(self, pictures: torch.Tensor, targets: torch.Tensor) -> None:
        """One step: uint8 (B, 3, H, W) as ``Collate`` makes them, and int64 (B,)."""
        logits = self._forward(self._augment(pictures))
        loss = self._loss(logits, targets)
        self._optimizer.zero_grad(set_to_none=True)
        self._accelerator.backward(loss)
        self._accelerator.clip_grad_norm_(self._parameters, self.recipe.clip)
        self._optimizer.step()
        if not self._accelerator.optimizer_step_was_skipped:  # float16 that overflowed
            self._schedule.step()
        with torch.no_grad():
            correct = (logits.argmax(1) == targets).sum()
            count = len(targets)
            self._sums += torch.stack([loss.detach().double() * count, correct.double(), correct.new_tensor(count)])

    def measured(self, everywhere: bool = False) -> Measured:
        """Of the epoch so far, as this process saw it, or all of them. Raises TrainingError when it diverged."""
        loss, correct, count = self._total() if everywhere else self._sums.tolist()
        return self._checked(Measured(loss / max(count, 1), correct / max(count, 1)))

    def end_epoch(self, **row: Any) -> None:
        """Write ``row`` into the history, and go to the next epoch."""
        self.epoch, self.step = self.epoch + 1, 0
        self._sums.zero_()
        self.history.append({"epoch": self.epoch, **row})

    def evaluate(self, batches: Any, kept: list[torch.Tensor] | None = None) -> Measured:
        """Of pictures that nobody learns from. Raises TrainingError when it diverged."""
        logits, targets = self.predict(batches, kept)
        loss, accuracy = F.cross_entropy(logits, targets), (logits.argmax(1) == targets).float().mean()
        return self._checked(Measured(loss.item(), accuracy.item()))

    def _checked(self, measured: Measured) -> Measured:
        if not np.isfinite(measured.loss):
            raise TrainingError(f"the loss is not a number in epoch {self.epoch + 1}; try again with a lower --lr")
        return measured

    @torch.no_grad()
    def predict(self, batches: Any, kept: list[torch.Tensor] | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits float32 (N, classes) and targets (N,) on the CPU; pictures are prepared as the daemon prepares them.

        ``kept`` keeps what the frozen half makes of them for the next time: the half never changes and neither do these
        pictures, while those of the training differ each time.
        """
        self._trained.eval()
        found: list[tuple[torch.Tensor, torch.Tensor]] = []
        for index, (pictures, targets) in enumerate(as_read(batches)):
            if kept is not None and index < len(kept):
                features = kept[index].to(pictures.device, non_blocking=True)
            else:
                features = self._freeze(self._prepare(pictures))
                fits = (index + 1) * features.nbytes < KEPT
                # in order: a smaller last batch may fit where one before it did not
                if kept is not None and len(self._frozen) and fits and len(kept) == index:
                    kept.append(features.cpu())
            logits, truth = self._accelerator.gather_for_metrics((self._network(features).float(), targets))
            found.append((logits.cpu(), truth.cpu()))
        logits, truth = (torch.cat(parts) for parts in zip(*found, strict=True))
        return logits, truth

    def probe(self, batch_size: int) -> None:
        """A step on black pictures, to see whether it fits; the training is of no use afterwards."""
        size, device = self.card.preprocessing.size, self._accelerator.device
        self._trained.train()
        pictures = torch.zeros(batch_size, 3, size, size, dtype=torch.uint8, device=device)
        self.learn(pictures, torch.zeros(batch_size, dtype=torch.int64, device=device))

    def state(self) -> dict[str, Any]:
        """All that ``restore`` needs, in plain types and tensors."""
        scaler = self._accelerator.scaler
        metrics = self.history[-1] if self.history else {}
        return checkpoint(replace(self.card, metrics=metrics), self.model) | {
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "scaler": scaler.state_dict() if scaler is not None else {},
            "epoch": self.epoch,
            "step": self.step,
            "sums": self._total(),
            "history": self.history,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from where ``state`` was taken."""
        self.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        if self._accelerator.scaler is not None and state["scaler"]:
            self._accelerator.scaler.load_state_dict(state["scaler"])
        self.epoch, self.step, self.history = state["epoch"], state["step"], list(state["history"])
        if self._accelerator.is_main_process:
            self._sums.copy_(torch.tensor(state["sums"], dtype=torch.float64))

    def _total(self) -> list[float]:
        total: list[float] = self._accelerator.reduce(self._sums.clone()).tolist()
        return total

    def _forward(self, pictures: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self._network(self._freeze(pictures))
        return logits.float()

    def _freeze(self, pictures: torch.Tensor) -> torch.Tensor:
        if pictures.is_cuda:
            pictures = pictures.contiguous(memory_format=torch.channels_last)
        with torch.no_grad(), self._accelerator.autocast():
            features: torch.Tensor = self._frozen(pictures)
        return features

    def _seed(self) -> None:
        place = (self.recipe.seed, self.epoch, self.step, self._accelerator.process_index)
        torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1)[0]))

    def _anyone(self, asked: bool) -> bool:
        """Whether any process was asked; all of them have to stop after the same step."""
        if self.alone:
            return asked
        if asked:
            self._accelerator.set_trigger()
        told: bool = self._accelerator.check_trigger()
        return told
