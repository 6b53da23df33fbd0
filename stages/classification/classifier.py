"""Image classifiers: network architectures, checkpoints, and the stage that classifies images.

The trainer builds and saves its models with the same functions, so that training and serving cannot differ.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torchvision.models as zoo
from torch import nn
from torchvision.models.vision_transformer import ConvStemConfig, VisionTransformer

from stages.checkpoints.kinds import advice, kind_of_keys
from stages.checkpoints.read import read_weights, state_dict
from stages.classification.card import Card, Preprocessing
from stages.errors import ModelError, WindowError
from stages.types import Image, Label

__all__ = ["EMBEDDED", "Card", "Classifier", "Preprocessing", "build_model", "load_checkpoint", "load_model"]

EMBEDDED = Path(__file__).parents[1] / "embedded" / "classifier.pt"
COMPACT = "compact_vit"
FAMILIES = ["vit_*", "swin_*"]  # of torchvision
VERSION = 1  # of the checkpoint's format, under its key "maskcast"
DROPOUT = 0.1  # before the last layer
BATCH = 32  # images in one forward pass


def model_names() -> list[str]:
    """The names that ``build_model`` accepts."""
    return [COMPACT, *zoo.list_models(include=FAMILIES)]


def published_weights(name: str) -> Any:
    """torchvision's ImageNet weights for one of its models: their URL and their preprocessing."""
    available = zoo.get_model_weights(name).__members__
    return available.get("IMAGENET1K_V1") or available["DEFAULT"]


def build_model(name: str, classes: int, weights: bool = False, options: Mapping[str, Any] | None = None) -> nn.Module:
    """A network (B, 3, S, S) float32 -> logits (B, classes), whose head is dropout and a linear layer.

    ``name`` is one of torchvision's, or "compact_vit". ``weights``: start from torchvision's ImageNet weights, which it
    downloads into its cache. ``options`` are arguments of the architecture. Raises ModelError.
    """
    options = dict(options or {})
    if name not in model_names():
        raise ModelError(f"classifier: no model is named {name}; there are: {', '.join(model_names())}")
    if name == COMPACT:
        if weights:
            raise ModelError(f"classifier: {COMPACT} has no pretrained weights; train it from scratch")
        model: Any = _compact_vit(**options)
    else:
        model = _from_torchvision(name, weights, options)
    head = "heads" if isinstance(model, VisionTransformer) else "head"
    features = model.hidden_dim if isinstance(model, VisionTransformer) else model.head.in_features
    last = nn.Linear(features, classes)
    nn.init.zeros_(last.bias)
    setattr(model, head, nn.Sequential(OrderedDict(dropout=nn.Dropout(DROPOUT), head=last)))
    assert isinstance(model, nn.Module)
    return model


def _from_torchvision(name: str, weights: bool, options: dict[str, Any]) -> Any:
    """One of torchvision's models, with its ImageNet weights if ``weights``. Raises ModelError."""
    if not weights:
        return zoo.get_model(name, weights=None, **options)
    chosen = published_weights(name)
    try:
        return zoo.get_model(name, weights=chosen, **options)
    except Exception as error:  # errors of the network, the file system or a broken file
        place = Path(torch.hub.get_dir()) / "checkpoints" / Path(chosen.url).name
        problem = f"{place} does not load" if place.exists() else f"no pretrained weights for {name}"
        raise ModelError(
            f"classifier: {problem} ({type(error).__name__}): where there is a network, get {chosen.url} and put it at "
            f"{place}; or train with --from-scratch"
        ) from error


def _compact_vit(
    image_size: int = 32,
    stem: Sequence[int] = (64, 128),
    hidden_dim: int = 256,
    num_layers: int = 7,
    num_heads: int = 4,
    mlp_dim: int = 512,
    dropout: float = 0.0,
) -> VisionTransformer:
    """A small version of torchvision's vision transformer.

    ``stem``: output channels of its convolutions, each of which halves the resolution. Convolutions instead of patches:
    https://arxiv.org/abs/2106.14881; for small images: https://arxiv.org/abs/2104.05704.
    """
    convolutions = [ConvStemConfig(channels, 3, 2) for channels in stem]
    return VisionTransformer(
        image_size,
        2 ** len(convolutions),
        num_layers,
        num_heads,
        hidden_dim,
        mlp_dim,
        dropout,
        conv_stem_configs=convolutions,
    )


def checkpoint(card: Card, model: nn.Module) -> dict[str, Any]:
    """The part of a checkpoint that serving needs, for ``torch.save``."""
    return {"maskcast": VERSION, "card": card.to_dict(), "model": model.state_dict()}


