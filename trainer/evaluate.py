"""The verb: measure classifiers on labelled pictures, alone and together."""

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
from trainer.counting import counted
from trainer.data.datasets import Data
from trainer.data.pictures import Collate, Pictures, Prepare, as_read
from trainer.report.report import Predictions
from trainer.training.machine import leave_signals_to_parent

BATCH = 128  # pictures, where they fit


@dataclass(frozen=True, slots=True)
class Network:
    """A classifier that is ready to run."""

    path: str
    card: Card
    forward: Callable[[torch.Tensor], torch.Tensor]  # (B, 3, S, S) float32 -> logits (B, classes)


def open_network(path: str, accelerator: Accelerator) -> Network:
    """A checkpoint, an .onnx file or "embedded", in the accelerator's precision. Raises ModelError."""
    if path.endswith(".onnx"):
        from stages.classification.onnx import load_onnx

        card, forward = load_onnx(path, accelerator.device)
        return Network(path, card, forward)
    card, model = load_model(EMBEDDED if path == "embedded" else path)
    model.to(accelerator.device)

    def autocast(pictures: torch.Tensor) -> torch.Tensor:
        with accelerator.autocast():
            logits: torch.Tensor = model(pictures)
        return logits

    return Network(path, card, autocast)


def check_alike(networks: Sequence[Network]) -> tuple[str, ...]:
    """The labels that all of them have, in this order. Raises ConfigError where one has others."""
    first, *others = networks
    for other in others:
        if other.card.labels != first.card.labels:
            strange = sorted(set(other.card.labels) ^ set(first.card.labels)) or ["their order"]
            raise ConfigError(
                f"{other.path} has other classes than {first.path} ({', '.join(strange)}); an ensemble needs the same"
            )
    return first.card.labels


def seed_of(networks: Sequence[Network]) -> int:
    """Of the first whose file tells: it decides which pictures were held out, where there is no folder val."""
    return next((network.card.seed for network in networks if network.card.seed is not None), 0)


def check_held_out(networks: Sequence[Network], data: str, split: str) -> None:
    """Raises ConfigError where pictures held out of one training are those that another has learned."""
    seeds = sorted({network.card.seed for network in networks if network.card.seed is not None})
    own = Path(data, "train").is_dir() and Path(data, "val").is_dir()
    if split in ("val", "train") and len(seeds) > 1 and not own:
        raise ConfigError(
            f"the checkpoints were trained with the seeds {', '.join(map(str, seeds))}, so one has learned what "
            f"another held out; give data with a folder test or val, or, for pictures that are new to all, --split all"
        )


def pick(data: Data, split: str | None) -> tuple[str, Pictures]:
    """A split's name and pictures; None: the test pictures, where there are none those of validation."""
    if split == "all":
        parts = [part for part in (data.train, data.val, data.test) if part is not None]
        targets = np.concatenate([part.targets for part in parts])
        if isinstance(parts[0].pictures, np.ndarray):
            return split, Pictures(np.concatenate([np.asarray(part.pictures) for part in parts]), targets)
        return split, Pictures([Path(path) for part in parts for path in part.pictures], targets)
    if split == "test" and data.test is None:
        raise ConfigError("--split test: the data has no folder named test; give --split val or all")
    if split == "train":
        return split, data.train
    return ("val", data.val) if data.test is None or split == "val" else ("test", data.test)


def targets_for(labels: Sequence[str], data: Data, pictures: Pictures) -> NDArray[np.int64]:
    """(N,) the pictures' classes as indices into ``labels``. Raises ConfigError for a class that is not among them."""
    unknown = sorted(set(data.labels) - set(labels))
    if unknown:
        raise ConfigError(
            f"the data has the class {unknown[0]}, which the checkpoint does not know (it knows {', '.join(labels)})"
        )
    places: NDArray[np.int64] = np.asarray([labels.index(label) for label in data.labels], np.int64)
    return places[pictures.targets]


def views(pictures: torch.Tensor) -> Sequence[torch.Tensor]:
    """Ten (B, 3, S, S) of one: as it is, shifted by an eighth into each corner as in training, and mirrored."""
    size = pictures.shape[-1]
    views: tuple[torch.Tensor, ...] = T.ten_crop(F.pad(pictures, [size // 8] * 4, mode="reflect"), [size, size])
    return views


def predict(
    network: Network, pictures: Pictures, device: torch.device, workers: int = 0, tta: bool = False
) -> NDArray[np.float32]:
    """(N, classes) each row adds up to 1; with ``tta`` the mean over ``views``. In smaller batches where memory is low.

    Raises ModelError.
    """
    look = network.card.preprocessing
    prepare = Prepare(look)

    def scores(batch: torch.Tensor) -> torch.Tensor:
        prepared = prepare(batch.to(device, non_blocking=True))
        seen = views(prepared) if tta else [prepared]
        return torch.stack([network.forward(view).float().softmax(1).cpu() for view in seen]).mean(0)

    @torch.inference_mode()
    def attempt(batch_size: int) -> torch.Tensor:
        loader = DataLoader(
            pictures,
            batch_size,
            collate_fn=Collate(look),
            num_workers=workers,
            pin_memory=device.type == "cuda",
            worker_init_fn=leave_signals_to_parent,
        )
        return torch.cat([scores(batch) for batch, _ in counted(as_read(loader), len(loader), network.path)])

    try:
        found: torch.Tensor = find_executable_batch_size(attempt, BATCH)()
    except RuntimeError as error:
        if "No executable batch size" not in str(error):
            raise
        raise ModelError(f"{network.path}: not even one picture fits into memory; try --device cpu") from None
    if not bool(found.isfinite().all()):
        raise ModelError(f"{network.path}: scores are not numbers; try --precision float32")
    scores_of_all: NDArray[np.float32] = found.numpy()
    return scores_of_all


def together(labels: tuple[str, ...], truth: NDArray[np.int64], scores: Sequence[NDArray[np.float32]]) -> Predictions:
    """An ensemble: the mean of what its members say."""
    return Predictions(labels, truth, np.mean(scores, axis=0))
