"""Retrain an embedded model: ``python -m trainer.embedded segmenter|detector|classifier [--steps N] --out PATH``."""

import argparse
from pathlib import Path

import torch

from trainer.embedded import classifier, detector, segmenter


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m trainer.embedded", description=__doc__)
    parser.add_argument("model", choices=("segmenter", "detector", "classifier"))
    parser.add_argument("--steps", type=int)
    parser.add_argument("--start", type=Path, help="a trained model to train further")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.model == "segmenter":
        segmenter.train(arguments.steps or 5000, arguments.out, arguments.seed, arguments.start)
    elif arguments.model == "classifier":
        classifier.train(arguments.steps or 3000, arguments.out, arguments.seed, arguments.start)
    else:
        detector.train(arguments.steps or 9000, arguments.out, arguments.seed, arguments.start)


if __name__ == "__main__":
    main()
