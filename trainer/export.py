"""Export a checkpoint to ONNX and check that both compute the same logits."""

import json
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.export import Dim

from stages.classification.card import Card
from stages.classification.classifier import EMBEDDED, load_model
from stages.classification.onnx import KEY, load_onnx
from stages.errors import ModelError, OutputError
from trainer.checkpoint import create_folder

TOLERANCE = 1e-4  # maximum difference of a logit
MAX_EMBEDDED_BYTES = 1.8e9  # an ONNX file can hold 2 GiB; larger weights go into a second file
CPU = torch.device("cpu")


class Exported(NamedTuple):
    """The result of an export. All ``files`` are needed together."""

    card: Card
    files: tuple[Path, ...]
    difference: float  # maximum difference of a logit between torch and onnxruntime


def export(checkpoint: str, out: Path) -> Exported:
    """Write ``out``, and ``out``.data for large weights; write nothing if the parity check fails.

    The network maps preprocessed images (B, 3, S, S) float32, with any B, to logits (B, classes). Its metadata hold the
    card: the labels, and the preprocessing, which is not part of the network. Raises ModelError, OutputError.
    """
    card, model = load_model(EMBEDDED if checkpoint == "embedded" else checkpoint)
    size = sum(parameter.nbytes for parameter in model.parameters())
    create_folder(out.parent, 2 * size)
    try:
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
            # with its final name, because it refers to its second file by that name
            _write(card, model, Path(folder) / out.name, external=size > MAX_EMBEDDED_BYTES)
            difference = _max_difference(card, model, Path(folder) / out.name)
            if not difference <= TOLERANCE:
                raise ModelError(
                    f"{checkpoint}: the logits of the ONNX file differ by {difference:.1e}, more than {TOLERANCE:.0e}; "
                    f"nothing was written"
                )
            written = sorted(Path(folder).iterdir(), reverse=True)  # the weights before the file that refers to them
            files = tuple(path.replace(out.with_name(path.name)) for path in written)
    except OSError as error:
        raise OutputError(f"cannot write {out}: {error.strerror}; choose another place with --out") from error
    return Exported(card, files[::-1], difference)


def _write(card: Card, model: nn.Module, path: Path, external: bool) -> None:
    size = card.preprocessing.size
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    program = torch.onnx.export(
        model,
        (images,),
        input_names=["pictures"],
        output_names=["logits"],
        dynamic_shapes=({0: Dim("batch", min=1)},),
        dynamo=True,
        optimize=True,
        verbose=False,
    )
    assert program is not None
    program.model.metadata_props[KEY] = json.dumps(card.to_dict(), ensure_ascii=False)
    program.save(path, external_data=external)


def _max_difference(card: Card, model: nn.Module, path: Path) -> float:
    """Maximum difference of a logit, on batch sizes that the exporter did not see, with the daemon's loader."""
    loaded, network = load_onnx(str(path), CPU)
    if loaded != Card.from_dict(json.loads(json.dumps(card.to_dict()))):
        raise ModelError("the card did not survive the export")
    largest, generator = 0.0, torch.Generator().manual_seed(1)
    for batch in (1, 3):
        size = card.preprocessing.size
        images = torch.randint(0, 256, (batch, 3, size, size), generator=generator, dtype=torch.uint8)
        prepared: Any = card.preprocessing(images)
        with torch.inference_mode():
            largest = max(largest, float((model(prepared) - network(prepared)).abs().max()))
    return largest
