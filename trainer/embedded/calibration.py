"""Choose the embedded detector's threshold on worlds of its own, with the detector as the daemon runs it."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from stages.detection.grounding_dino import GroundingDino
from stages.detection.prompts import parse_prompts
from stages.testsrc.open_world import KINDS, Kind, measured_world
from stages.testsrc.score import Quality, measured_labels
from stages.testsrc.truth import World

CALIBRATION = range(10_000, 10_200)  # seeds of the worlds for choosing the threshold; not used for training or tests
CHECK = range(10_200, 10_300)  # of those for measuring it
FRAMES = (0, 75)
THRESHOLDS = np.arange(0.1, 0.6, 0.02)

Counts = dict[Kind, NDArray[np.int64]]  # (thresholds, 3) true positives, false positives, false negatives


def calibration_world(seed: int) -> tuple[Kind, World]:
    """The world of a seed, and its kind; of four one is plain, one is hard and two are wild."""
    kind: Kind = ("plain", "wild", "hard", "wild")[seed % 4]
    return kind, measured_world(kind, seed, 1 + seed // 4 % 6 if kind == "plain" else None)


def count(folder: Path, seeds: Iterable[int]) -> Counts:
    """What the detector in ``folder`` finds at each of the ``THRESHOLDS``, asked for all labels and two absent ones."""
    detector = GroundingDino(folder, torch.device("cpu"), torch.float32)
    counts: Counts = {kind: np.zeros((len(THRESHOLDS), 3), np.int64) for kind in KINDS}
    for seed in seeds:
        kind, world = calibration_world(seed)
        prompts = parse_prompts(measured_labels(world))
        qualities = [Quality(world, prompts) for _ in THRESHOLDS]
        for index in FRAMES:
            image, truth = world.render(index)
            [found] = detector.detect([image], prompts, THRESHOLDS[0], THRESHOLDS[0])
            for threshold, quality in zip(THRESHOLDS, qualities, strict=True):
                quality.observe_detections(truth, found.take(np.flatnonzero(found.scores >= threshold).tolist()))
        counts[kind] += [(q.true_positives, q.false_positives, q.false_negatives) for q in qualities]
    return counts


def f1(counts: Counts) -> dict[Kind, NDArray[np.float64]]:
    """F1 at each of the ``THRESHOLDS``, by kind of world."""
    return {kind: 2 * each[:, 0] / (each @ (2, 1, 1)).clip(min=1) for kind, each in counts.items()}


def best_threshold(counts: Counts) -> tuple[float, str]:
    """The threshold with the highest mean F1 over the kinds of worlds, and a line that tells it with the F1 of each."""
    by_kind = f1(counts)
    best = int(np.mean(list(by_kind.values()), 0).argmax())
    figures = ", ".join(f"{kind} {values[best]:.3f}" for kind, values in by_kind.items())
    return float(THRESHOLDS[best]), f"threshold {THRESHOLDS[best]:.2f}: F1 {figures}"
