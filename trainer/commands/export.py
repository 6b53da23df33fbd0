"""Write a classifier as ONNX, for the daemon or for other programs, and check that it computes the same.

The file's metadata hold labels and preprocessing. Weights of more than 1.8 GB go into a second file, <name>.data: keep
the two together.

examples:
  maskcast export gate-model/best.pt
  maskcast export gate-model/best.pt --out gate.onnx
  maskcast run rtsp://camera.local/stream1 --prompt person --classifier gate.onnx
"""

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path

from stages.errors import ConfigError
from stages.plural import plural


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of ``maskcast export``."""
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="best.pt of `maskcast train`, or embedded")
    parser.add_argument("--out", type=Path, metavar="FILE.onnx", help="where to write it (beside the checkpoint)")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")


def run(arguments: Namespace) -> int:
    """Export the checkpoint. Raises ConfigError, ModelError, OutputError."""
    out = arguments.out or _default_path(arguments.checkpoint)
    if out.suffix != ".onnx":
        raise ConfigError(f"--out {out}: give a name that ends in .onnx")
    from trainer.export import export

    card, files, difference = export(arguments.checkpoint, out)
    if arguments.json:
        summary = {"model": card.model, "labels": card.labels, "files": list(map(str, files)), "difference": difference}
        print(json.dumps(summary, ensure_ascii=False))
        return 0
    classes = f"{len(card.labels)} {plural(len(card.labels), 'class', 'classes')}"
    print(f"{card.model}, {classes}: {' and '.join(map(str, files))}")
    print(f"largest difference of a logit from the checkpoint's: {difference:.1e}")
    return 0


def _default_path(checkpoint: str) -> Path:
    return Path("classifier.onnx") if checkpoint == "embedded" else Path(checkpoint).with_suffix(".onnx")
