"""What detection in tiles finds of small and large objects, and what it costs.

python -m tests.benchmarks.tiles [--tiles off auto N ...] [--world plain|hard|wild] [--size WxH] [--seeds N ...]
                                 [--objects N] [--frames N] [--every N] [--detector FOLDER] [--json]

The embedded detector with the daemon's thresholds on keyframes of worlds of the test source; the prompts of a world are
the labels of all its objects and of two absent ones. Objects are sorted by the longer side of what is visible of them,
as a share of the picture's height; a box that is on no object counts as false by its own size. Time is what the thread
ran, as a ratio to that without tiles, picture by picture in turns.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torchvision.ops import box_iou

from daemon.settings.schema import Detection
from stages.detection.grounding_dino import EMBEDDED, GroundingDino
from stages.detection.prompts import Prompt, parse_prompts
from stages.detection.tiles import choose_grid, detect_in_tiles
from stages.testsrc.open_world import KINDS, open_world
from stages.testsrc.score import CLEARLY_VISIBLE, FOUND, measured_labels
from stages.testsrc.truth import Truth
from stages.types import Detections

HELD_OUT = range(400, 420)
EDGES = (0.06, 0.12, 0.24)  # between the sizes, as shares of the picture's height
SIZES = ("below 6 %", "6 to 12 %", "12 to 24 %", "above 24 %")


@dataclass
class Score:
    """Detections of one setting: counts for each size, and the seconds they took."""

    found: np.ndarray = field(default_factory=lambda: np.zeros(len(SIZES), int))
    missed: np.ndarray = field(default_factory=lambda: np.zeros(len(SIZES), int))
    false: np.ndarray = field(default_factory=lambda: np.zeros(len(SIZES), int))
    seconds: float = 0.0

    def observe(self, truth: Truth, prompts: Sequence[Prompt], detections: Detections, height: int) -> None:
        """Count as `stages.testsrc.score.Quality` does: objects that are hardly visible are neither right nor wrong."""
        phrases = [prompt.phrase for prompt in prompts]
        here = np.flatnonzero(truth.visible > 0)
        boxes, clear = truth.boxes[here], truth.visible[here] >= CLEARLY_VISIBLE
        ious = box_iou(torch.from_numpy(detections.boxes).reshape(-1, 4), torch.from_numpy(boxes)).numpy()
        ious *= detections.prompts[:, None] == np.array([phrases.index(truth.labels[n]) for n in here], int)[None]
        pairs = [(row, column) for row, column in zip(*linear_sum_assignment(-ious), strict=True)]
        pairs = [pair for pair in pairs if ious[pair] >= FOUND]
        seen = np.isin(np.arange(len(here)), [column for _, column in pairs])
        false = ~np.isin(np.arange(len(detections)), [row for row, _ in pairs])
        np.add.at(self.found, _sizes(boxes[clear & seen], height), 1)
        np.add.at(self.missed, _sizes(boxes[clear & ~seen], height), 1)
        np.add.at(self.false, _sizes(detections.boxes[false], height), 1)

    def figures(self) -> dict[str, Any]:
        """f1, precision, recall; f1, recall and number of objects of each size."""
        found, missed, false = self.found, self.missed, self.false
        return {
            "f1": _f1(found.sum(), missed.sum(), false.sum()),
            "precision": float(found.sum() / max(1, found.sum() + false.sum())),
            "recall": float(found.sum() / max(1, found.sum() + missed.sum())),
            "objects": (found + missed).tolist(),
            "f1_by_size": [_f1(*counts) for counts in zip(found, missed, false, strict=True)],
            "recall_by_size": (found / np.maximum(1, found + missed)).tolist(),
        }


def _sizes(boxes: np.ndarray, height: int) -> np.ndarray:
    return np.searchsorted(EDGES, (boxes[:, 2:] - boxes[:, :2]).max(1, initial=0) / height)


def _f1(found: int, missed: int, false: int) -> float:
    return float(2 * found / max(1, 2 * found + missed + false))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.tiles", description=__doc__.splitlines()[0])
    parser.add_argument("--tiles", nargs="+", default=["off", "2", "4", "auto"])
    parser.add_argument("--world", choices=KINDS, default="wild")
    parser.add_argument("--size", default="1280x720", metavar="WxH")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(HELD_OUT))
    parser.add_argument("--objects", type=int)
    parser.add_argument("--frames", type=int, default=600)
    parser.add_argument("--every", type=int, default=60)
    parser.add_argument("--detector", type=Path, default=EMBEDDED)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    width, height = map(int, arguments.size.split("x"))
    detector = GroundingDino(arguments.detector, torch.device("cpu"), torch.float32)
    scores = {setting: Score() for setting in arguments.tiles}
    for seed in arguments.seeds:
        observe(scores, detector, seed, arguments)
    report = {"world": arguments.world, "size": [width, height], "seeds": arguments.seeds, "settings": {}}
    for setting, score in scores.items():
        grid = choose_grid(detector, height, width, Detection(tiles=setting).tiles)
        cost = score.seconds / max(1e-9, scores[arguments.tiles[0]].seconds)
        report["settings"][setting] = {"grid": grid, "time_over_first": cost, **score.figures()}
    print(json.dumps(report) if arguments.json else "\n".join(table(report)))


def observe(scores: dict[str, Score], detector: GroundingDino, seed: int, arguments: argparse.Namespace) -> None:
    """Detect on the keyframes of one world with each setting."""
    width, height = map(int, arguments.size.split("x"))
    default = Detection()
    world = open_world(arguments.world, seed, width, height, arguments.objects)
    prompts = parse_prompts(measured_labels(world))
    for index in range(0, arguments.frames, arguments.every):
        image, truth = world.render(index)
        for setting, score in scores.items():
            started = time.thread_time()
            tiles = Detection(tiles=setting).tiles
            asked = prompts, (default.box_threshold, default.text_threshold), tiles
            [found] = detect_in_tiles(detector, [image], *asked)
            score.seconds += time.thread_time() - started
            score.observe(truth, prompts, found, height)


def table(report: dict[str, Any]) -> list[str]:
    """The report as a table in Markdown."""
    settings = report["settings"]
    objects = next(iter(settings.values()))["objects"]
    sizes = " | ".join(f"{size} ({count})" for size, count in zip(SIZES, objects, strict=True))
    lines = [
        f"| tiles | columns x rows | F1 | precision | recall | F1 of objects {sizes} | time / first row |",
        "|---" * (6 + len(SIZES)) + "|",
    ]
    for name, row in settings.items():
        rows, columns = row["grid"]
        figures = [row["f1"], row["precision"], row["recall"], *row["f1_by_size"]]
        cells = " | ".join(f"{figure:.3f}" for figure in figures)
        lines.append(f"| {name} | {columns} x {rows} | {cells} | {row['time_over_first']:.1f} |")
    return lines


if __name__ == "__main__":
    main()