def load_checkpoint(path: str | Path) -> tuple[Card, dict[str, Any]]:
    """A checkpoint's card and its whole content, on the CPU.

    The file is read with ``weights_only=True``, so it cannot run code. Raises ModelError for a file that `maskcast
    train` did not write.
    """
    if Path(path).is_dir():
        raise ModelError(f"classifier: {path} is a folder; give the file in it, such as {Path(path) / 'best.pt'}")
    loaded = read_weights(Path(path), "classifier")
    if "maskcast" not in loaded:
        kind = kind_of_keys(state_dict(loaded)) or "another kind of checkpoint"
        raise ModelError(f"classifier: {path} is {kind}; {advice('classifier', kind)}")
    if loaded["maskcast"] != VERSION:
        raise ModelError(f"classifier: {path} has format {loaded['maskcast']}, this version reads {VERSION}; update")
    try:
        loaded["model"] = dict(loaded["model"])
        return Card.from_dict(loaded["card"]), loaded
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"classifier: the card in {path} is broken: {error}") from error


def load_model(path: str | Path) -> tuple[Card, nn.Module]:
    """A checkpoint's card and its complete network, in float32 on the CPU, in eval mode. Raises ModelError."""
    card, contents = load_checkpoint(path)
    state = contents["model"]
    try:
        model = build_model(card.model, len(card.labels), options=card.options)
        model.load_state_dict(state, strict=True)
    except (RuntimeError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        first = str(error).splitlines()[-1].strip()
        raise ModelError(f"classifier: the weights in {path} do not fit their card ({card.model}): {first}") from error
    broken = next((name for name, weights in state.items() if not weights.isfinite().all()), None)
    if broken is not None:
        raise ModelError(f"classifier: {path} is broken: {broken} has values that are not finite")
    return card, model.eval()


class Classifier:
    """Classifies images.

    ``path`` is a checkpoint of `maskcast train`, an ``.onnx`` file of `maskcast export`, or "embedded". With a
    ``dtype`` other than float32 the matrix products are autocast. Raises ModelError, one line.
    """

    card: Card

    def __init__(self, path: str | Path, device: torch.device, dtype: torch.dtype) -> None:
        self.name, self._device = str(path), device
        self._network: Callable[[torch.Tensor], torch.Tensor]
        if self.name.endswith(".onnx"):
            from stages.classification.onnx import load_onnx  # onnxruntime is an optional dependency

            self.card, self._network = load_onnx(self.name, device)
        else:
            self.card, network = load_model(EMBEDDED if self.name == "embedded" else self.name)
            self._network = partial(_autocast, network.to(device), dtype)
        self._check_forward()

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the network's outputs."""
        return self.card.labels

    @torch.inference_mode()
    def classify(self, images: Sequence[Image], top: int = 3) -> list[tuple[Label, ...]]:
        """The ``top`` classes of each image (uint8 (H, W, 3) RGB, sizes may differ), best first.

        A score is the softmax over all classes. Raises WindowError when the scores are not finite.
        """
        results: list[tuple[Label, ...]] = []
        for start in range(0, len(images), BATCH):
            scores = self._scores(images[start : start + BATCH])
            best = scores.topk(min(top, len(self.labels)))
            for values, indices in zip(best.values.tolist(), best.indices.tolist(), strict=True):
                results.append(tuple(Label(self.labels[i], value) for i, value in zip(indices, values, strict=True)))
        return results

    @torch.inference_mode()
    def _check_forward(self) -> None:
        """Run one forward pass. Raises ModelError for a model that would fail with every image."""
        side, expected = self.card.preprocessing.size, (1, len(self.labels))
        try:
            shape = tuple(self._network(torch.zeros(1, 3, side, side, device=self._device)).shape)
        except Exception as error:  # the errors of torch and onnxruntime have no common class
            first = str(error).strip().partition("\n")[0]
            raise ModelError(f"classifier: {self.name} cannot read pictures of {side} x {side}: {first}") from error
        if shape != expected:
            raise ModelError(f"classifier: {self.name} gives numbers of shape {shape}, not {expected} for its labels")

    def _scores(self, images: Sequence[Image]) -> torch.Tensor:
        """Class probabilities (B, classes) in [0, 1], on the CPU."""
        scores = self._network(self.card.preprocessing(images, self._device)).float().softmax(1).cpu()
        if not bool(scores.isfinite().all()):
            raise WindowError(f"classifier {self.name}: scores are not numbers; try precision float32")
        return scores


def _autocast(network: nn.Module, dtype: torch.dtype, pictures: torch.Tensor) -> torch.Tensor:
    with torch.autocast(pictures.device.type, dtype, enabled=dtype != torch.float32):
        logits: torch.Tensor = network(pictures)
    return logits
