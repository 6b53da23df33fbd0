"""Evaluate classifiers on labelled images, each alone and as an ensemble."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils.memory import find_executable_batch_size
from numpy.typing import NDArray
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import functional as T

from stages.classification.card import Card
from stages.classification.classifier import EMBEDDED, load_model
from stages.errors import ConfigError, ModelError
from trainer.data.datasets import Data
from trainer.data.images import Collate, ImageDataset, Prepare, unwrap_read_errors
from trainer.progress_bar import progress_bar
from trainer.report.report import Predictions
from trainer.training.machine import leave_signals_to_parent

BATCH = 128  # images; halved until a batch fits into memory


@dataclass(frozen=True, slots=True)
class Network:
    """A loaded classifier."""

    path: str
    card: Card
    forward: Callable[[torch.Tensor], torch.Tensor]  # (B, 3, S, S) float32 -> logits (B, classes)


def open_network(path: str, accelerator: Accelerator) -> Network:
    """Load a checkpoint, an .onnx file or "embedded", in the accelerator's precision. Raises ModelError."""
    if path.endswith(".onnx"):
        from stages.classification.onnx import load_onnx

        card, forward = load_onnx(path, accelerator.device)
        return Network(path, card, forward)
    card, model = load_model(EMBEDDED if path == "embedded" else path)
    model.to(accelerator.device)

    def run(images: torch.Tensor) -> torch.Tensor:
        with accelerator.autocast():
            logits: torch.Tensor = model(images)
        return logits

    return Network(path, card, run)


def common_labels(networks: Sequence[Network]) -> tuple[str, ...]:
    """The labels of all networks. Raises ConfigError when they differ, also in their order."""
    first, *others = networks
    for other in others:
        if other.card.labels != first.card.labels:
            differing = sorted(set(other.card.labels) ^ set(first.card.labels)) or ["their order"]
            raise ConfigError(
                f"{other.path} has other classes than {first.path} ({', '.join(differing)}); an ensemble needs the same"
            )
    return first.card.labels


def split_seed(networks: Sequence[Network]) -> int:
    """The first training seed in a card: it selected the validation images, where there is no folder val."""
    return next((network.card.seed for network in networks if network.card.seed is not None), 0)


def check_held_out(networks: Sequence[Network], data: str, split: str) -> None:
    """Raises ConfigError when one network was trained on images that are held out for another."""
    seeds = sorted({network.card.seed for network in networks if network.card.seed is not None})
    fixed_split = Path(data, "train").is_dir() and Path(data, "val").is_dir()
    if split in ("val", "train") and len(seeds) > 1 and not fixed_split:
        raise ConfigError(
            f"the checkpoints were trained with the seeds {', '.join(map(str, seeds))}, so one has learned what "
            f"another held out; give data with a folder test or val, or, for pictures that are new to all, --split all"
        )


def select_split(data: Data, split: str | None) -> tuple[str, ImageDataset]:
    """The split's name and images. None: test, or val where there is no test split. Raises ConfigError."""
    if split == "all":
        parts = [part for part in (data.train, data.val, data.test) if part is not None]
        targets = np.concatenate([part.targets for part in parts])
        if isinstance(parts[0].images, np.ndarray):
            return split, ImageDataset(np.concatenate([np.asarray(part.images) for part in parts]), targets)
        return split, ImageDataset([Path(path) for part in parts for path in part.images], targets)
    if split == "test" and data.test is None:
        raise ConfigError("--split test: the data has no folder named test; give --split val or all")
    if split == "train":
        return split, data.train
    return ("val", data.val) if data.test is None or split == "val" else ("test", data.test)


def map_targets(labels: Sequence[str], data: Data, images: ImageDataset) -> NDArray[np.int64]:
    """(N,) the images' classes as indices into ``labels``. Raises ConfigError for a class that is not among them."""
    unknown = sorted(set(data.labels) - set(labels))
    if unknown:
        raise ConfigError(
            f"the data has the class {unknown[0]}, which the checkpoint does not know (it knows {', '.join(labels)})"
        )
    indices: NDArray[np.int64] = np.asarray([labels.index(label) for label in data.labels], np.int64)
    return indices[images.targets]


def ten_crop_views(images: torch.Tensor) -> Sequence[torch.Tensor]:
    """Ten (B, 3, S, S) views of a batch: original, shifted by 1/8 into each corner as in training, and all mirrored."""
    size = images.shape[-1]
    crops: tuple[torch.Tensor, ...] = T.ten_crop(F.pad(images, [size // 8] * 4, mode="reflect"), [size, size])
    return crops


def predict(
    network: Network, images: ImageDataset, device: torch.device, workers: int = 0, tta: bool = False
) -> NDArray[np.float32]:
    """Softmax scores (N, classes); with ``tta`` their mean over ``ten_crop_views``. Batches shrink to fit into memory.

    Raises ModelError.
    """
    preprocessing = network.card.preprocessing
    prepare = Prepare(preprocessing)

    def scores(batch: torch.Tensor) -> torch.Tensor:
        prepared = prepare(batch.to(device, non_blocking=True))
        views = ten_crop_views(prepared) if tta else [prepared]
        return torch.stack([network.forward(view).float().softmax(1).cpu() for view in views]).mean(0)

    @torch.inference_mode()
    def attempt(batch_size: int) -> torch.Tensor:
        loader = DataLoader(
            images,
            batch_size,
            collate_fn=Collate(preprocessing),
            num_workers=workers,
            pin_memory=device.type == "cuda",
            worker_init_fn=leave_signals_to_parent,
        )
        return torch.cat(
            [scores(batch) for batch, _ in progress_bar(unwrap_read_errors(loader), len(loader), network.path)]
        )

    try:
        predicted: torch.Tensor = find_executable_batch_size(attempt, BATCH)()
    except RuntimeError as error:
        if "No executable batch size" not in str(error):
            raise
        raise ModelError(f"{network.path}: not even one picture fits into memory; try --device cpu") from None
    if not bool(predicted.isfinite().all()):
        raise ModelError(f"{network.path}: scores are not numbers; try --precision float32")
    all_scores: NDArray[np.float32] = predicted.numpy()
    return all_scores


def ensemble(labels: tuple[str, ...], truth: NDArray[np.int64], scores: Sequence[NDArray[np.float32]]) -> Predictions:
    """Predictions of an ensemble: the mean of its members' scores, each (N, classes)."""
    return Predictions(labels, truth, np.mean(scores, axis=0))
