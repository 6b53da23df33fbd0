"""Detection, mask and identity quality of the embedded models on held-out worlds of the test source.

python -m tests.benchmarks.quality [--world plain|hard|wild] [--seeds N ...] [--frames N] [--every N] [--json]

The prompts of each world are the labels of all its objects and of two absent ones; settings are the daemon's defaults.
"""

import argparse
import json

import torch

from stages.detection.grounding_dino import GroundingDino
from stages.detection.prompts import parse_prompts
from stages.output.masks import full_masks
from stages.sam2.load import EMBEDDED, load_segmenter
from stages.segmentation.base import Segmenter
from stages.testsrc.open_world import KINDS, Kind, measured_world
from stages.testsrc.score import Quality, measured_labels
from tests.benchmarks.support.worlds import WINDOW, keyframes_from, track

HELD_OUT = range(100, 120)
COUNTS = ("true_positives", "false_positives", "false_negatives", "keyframes", "keyframes_absent", "switches")


def measure(
    kind: Kind, seed: int, frames: int, every: int | None, window: int, detector: GroundingDino, segmenter: Segmenter
) -> Quality:
    world = measured_world(kind, seed)
    prompts = parse_prompts(measured_labels(world))
    quality = Quality(world, prompts)
    for result, _ in track(world, prompts, detector, segmenter, frames, keyframes_from(every), window):
        quality.observe(result, full_masks(result).full())
    return quality


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.quality", description=__doc__.splitlines()[0])
    parser.add_argument("--world", choices=KINDS, default="plain")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(HELD_OUT))
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--every", type=int, help="frames between keyframes, whatever happens")
    parser.add_argument("--window", type=int, default=WINDOW)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    cpu = torch.device("cpu")
    torch.set_num_threads(1)
    detector = GroundingDino(EMBEDDED / "detector", cpu, torch.float32)
    segmenter = load_segmenter("embedded", cpu, torch.float32)
    measured: list[Quality] = []
    for seed in arguments.seeds:
        one = measure(arguments.world, seed, arguments.frames, arguments.every, arguments.window, detector, segmenter)
        measured.append(one)
        if not arguments.json:
            print(f"seed {seed:4d}  " + "  ".join(f"{k} {v:.3f}" for k, v in one.summary().items()), flush=True)
    total = Quality(measured_world("plain", 0), [])
    for one in measured:
        for name in COUNTS:
            setattr(total, name, getattr(total, name) + getattr(one, name))
        total.ious += one.ious
    summary = {name: round(value, 4) for name, value in total.summary().items()}
    print(
        json.dumps(summary) if arguments.json else "all        " + "  ".join(f"{k} {v:.3f}" for k, v in summary.items())
    )


if __name__ == "__main__":
    main()
