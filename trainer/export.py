"""The verb: write a checkpoint as ONNX, and prove that it computes the same."""

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
from trainer.checkpoint import make_room

TOLERANCE = 1e-4  # largest difference of a logit
EMBED_BELOW = 1.8e9  # bytes of weights; an ONNX file can hold 2 GiB, what is more goes into a second file
CPU = torch.device("cpu")


class Exported(NamedTuple):
    """What was written. ``files`` belong together."""

    card: Card
    files: tuple[Path, ...]
    difference: float  # largest, between a logit of torch and one of onnxruntime


def export(checkpoint: str, out: Path) -> Exported:
    """Write ``out``, and ``out``.data where the weights need a file of their own; nothing if the parity check fails.

    The network takes (B, 3, S, S) float32 preprocessed pictures, B free, and gives logits (B, classes). Its metadata
    hold the card: labels, and the preprocessing, which is not part of the network. Raises ModelError, OutputError.
    """
    card, model = load_model(EMBEDDED if checkpoint == "embedded" else checkpoint)
    size = sum(parameter.nbytes for parameter in model.parameters())
    make_room(out.parent, 2 * size)
    try:
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
            # under its final name, for it knows its second file by that
            _write(card, model, Path(folder) / out.name, external=size > EMBED_BELOW)
            difference = _difference(card, model, Path(folder) / out.name)
            if not difference <= TOLERANCE:
                raise ModelError(
                    f"{checkpoint}: the logits of the ONNX file differ by {difference:.1e}, more than {TOLERANCE:.0e}; "
                    f"nothing was written"
                )
            written = sorted(Path(folder).iterdir(), reverse=True)  # the weights before what refers to them
            files = tuple(path.replace(out.with_name(path.name)) for path in written)
    except OSError as error:
        raise OutputError(f"cannot write {out}: {error.strerror}; choose another place with --out") from error
    return Exported(card, files[::-1], difference)


def _write(card: Card, model: nn.Module, path: Path, external: bool) -> None:
    look = card.preprocessing
    pictures = torch.randn(2, 3, look.size, look.size, generator=torch.Generator().manual_seed(0))
    program = torch.onnx.export(
        model,
        (pictures,),
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


def _difference(card: Card, model: nn.Module, path: Path) -> float:
    """Of batches of other sizes than the exporter saw, through the loader that the daemon uses."""
    loaded, network = load_onnx(str(path), CPU)
    if loaded != Card.from_dict(json.loads(json.dumps(card.to_dict()))):
        raise ModelError("the card did not survive the export")
    worst, chance = 0.0, torch.Generator().manual_seed(1)
    for batch in (1, 3):
        side = card.preprocessing.size
        pictures = torch.randint(0, 256, (batch, 3, side, side), generator=chance, dtype=torch.uint8)
        prepared: Any = card.preprocessing(pictures)
        with torch.inference_mode():
            worst = max(worst, float((model(prepared) - network(prepared)).abs().max()))
    return worst
