"""Identity metrics (TrackEval, on masks) on worlds of the test source.

python -m tests.benchmarks.identity [--world plain|hard|wild] [--seeds N ...] [--frames N] [--every N] [--json]
    [--no-gating] [--no-reidentify]

The prompts of each world are the labels of all its objects. The settings are the daemon's defaults. Wild worlds have
pictures of 640 x 360, the others of 256 x 256. Without --no-* and --json the table has rows for the default, for
gating off and for re-identification off.

All frames count, from the first on. An object counts on a frame when at least ``CLEARLY_VISIBLE`` of it is visible;
below that neither the object nor its track counts. A track counts when its mask has a pixel. Similarity is the IoU of
visible pixels, and 0 if the track's prompt is not the object's label. idf1, mota and idsw use a threshold of 0.5; hota,
deta and assa are means over TrackEval's thresholds, 0.05 to 0.95. ``switches`` is idsw per 1,000 frames.
"""

import argparse
import json
import multiprocessing
import os
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from trackeval.metrics import CLEAR, HOTA, Identity

from stages.detection.grounding_dino import GroundingDino
from stages.detection.prompts import parse_prompts
from stages.output.masks import full_masks
from stages.sam2.load import EMBEDDED, load_segmenter
from stages.sam2.segmenter import Sam2Segmenter
from stages.testsrc.open_world import KINDS, Kind, measured_world
from stages.testsrc.score import CLEARLY_VISIBLE
from stages.testsrc.truth import Truth
from stages.tracking.tracker import TrackerOptions
from tests.benchmarks.support.worlds import keyframes_from, track

HELD_OUT = range(500, 520)  # seeds that were not used for training or tuning
MATCH = 0.5  # a track with at least this IoU with a barely visible object is ignored


@dataclass(frozen=True)
class Job:
    """One world with one set of options."""

    kind: Kind
    seed: int
    frames: int
    every: int | None
    gating: bool
    reidentify: bool


@dataclass
class Observed:
    """TrackEval's data of one sequence, with a list entry per frame."""

    objects: list[NDArray[np.int64]] = field(default_factory=list)  # (G,) ids
    tracks: list[NDArray[np.int64]] = field(default_factory=list)  # (N,) ids
    similarities: list[NDArray[np.float64]] = field(default_factory=list)  # (G, N)

    def observe(
        self,
        truth: Truth,
        ids: Sequence[int],
        labels: Sequence[str | None],
        masks: NDArray[np.bool_],
    ) -> None:
        """Add a frame: N tracks with the phrases of their prompts and masks (N, H, W) at the frame's size."""
        shown = masks.any((1, 2))
        same = np.array([[label == name for label in labels] for name in truth.labels], bool)
        similarity = mask_iou(truth.masks, masks) * same.reshape(len(truth.labels), len(labels))
        clear = truth.visible >= CLEARLY_VISIBLE
        rows, columns = linear_sum_assignment(-similarity)
        blurred = [c for r, c in zip(rows, columns, strict=True) if not clear[r] and similarity[r, c] >= MATCH]
        shown[blurred] = False
        self.objects.append(truth.ids[clear])
        self.tracks.append(np.array(ids, np.int64)[shown])
        self.similarities.append(similarity[clear][:, shown])

    def for_trackeval(self) -> dict[str, object]:
        """The argument of ``eval_sequence``; ids are renumbered from 0 without gaps."""
        objects, tracks = without_holes(self.objects), without_holes(self.tracks)
        return {
            "gt_ids": objects,
            "tracker_ids": tracks,
            "similarity_scores": self.similarities,
            "num_gt_ids": len(np.unique(np.concatenate(objects))),
            "num_tracker_ids": len(np.unique(np.concatenate(tracks))),
            "num_gt_dets": sum(map(len, objects)),
            "num_tracker_dets": sum(map(len, tracks)),
            "num_timesteps": len(objects),
        }


