"""Quality of detections, masks and identities, measured against the test source's ground truth.

An object counts on a frame when at least ``CLEARLY_VISIBLE`` of it is visible; below that it is ignored: a detection
of it is neither right nor wrong. Masks count on all frames but keyframes, from the first keyframe on that shows the
object; an object without a mask counts as IoU 0.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torchvision.ops import box_iou

from stages.detection.prompts import Prompt
from stages.testsrc.bodies import COLOURS, SHAPES
from stages.testsrc.truth import Truth, World
from stages.types import Detections, Result

CLEARLY_VISIBLE = 0.3
FOUND = 0.5  # minimum IoU of a box or mask with the true one


def measured_labels(world: World) -> list[str]:
    """The labels of all objects, and two absent ones: one shares its colour with the first object, one its shape."""
    rng = np.random.default_rng(len(world.labels))
    colour, shape = world.labels[0].split()
    near = [f"{colour} {other}" for other in SHAPES], [f"{other} {shape}" for other in COLOURS]
    absent = [str(rng.choice([name for name in names if name not in world.labels])) for names in near]
    return [*dict.fromkeys(world.labels), *absent]


class Quality:
    """Accumulates the quality of the results of one stream of ``testsrc://shapes``, frame by frame and in order."""

    def __init__(self, world: World, prompts: Sequence[Prompt]) -> None:
        self._world = world
        self._phrases = [prompt.phrase for prompt in prompts]
        self._absent = {i for i, phrase in enumerate(self._phrases) if phrase not in world.labels}
        self.true_positives = self.false_positives = self.false_negatives = 0  # detections
        self.keyframes = self.keyframes_absent = 0  # all, and those with a detection of an absent prompt
        self.ious: list[float] = []
        self.switches = 0  # of identity
        self._shown: set[int] = set()  # objects that were clearly visible on a keyframe
        self._track_of: dict[int, int] = {}  # track id by object

    def observe(self, result: Result, masks: NDArray[np.bool_]) -> None:
        """Add one frame; ``masks``, bool (N, H, W), are those of ``result.tracks`` at the frame's size."""
        truth = self._world.truth(result.frame.index)
        if result.detections is not None:
            self.observe_detections(truth, result.detections)
        self._observe_masks(truth, result, masks)

    def observe_detections(self, truth: Truth, detections: Detections) -> None:
        """Add the detections on a keyframe."""
        self.keyframes += 1
        self.keyframes_absent += bool(self._absent & set(detections.prompts.tolist()))
        present = [(n, p) for n, p in self._prompted(truth) if truth.visible[n] > 0]
        self._shown |= {n for n, _ in present if truth.visible[n] >= CLEARLY_VISIBLE}
        boxes = torch.from_numpy(truth.boxes[[n for n, _ in present]].reshape(-1, 4))
        ious = box_iou(torch.from_numpy(detections.boxes).reshape(-1, 4), boxes).numpy()
        ious *= detections.prompts[:, None] == np.array([p for _, p in present], np.int64)[None]
        rows, columns = linear_sum_assignment(-ious)
        found = {int(c): int(r) for r, c in zip(rows, columns, strict=True) if ious[r, c] >= FOUND}
        clear = {c for c, (n, _) in enumerate(present) if truth.visible[n] >= CLEARLY_VISIBLE}
        self.true_positives += len(clear & found.keys())
        self.false_negatives += len(clear - found.keys())
        self.false_positives += len(detections) - len(found)

    def summary(self) -> dict[str, float]:
        """f1, precision, recall, absent_rate (share of keyframes), mask_iou, switches (of identity)."""
        precision = self.true_positives / max(1, self.true_positives + self.false_positives)
        recall = self.true_positives / max(1, self.true_positives + self.false_negatives)
        return {
            "f1": 2 * precision * recall / max(precision + recall, 1e-9),
            "precision": precision,
            "recall": recall,
            "absent_rate": self.keyframes_absent / max(1, self.keyframes),
            "mask_iou": float(np.mean(self.ious)) if self.ious else 0.0,
            "switches": float(self.switches),
        }

    def _prompted(self, truth: Truth) -> list[tuple[int, int]]:
        """(object, prompt) for each object whose label is a prompt."""
        return [(n, self._phrases.index(label)) for n, label in enumerate(truth.labels) if label in self._phrases]

    def _observe_masks(self, truth: Truth, result: Result, masks: NDArray[np.bool_]) -> None:
        present = [(n, p) for n, p in self._prompted(truth) if truth.visible[n] >= CLEARLY_VISIBLE and n in self._shown]
        ious = np.zeros((len(present), len(masks)), np.float32)
        for row, (n, prompt) in enumerate(present):
            for column, track in enumerate(result.tracks):
                if track.prompt == prompt:
                    union = (masks[column] | truth.masks[n]).sum()
                    ious[row, column] = (masks[column] & truth.masks[n]).sum() / max(1, union)
        pairs = dict(zip(*(index.tolist() for index in linear_sum_assignment(-ious)), strict=True))
        for row, (n, _) in enumerate(present):
            iou = float(ious[row, pairs[row]]) if row in pairs else 0.0
            if not result.keyframe:
                self.ious.append(iou)
            if iou >= FOUND:
                track_id = result.tracks[pairs[row]].id
                self.switches += self._track_of.get(n, track_id) != track_id
                self._track_of[n] = track_id
