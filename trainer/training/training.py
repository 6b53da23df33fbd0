"""The training loop and its state: weights, optimizer, schedule, position and history.

Built on accelerate, which distributes over GPUs and processes, autocasts, scales and clips gradients, and shuffles and
skips batches. Lightning also does this, but it owns the loop and the checkpoint format. Here the daemon loads the
checkpoint, a training may stop after any step, and a resumed training gives bit-identical results. Working around
Lightning's loop would take more code than this loop, and accelerate needs few packages beyond those of transformers.

Random seeds are derived from the recipe's seed, the step and the process, so no generator state has to be saved.
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
from trainer.data.images import Augment, Collate, ImageDataset, Prepare, unwrap_read_errors
from trainer.errors import TrainingError
from trainer.training.freezing import freeze
from trainer.training.machine import leave_signals_to_parent
from trainer.training.recipe import Recipe

CACHE_BYTES = 4 * 2**30  # maximum size of the cached outputs of the frozen part for the validation images


class Metrics(NamedTuple):
    """Means over images."""

    loss: float
    accuracy: float


def new_schedule(optimizer: torch.optim.Optimizer, recipe: Recipe, steps: int) -> Any:
    """Learning rate schedule by step: linear warm-up from 0, then half a cosine to 0. ``steps``: of an epoch."""
    return get_cosine_schedule_with_warmup(optimizer, recipe.warm_up_epochs * steps, recipe.epochs * steps)


def class_weights(targets: np.ndarray[Any, np.dtype[np.int64]], classes: int) -> torch.Tensor:
    """float32 (classes,): the mean number of images per class divided by the number of images of the class."""
    counts = np.bincount(targets, minlength=classes)
    return torch.tensor(counts.mean() / counts, dtype=torch.float32)


class Training:
    """The state of one training. ``state`` and ``restore`` are exact inverses, after any step."""

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
        self.steps = len(self._batches)  # per epoch
        self.batch = min(recipe.batch_size, len(data.train))  # images per step
        self._schedule = new_schedule(optimizer, recipe, self.steps)  # before accelerate wraps the optimizer's step
        self._network, self._optimizer = accelerator.prepare(self._trained, optimizer)
        weights = class_weights(data.train.targets, len(card.labels)) if recipe.class_weights else None
        self._loss = nn.CrossEntropyLoss(weights, label_smoothing=recipe.label_smoothing).to(accelerator.device)
        self.epoch = self.step = 0  # completed epochs, and completed steps of the current epoch
        self._sums = torch.zeros(3, dtype=torch.float64, device=accelerator.device)  # loss, correct, images
        self.history: list[dict[str, Any]] = []  # one row per epoch

    @property
    def lr(self) -> float:
        """Learning rate of the next step."""
        rate: float = self._schedule.get_last_lr()[0]
        return rate

    @property
    def single_process(self) -> bool:
        """Whether this process trains the model alone."""
        return bool(self._accelerator.num_processes == 1)

    def wait_for_all(self) -> None:
        """Wait until all processes have reached this call."""
        self._accelerator.wait_for_everyone()

    def loader(self, images: ImageDataset, shuffle: bool = False) -> Any:
        """Batches on the device; each process gets its share."""
        size, cuda = self.recipe.batch_size, self._accelerator.device.type == "cuda"
        loader = DataLoader(
            images,
            size,
            shuffle,
            drop_last=shuffle and len(images) >= size,
            collate_fn=Collate(self.card.preprocessing),
            num_workers=self._workers,
            persistent_workers=self._workers > 0,
            pin_memory=cuda,
            worker_init_fn=leave_signals_to_parent,
        )
        return self._accelerator.prepare(loader)

    def finish_epoch(self, stop: Callable[[], bool], show: Callable[["Training"], None]) -> bool:
        """Train to the end of the epoch; returns False when ``stop`` returns True before that."""
        self._trained.train()
        self._batches.set_epoch(self.epoch)
        batches = skip_first_batches(self._batches, self.step) if self.step else self._batches
        for images, targets in unwrap_read_errors(batches):
            self._seed()
            self.train_step(images, targets)
            self.step += 1
            show(self)
            if self._any_process(stop()):
                return False
        return True

    def train_step(self, images: torch.Tensor, targets: torch.Tensor) -> None:
        """One optimizer step on a batch of ``Collate``: uint8 (B, 3, H, W) and int64 (B,)."""
        logits = self._forward(self._augment(images))
        loss = self._loss(logits, targets)
        self._optimizer.zero_grad(set_to_none=True)
        self._accelerator.backward(loss)
        self._accelerator.clip_grad_norm_(self._parameters, self.recipe.clip)
        self._optimizer.step()
        if not self._accelerator.optimizer_step_was_skipped:  # after a float16 overflow
            self._schedule.step()
        with torch.no_grad():
            correct = (logits.argmax(1) == targets).sum()
            count = len(targets)
            self._sums += torch.stack([loss.detach().double() * count, correct.double(), correct.new_tensor(count)])

    def metrics(self, all_processes: bool = False) -> Metrics:
        """Training metrics of the epoch so far, of this process or all. Raises TrainingError if the loss diverged."""
        loss, correct, count = self._total() if all_processes else self._sums.tolist()
        return self._require_finite(Metrics(loss / max(count, 1), correct / max(count, 1)))

    def end_epoch(self, **row: Any) -> None:
        """Append ``row`` to the history and start the next epoch."""
        self.epoch, self.step = self.epoch + 1, 0
        self._sums.zero_()
        self.history.append({"epoch": self.epoch, **row})

    def evaluate(self, batches: Any, feature_cache: list[torch.Tensor] | None = None) -> Metrics:
        """Metrics of the validation images. Raises TrainingError if the loss diverged."""
        logits, targets = self.predict(batches, feature_cache)
        loss, accuracy = F.cross_entropy(logits, targets), (logits.argmax(1) == targets).float().mean()
        return self._require_finite(Metrics(loss.item(), accuracy.item()))

    def _require_finite(self, metrics: Metrics) -> Metrics:
        if not np.isfinite(metrics.loss):
            raise TrainingError(f"the loss is not a number in epoch {self.epoch + 1}; try again with a lower --lr")
        return metrics

    @torch.no_grad()
    def predict(
        self, batches: Any, feature_cache: list[torch.Tensor] | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits float32 (N, classes) and targets (N,) on the CPU; images are preprocessed as in the daemon.

        ``feature_cache`` stores the frozen part's output of each batch for the next call with the same images. Training
        images cannot be cached, because they are augmented differently each time.
        """
        self._trained.eval()
        outputs: list[tuple[torch.Tensor, torch.Tensor]] = []
        for index, (images, targets) in enumerate(unwrap_read_errors(batches)):
            if feature_cache is not None and index < len(feature_cache):
                features = feature_cache[index].to(images.device, non_blocking=True)
            else:
                features = self._frozen_features(self._prepare(images))
                fits = (index + 1) * features.nbytes < CACHE_BYTES
                # append in order only: a smaller last batch may fit where one before it did not
                if feature_cache is not None and len(self._frozen) and fits and len(feature_cache) == index:
                    feature_cache.append(features.cpu())
            logits, truth = self._accelerator.gather_for_metrics((self._network(features).float(), targets))
            outputs.append((logits.cpu(), truth.cpu()))
        logits, truth = (torch.cat(parts) for parts in zip(*outputs, strict=True))
        return logits, truth

    def try_step(self, batch_size: int) -> None:
        """One step on black images, to test whether it fits into memory; the training cannot be used after it."""
        size, device = self.card.preprocessing.size, self._accelerator.device
        self._trained.train()
        images = torch.zeros(batch_size, 3, size, size, dtype=torch.uint8, device=device)
        self.train_step(images, torch.zeros(batch_size, dtype=torch.int64, device=device))

    def state(self) -> dict[str, Any]:
        """The checkpoint for ``restore``, in plain types and tensors."""
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
        """Continue from a ``state``."""
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

    def _forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self._network(self._frozen_features(images))
        return logits.float()

    def _frozen_features(self, images: torch.Tensor) -> torch.Tensor:
        if images.is_cuda:
            images = images.contiguous(memory_format=torch.channels_last)
        with torch.no_grad(), self._accelerator.autocast():
            features: torch.Tensor = self._frozen(images)
        return features

    def _seed(self) -> None:
        entropy = (self.recipe.seed, self.epoch, self.step, self._accelerator.process_index)
        torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1)[0]))

    def _any_process(self, flag: bool) -> bool:
        """Whether ``flag`` is set in any process: all must stop after the same step."""
        if self.single_process:
            return flag
        if flag:
            self._accelerator.set_trigger()
        triggered: bool = self._accelerator.check_trigger()
        return triggered
