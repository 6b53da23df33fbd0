"""Classifiers exported by `maskcast export`, run by onnxruntime. Their card is in the model's metadata."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from stages.classification.card import Card
from stages.errors import ModelError

KEY = "maskcast"  # of the metadata entry with Card.to_dict() as JSON


def load_onnx(path: str, device: torch.device) -> tuple[Card, Callable[[torch.Tensor], torch.Tensor]]:
    """The card, and the network: (B, 3, S, S) float32 -> logits (B, classes) on the CPU. Raises ModelError."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # onnxruntime reads it when imported; on Linux it reports by default
    try:
        import onnxruntime
    except ImportError as error:
        raise ModelError(f"classifier: {path} needs onnxruntime; pip install 'maskcast[onnx]'") from error

    if not Path(path).is_file():
        raise ModelError(f"classifier: {path} does not exist")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    preferred = ["CUDAExecutionProvider"] if device.type == "cuda" else []
    available = set(onnxruntime.get_available_providers())
    providers = [name for name in (*preferred, "CPUExecutionProvider") if name in available]
    try:
        session = onnxruntime.InferenceSession(path, options, providers=providers)
    except Exception as error:  # onnxruntime's errors have no common class
        first = str(error).partition("\n")[0]
        raise ModelError(f"classifier: {path} is no ONNX model, or a part is missing: {first}") from error
    card = _card(path, session.get_modelmeta().custom_metadata_map)
    name = session.get_inputs()[0].name

    def network(pictures: torch.Tensor) -> torch.Tensor:
        logits = session.run(None, {name: pictures.cpu().numpy()})[0]
        return torch.from_numpy(logits)

    return card, network


def _card(path: str, metadata: dict[str, Any]) -> Card:
    """The card in a model's metadata. Raises ModelError."""
    if KEY not in metadata:
        raise ModelError(f"classifier: {path} has no labels in its metadata; give one that `maskcast export` wrote")
    try:
        return Card.from_dict(json.loads(metadata[KEY]))
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"classifier: the card in {path} is broken: {error}") from error