def mask_iou(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> NDArray[np.float64]:
    """IoU matrix of masks: (A, H, W) and (B, H, W) -> (A, B); 0 where both are empty."""
    pixels = int(np.prod(first.shape[1:]))
    a, b = (masks.reshape(-1, pixels).astype(np.float32) for masks in (first, second))
    common = (a @ b.T).astype(np.float64)
    union = a.sum(1)[:, None] + b.sum(1)[None] - common
    return common / np.maximum(union, 1)


def without_holes(ids: Sequence[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
    _, places = np.unique(np.concatenate(ids), return_inverse=True)
    return np.split(places, np.cumsum([len(some) for some in ids])[:-1])


def score(sequences: Iterable[Observed]) -> dict[str, float]:
    """idf1, hota, switches (per 1,000 frames), mota, idsw, deta, assa, recall, precision over all sequences."""
    data = {str(number): one.for_trackeval() for number, one in enumerate(sequences)}
    quiet = {"PRINT_CONFIG": False}
    hota, clear, identity = (
        metric.combine_sequences({name: metric.eval_sequence(one) for name, one in data.items()})
        for metric in (HOTA(), CLEAR(quiet), Identity(quiet))
    )
    return {
        "idf1": float(identity["IDF1"]),
        "hota": float(np.mean(hota["HOTA"])),
        "switches": 1000 * float(clear["IDSW"]) / sum(one["num_timesteps"] for one in data.values()),
        "mota": float(clear["MOTA"]),
        "idsw": int(clear["IDSW"]),
        "deta": float(np.mean(hota["DetA"])),
        "assa": float(np.mean(hota["AssA"])),
        "recall": float(clear["CLR_Re"]),
        "precision": float(clear["CLR_Pr"]),
    }


@cache
def models() -> tuple[GroundingDino, Sam2Segmenter]:
    """The embedded models, loaded once per process."""
    torch.set_num_threads(1)
    cpu = torch.device("cpu")
    return GroundingDino(EMBEDDED / "detector", cpu, torch.float32), load_segmenter("embedded", cpu, torch.float32)


def measure(job: Job) -> Observed:
    """Track a world and collect TrackEval's data of every frame."""
    detector, segmenter = models()
    world, seen = measured_world(job.kind, job.seed), Observed()
    prompts = parse_prompts([*dict.fromkeys(world.labels)])
    options = TrackerOptions(gate=job.gating, reidentify=job.reidentify)
    detection = keyframes_from(job.every)
    for result, truth in track(world, prompts, detector, segmenter, job.frames, detection, options=options):
        labels = [None if one.prompt is None else prompts[one.prompt].phrase for one in result.tracks]
        seen.observe(truth, [one.id for one in result.tracks], labels, full_masks(result).full())
    return seen


def row(name: str, scores: dict[str, float]) -> str:
    cells = [f"{value:10d}" if isinstance(value, int) else f"{value:10.3f}" for value in scores.values()]
    return f"{name:34}" + "".join(cells)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.identity", description=__doc__.splitlines()[0])
    parser.add_argument("--world", choices=KINDS, default="hard")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(HELD_OUT))
    parser.add_argument("--frames", type=int, default=600)
    parser.add_argument("--every", type=int, help="frames between keyframes, whatever happens")
    parser.add_argument("--no-gating", action="store_true")
    parser.add_argument("--no-reidentify", action="store_true")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes; one a core")
    parser.add_argument("--json", action="store_true", help="one object with the figures of all seeds")
    arguments = parser.parse_args()
    variants = {"default": (True, True), "gating off": (False, True), "re-identification off": (True, False)}
    asked = not arguments.no_gating, not arguments.no_reidentify
    if arguments.json or asked != (True, True):
        variants = {"as asked": asked}
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    with ProcessPoolExecutor(arguments.jobs, context) as pool:
        jobs = {
            name: [Job(arguments.world, seed, arguments.frames, arguments.every, *flags) for seed in arguments.seeds]
            for name, flags in variants.items()
        }
        running = {name: [pool.submit(measure, job) for job in some] for name, some in jobs.items()}
        table = {}
        for name, some in running.items():
            for job, one in zip(jobs[name], some, strict=True):
                print(row(f"{name}, seed {job.seed}", score([one.result()])), file=sys.stderr, flush=True)
            table[name] = score(one.result() for one in some)
    if arguments.json:
        print(json.dumps({name: round(value, 4) for name, value in table["as asked"].items()}))
    else:
        print(" " * 34 + "".join(f"{name:>10}" for name in next(iter(table.values()))))
        print("\n".join(row(name, scores) for name, scores in table.items()))


if __name__ == "__main__":
    main()
