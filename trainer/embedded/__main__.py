"""Retrain an embedded model: ``python -m trainer.embedded segmenter|detector|classifier [--steps N] --out PATH``.

Segmenter and detector on a GPU: ``--device cuda --workers 8 --factor 8``. A training that was cut off goes on with
``--start PATH.training``.
"""

import argparse
from pathlib import Path

import torch

from trainer.embedded import classifier, detector, segmenter
from trainer.embedded.progress import Run


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m trainer.embedded", description=__doc__)
    parser.add_argument("model", choices=("segmenter", "detector", "classifier"))
    parser.add_argument("--steps", type=int)
    parser.add_argument("--start", type=Path, help="a trained model to train further, or a state to go on from")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--workers", type=int, default=0, help="processes that draw the pictures (0: this one does)")
    parser.add_argument("--factor", type=int, default=1, help="times the pictures of a step (1)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.model == "classifier":
        classifier.train(arguments.steps or 3000, arguments.out, arguments.seed, arguments.start)
        return
    module, steps = (segmenter, 5000) if arguments.model == "segmenter" else (detector, 9000)
    values = {name: vars(arguments)[name] for name in ("out", "seed", "start", "device", "workers", "factor")}
    module.train(Run(arguments.steps or steps, **values))


if __name__ == "__main__":
    main()
