"""How good detections, masks and identities are, against the test source's ground truth.

What counts: an object is there when at least ``CLEARLY_VISIBLE`` of it shows. Below that it is left out: neither
missing it nor finding it counts. A mask counts on every frame that is not a keyframe, from the first keyframe on that
showed the object; an object without a mask there counts as IoU 0.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torchvision.ops import box_iou

from stages.detection.prompts import Prompt
from stages.testsrc.world import ShapesWorld, Truth
from stages.types import Detections, Result

CLEARLY_VISIBLE = 0.3
FOUND = 0.5  # least IoU of a box with the true one


class Quality:
    """Observes the results of one stream of ``testsrc://shapes``, frame by frame and in order."""

    def __init__(self, world: ShapesWorld, prompts: Sequence[Prompt]) -> None:
        self._world = world
        self._phrases = [prompt.phrase for prompt in prompts]
        self._absent = {i for i, phrase in enumerate(self._phrases) if phrase not in world.labels}
        self.right = self.wrong = self.missed = 0  # detections
        self.keyframes = self.fired = 0  # keyframes, and those on which an absent prompt was detected
        self.ious: list[float] = []
        self.switches = 0
        self._shown: set[int] = set()  # objects that a keyframe has shown
        self._track_of: dict[int, int] = {}

    def observe(self, result: Result, masks: NDArray[np.bool_]) -> None:
        """Compare one frame; masks (N, H, W) are those of ``result.tracks``, at the frame's size."""
        _, truth = self._world.render(result.frame.index)
        if result.detections is not None:
            self._observe_keyframe(truth, result.detections)
        self._observe_masks(truth, result, masks)

    def summary(self) -> dict[str, float]:
        """f1, precision, recall, absent_rate (of keyframes), mask_iou, switches (of identity)."""
        precision = self.right / max(1, self.right + self.wrong)
        recall = self.right / max(1, self.right + self.missed)
        return {
            "f1": 2 * precision * recall / max(precision + recall, 1e-9),
            "precision": precision,
            "recall": recall,
            "absent_rate": self.fired / max(1, self.keyframes),
            "mask_iou": float(np.mean(self.ious)) if self.ious else 0.0,
            "switches": float(self.switches),
        }

    def _named(self, truth: Truth) -> list[tuple[int, int]]:
        """(object, prompt) of the objects that a prompt names."""
        return [(n, self._phrases.index(label)) for n, label in enumerate(truth.labels) if label in self._phrases]

    def _observe_keyframe(self, truth: Truth, detections: Detections) -> None:
        self.keyframes += 1
        self.fired += bool(self._absent & set(detections.prompts.tolist()))
        there = [(n, p) for n, p in self._named(truth) if truth.visible[n] > 0]
        self._shown |= {n for n, _ in there if truth.visible[n] >= CLEARLY_VISIBLE}
        boxes = torch.from_numpy(truth.boxes[[n for n, _ in there]].reshape(-1, 4))
        overlap = box_iou(torch.from_numpy(detections.boxes).reshape(-1, 4), boxes).numpy()
        overlap *= detections.prompts[:, None] == np.array([p for _, p in there], np.int64)[None]
        rows, columns = linear_sum_assignment(-overlap)
        found = {int(c): int(r) for r, c in zip(rows, columns, strict=True) if overlap[r, c] >= FOUND}
        clear = {c for c, (n, _) in enumerate(there) if truth.visible[n] >= CLEARLY_VISIBLE}
        self.right += len(clear & found.keys())
        self.missed += len(clear - found.keys())
        self.wrong += len(detections) - len(found)

    def _observe_masks(self, truth: Truth, result: Result, masks: NDArray[np.bool_]) -> None:
        there = [(n, p) for n, p in self._named(truth) if truth.visible[n] >= CLEARLY_VISIBLE and n in self._shown]
        overlap = np.zeros((len(there), len(masks)), np.float32)
        for row, (n, prompt) in enumerate(there):
            for column, track in enumerate(result.tracks):
                if track.prompt == prompt:
                    union = (masks[column] | truth.masks[n]).sum()
                    overlap[row, column] = (masks[column] & truth.masks[n]).sum() / max(1, union)
        pairs = dict(zip(*(index.tolist() for index in linear_sum_assignment(-overlap)), strict=True))
        for row, (n, _) in enumerate(there):
            iou = float(overlap[row, pairs[row]]) if row in pairs else 0.0
            if not result.keyframe:
                self.ious.append(iou)
            if iou >= FOUND:
                track_id = result.tracks[pairs[row]].id
                self.switches += self._track_of.get(n, track_id) != track_id
                self._track_of[n] = track_id
