"""The tracker of one stream: windows in, one Result per frame out.

The bank holds what SAM 2 remembers of each object, the book holds each track's life, both by row.
"""

import time
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from stages import affinity, gating, identity, prompting
from stages.errors import ConfigError
from stages.lives import Lives
from stages.memory import MemoryBank
from stages.sam2_model import FrameFeatures, Heads, Segmenter
from stages.types import Detections, Frame, Result, Window

DRIFTED = 0.7  # a matched track whose mask overlaps its detection's by less is prompted again
UNDETECTED = 3  # keyframes in a row on which a visible track may go without a detection
SHRUNK = 0.35  # share of its size when last detected below which a mask is only what is left of its object
UNCONFIRMED = 2  # the same for a track that only one keyframe has seen


@dataclass(frozen=True, slots=True)
class TrackerOptions:
    """How tracks live. ``lost_after`` counts frames without a visible pixel."""

    max_objects: int = 64
    lost_after: int = 90
    reidentify: bool = True
    gate: bool = True  # jumps onto another's object are refused; frames without the object stay out of its memory
    clamp_pointer_ages: bool = True  # on endless streams no pointer looks older than the oldest that training saw


DEFAULT_OPTIONS = TrackerOptions()


class Tracker:
    """Follows the objects of one stream; its memory is bounded by ``max_objects``."""

    def __init__(self, segmenter: Segmenter, options: TrackerOptions = DEFAULT_OPTIONS) -> None:
        self._segmenter, self._options = segmenter, options
        self._bank = MemoryBank(segmenter, options.max_objects, options.clamp_pointer_ages)
        self._book = Lives()
        self._clock = 0  # frames tracked so far: the bank's time
        self._shown = segmenter.nothing().masks > 0  # each row's mask on the last frame
        self._last: tuple[Frame, FrameFeatures] | None = None  # what objects added by hand refer to

    @property
    def nbytes(self) -> int:
        """Bytes of memory held for objects, the same after any number of frames."""
        return self._bank.nbytes

    @property
    def ids(self) -> tuple[int, ...]:
        """The ids of the objects being tracked."""
        return tuple(life.id for life in self._book.rows)

    def step(self, window: Window, detections: Detections | None) -> list[Result]:
        """Track a window's frames; ``detections`` belong to its first. One Result per frame, in order."""
        began = time.perf_counter()
        features = self._segmenter.encode([frame.image for frame in window.frames])
        encoded = time.perf_counter()
        seen: list[Heads] = []
        for number, (frame, feature) in enumerate(zip(window.frames, features, strict=True)):
            if number == 0 and detections is not None:
                seen.append(self._keyframe(frame, feature, detections))
            else:
                seen.append(self._propagate(feature))
            self._shown = seen[-1].masks > 0
            self._clock += 1
        self._last = (window.frames[-1], features[-1].alone())
        results = self._conclude(window, seen, detections)
        results[0].seconds.update(encode=encoded - began, propagate=time.perf_counter() - encoded)
        return results

    def add(
        self,
        prompt: int | None = None,
        *,
        box: NDArray[np.float32] | None = None,
        points: tuple[NDArray[np.float32], NDArray[np.int64]] | None = None,
        mask: NDArray[np.bool_] | None = None,
    ) -> int:
        """Start a track by hand on the frame tracked last; returns its id.

        Exactly one of: ``box`` (4,) xyxy pixels; ``points``, (P, 2) pixels and (P,) labels, 1 inside and 0 outside;
        ``mask`` (H, W). Raises ConfigError where the prompt lies outside the picture or has another shape, before the
        first frame, and when every place is taken.
        """
        if self._last is None:
            raise ConfigError("add: no frame has been tracked yet; add objects once frames arrive")
        if self._bank.count >= self._bank.capacity:
            raise ConfigError(f"add: all {self._bank.capacity} places are taken; raise max_objects or remove an object")
        frame, feature = self._last
        heads = prompting.segment_by_hand(self._segmenter, frame, feature, box, points, mask)
        self._bank.append(self._clock - 1, self._segmenter.memorise(feature, heads), heads.pointers)
        self._shown = torch.cat([self._shown, heads.masks > 0])
        area = int(affinity.areas(heads.masks))
        return self._book.start(prompt, frame.index, 1.0, True, area, "added by hand")

    def remove(self, track: int) -> None:
        """End a track by hand. Raises ConfigError for an id that is not tracked."""
        row = self._book.row_of(track)
        if row is None or self._last is None:
            raise ConfigError(f"remove: no track {track}; tracked now: {', '.join(map(str, self.ids)) or 'none'}")
        self._end({row: "removed"}, self._last[0].index)

    def _look(self, feature: FrameFeatures) -> Heads:
        """Find the tracked objects on a frame."""
        if not self._bank.count:
            return self._segmenter.nothing()
        heads = self._segmenter.propagate(feature, self._bank.recall(self._clock))
        return heads.without(gating.stolen(heads.masks, self._shown)) if self._options.gate else heads

    def _propagate(self, feature: FrameFeatures) -> Heads:
        heads = self._look(feature)
        self._memorise(feature, heads, torch.ones_like(heads.presence, dtype=torch.bool))
        return heads

    def _memorise(self, feature: FrameFeatures, heads: Heads, recent: torch.Tensor) -> torch.Tensor:
        """Encode the memories of B objects; the rows among them that ``recent`` (B,) names remember the frame."""
        if not len(heads.masks):
            return torch.zeros(0)
        memories = self._segmenter.memorise(feature, heads)
        rows = self._bank.count
        store = recent & (heads.presence > 0) if self._options.gate else recent
        self._bank.remember(self._clock, memories[:rows], heads.pointers[:rows], store[:rows])
        return memories

    def _keyframe(self, frame: Frame, feature: FrameFeatures, detections: Detections) -> Heads:
        """Propagate, then let the detections confirm, correct and start tracks."""
        tracked = self._look(feature)
        detections, found = prompting.segment_detections(
            self._segmenter, frame, feature, detections, 2 * self._bank.capacity
        )
        overlap = affinity.on_host(affinity.mask_iou(found.masks, tracked.masks))
        sizes = affinity.on_host(affinity.areas(tracked.masks))
        plan = self._plan(detections, found, tracked, overlap, sizes)
        drifted = [(d, row) for d, row in plan.matched if overlap[d, row] < DRIFTED]
        corrected = drifted + plan.reclaimed
        ending = self._undetected(plan, sizes)
        fresh = self._find_places(plan, detections, sizes, ending)
        heads = Heads(*(torch.cat([old, new[fresh]]) for old, new in zip(tracked, found, strict=True)))
        recent = torch.ones_like(heads.presence, dtype=torch.bool)
        for d, row in corrected:
            for old, new in zip(heads, found, strict=True):
                old[row] = new[d]
            recent[row] = False
        memories = self._memorise(feature, heads, recent)
        lost = {row for _, row in plan.reclaimed}
        for _, row in corrected:
            self._bank.recondition(row, self._clock, memories[row], heads.pointers[row], forget=row in lost)
        areas = affinity.areas(heads.masks).tolist()
        for d, row in plan.matched + plan.reclaimed:
            self._book.detected(row, float(detections.scores[d]), frame.index, areas[row], returned=row in lost)
        return self._renew(frame, heads, memories, detections.take(fresh), ending)

    def _renew(
        self,
        frame: Frame,
        heads: Heads,
        memories: torch.Tensor,
        fresh: Detections,
        ending: dict[int, str],
    ) -> Heads:
        """End what the keyframe gave up, then start what it found; returns the heads in the new order of rows."""
        rows = self._bank.count
        order = self._end(ending, frame.index) + list(range(rows, len(heads.masks)))
        if len(fresh):
            self._bank.append(self._clock, memories[rows:], heads.pointers[rows:])
        areas = affinity.areas(heads.masks[rows:]).tolist()
        for prompt, score, area in zip(fresh.prompts.tolist(), fresh.scores.tolist(), areas, strict=True):
            self._book.start(prompt, frame.index, score, False, area, "detected")
        return Heads(*(part[order] for part in heads))

    def _plan(
        self,
        detections: Detections,
        found: Heads,
        tracked: Heads,
        overlap: NDArray[np.float32],
        sizes: NDArray[np.float32],
    ) -> identity.Plan:
        prompts = np.array([-1 if life.prompt is None else life.prompt for life in self._book.rows], np.int64)
        before = np.array([life.area for life in self._book.rows], np.float32)
        between = affinity.on_host(affinity.mask_iou(tracked.masks, tracked.masks))
        return identity.plan(
            same_prompt=detections.prompts[:, None] == prompts[None],
            overlap=overlap,
            likeness=affinity.on_host(affinity.likeness(found.pointers, self._bank.appearances())),
            between=np.where(prompts[:, None] == prompts[None], between, 0),
            whole=sizes > SHRUNK * before,
            reidentify=self._options.reidentify,
        )

    def _undetected(self, plan: identity.Plan, sizes: NDArray[np.float32]) -> dict[int, str]:
        """Rows of the tracks that this keyframe speaks against, and why they end."""
        held = plan.continued
        ending = dict.fromkeys(plan.displaced, "displaced")
        for row, life in enumerate(self._book.rows):
            if row in held or row in ending or not sizes[row] or life.prompt is None:
                continue
            life.misses += 1
            if life.misses >= (UNDETECTED if life.confirmed else UNCONFIRMED):
                ending[row] = "undetected" if life.confirmed else "unconfirmed"
        return ending

    def _find_places(
        self, plan: identity.Plan, detections: Detections, sizes: NDArray[np.float32], ending: dict[int, str]
    ) -> list[int]:
        """The new detections that get a place, best first; tracks out of sight may end for them."""
        best_first = sorted(plan.fresh, key=lambda d: -float(detections.scores[d]))
        kept = plan.continued | ending.keys()
        out_of_sight = [row for row in self._book.by_use() if row not in kept and not sizes[row]]
        free = self._bank.capacity - self._bank.count + len(ending)
        evicted = out_of_sight[: max(0, len(best_first) - free)]
        ending |= dict.fromkeys(evicted, "max_objects")
        return best_first[: free + len(evicted)]

    def _end(self, ending: dict[int, str], frame: int) -> list[int]:
        """End the tracks of some rows; returns, for each row that is left, the row it had before."""
        order = list(range(self._bank.count))
        for row in sorted(ending, reverse=True):
            self._book.end(row, frame, ending[row])
            self._bank.remove(row)
            order[row] = order[-1]
            order.pop()
        self._shown = self._shown[order]
        return order

    def _conclude(self, window: Window, seen: list[Heads], detections: Detections | None) -> list[Result]:
        """Bring everything to the host in one transfer each and write every frame's result."""
        presence = torch.stack([heads.presence for heads in seen]).sigmoid().tolist()
        masks = torch.stack([heads.masks for heads in seen]).cpu()
        visible = (masks > 0).flatten(2).any(2).tolist()
        results = []
        for number, frame in enumerate(window.frames):
            for row, is_visible in enumerate(visible[number]):
                self._book.look(row, is_visible, frame.index)
            tracks = tuple(life.as_track(p) for life, p in zip(self._book.rows, presence[number], strict=True))
            if number + 1 == len(seen):
                self._end_lost(frame.index)
            keyframe, events = window.keyframe and number == 0, self._book.take_events()
            found = detections if number == 0 else None
            results.append(Result(frame, window.epoch, keyframe, tracks, masks[number], events, found))
        return results

    def _end_lost(self, frame: int) -> None:
        """End the tracks that have been out of sight for too long."""
        limit = frame - self._options.lost_after
        self._end({row: "lost" for row, life in enumerate(self._book.rows) if life.last_seen < limit}, frame)
