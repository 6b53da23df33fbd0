"""An object that is prompted on a past frame and carried to the present, beside the tracks, which it joins there."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from stages.segmentation.base import Segmenter
from stages.segmentation.outputs import FrameFeatures, Heads
from stages.tracking import association, mask_ops
from stages.tracking.identity.search import look_again
from stages.tracking.mask_prompts import ModelPoints
from stages.tracking.state import TrackerOptions, TrackerState

_LOGIT = 10.0  # of a pixel of a mask that is known as yes or no


@dataclass(frozen=True, slots=True, eq=False)
class Prompted:
    """What a track was given by hand on a frame: its mask there, logits (1, 4 S, 4 S), and the points, if any."""

    frame: int  # index
    masks: torch.Tensor
    points: ModelPoints | None


class Carried:
    """One object on its way from a past frame to the present: a state of its own with one row.

    ``track``: the id of the track that it corrects; None for a new object. ``prompted``: where it began; ``area``: the
    pixels of its mask there.
    """

    def __init__(self, state: TrackerState, options: TrackerOptions, prompted: Prompted, track: int | None) -> None:
        self.state, self.prompted, self.track = state, prompted, track
        self.area = int(mask_ops.areas(prompted.masks))
        self._identifies = options.gate and options.reidentify

    @classmethod
    def begun(
        cls,
        segmenter: Segmenter,
        options: TrackerOptions,
        clock: int,
        features: FrameFeatures,
        heads: Heads,
        prompted: Prompted,
        prompt: int | None,
    ) -> "Carried":
        """A new object, found on frame ``clock``."""
        state = _state_of_one(segmenter, options)
        state.start(clock, features, heads, segmenter.encode_memory(features, heads))
        carried = cls(state, options, prompted, None)
        state.table.start(prompt, prompted.frame, 1.0, True, carried.area, "added by hand")
        return carried._on(clock)

    @classmethod
    def corrected(
        cls,
        segmenter: Segmenter,
        options: TrackerOptions,
        clock: int,
        features: FrameFeatures,
        heads: Heads,
        prompted: Prompted,
        tracked: TrackerState,
        row: int,
    ) -> "Carried":
        """A row of ``tracked`` whose mask is corrected on frame ``clock``.

        Of what it remembers only its first conditioning frame stays, where that is older.
        """
        state = _state_of_one(segmenter, options)
        state.adopt(tracked, row)
        memory = segmenter.encode_memory(features, heads)
        if tracked.bank.begins_before(row, clock):
            state.bank.set_conditioning(0, clock, memory[0], heads.pointers[0], clear=True)
        else:
            state.bank.remove(0)
            state.bank.append(clock, memory, heads.pointers)
        state.cues.correct(0, heads.masks[0], relocated=False)
        state.masks = heads.masks
        record = tracked.table.rows[row]
        state.table.rows.append(replace(record, away=False))
        return cls(state, options, prompted, record.id)._on(clock)

    def _on(self, clock: int) -> "Carried":
        self.state.update_rivals()
        self.state.clock = clock + 1
        return self

    @property
    def by_points(self) -> bool:
        """It was prompted by points, not by a box or a mask."""
        points = self.prompted.points
        return points is not None and bool((points[1] <= 1).all())

    @property
    def masks(self) -> torch.Tensor:
        """Its mask on the frame that it has come to, logits (1, 4 S, 4 S)."""
        return self.state.masks

    def follow(self, segmenter: Segmenter, frames: Sequence[tuple[int, bool, FrameFeatures]]) -> None:
        """Find it on the next frames: each a clock, whether it shows another scene than before, and features.

        Where its mask no longer looks like it, it is looked for around the place where it is expected: between two
        frames that were kept it may have moved farther than between two frames of the stream.
        """
        state = self.state
        for clock, cut, features in frames:
            if cut and self._identifies:
                state.leave_view()
            state.clock = clock
            expected = state.cues.predict()
            heads = state.propagate(features)
            state.store_memories(features, heads, torch.ones_like(heads.presence, dtype=torch.bool))
            found = None
            if self._identifies and not state.table.rows[0].away:
                found = look_again(segmenter, features, state.cues, expected, state.parts, heads)
            if found is not None:
                heads, memory = found, segmenter.encode_memory(features, found)
                state.bank.set_conditioning(0, clock, memory[0], found.pointers[0], clear=False)
                state.cues.correct(0, found.masks[0], relocated=False)
            state.masks = heads.masks
            state.clock += 1
        state.bank.sync_counts(state.bank.written().tolist())

    def twin(self, masks: torch.Tensor) -> int | None:
        """The row of (N, 4 S, 4 S) logits on the same frame that shows the same object; None where there is none."""
        overlaps = mask_ops.to_numpy(mask_ops.mask_iou(self.masks, masks))[0]
        best = int(overlaps.argmax()) if len(overlaps) else -1
        return best if best >= 0 and overlaps[best] >= association.DUPLICATE_OVERLAP else None


def correct(segmenter: Segmenter, features: FrameFeatures, points: ModelPoints, masks: torch.Tensor | None) -> Heads:
    """Segment one object again from points and its mask so far, logits (1, 4 S, 4 S), if it has one."""
    places, labels = points[0][None], points[1][None]
    if masks is None or not bool((masks > 0).any()):
        return segmenter.prompt_points(features, places, labels)
    return segmenter.correct(features, places, labels, masks, None)


def logits_of(segmenter: Segmenter, mask: NDArray[np.bool_]) -> torch.Tensor:
    """Logits (1, 4 S, 4 S) of a mask (H, W) of any size."""
    pixels = torch.from_numpy(mask)[None, None].float().to(segmenter.device)
    resized = F.interpolate(pixels, (4 * segmenter.side,) * 2, mode="bilinear", antialias=True)[0]
    return torch.where(resized >= 0.5, _LOGIT, -_LOGIT)


def _state_of_one(segmenter: Segmenter, options: TrackerOptions) -> TrackerState:
    return TrackerState(segmenter, replace(options, max_objects=1))
