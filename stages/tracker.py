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
from stages.motion import Motion
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
    endless: bool = True  # memories age by the frames that were remembered; see MemoryBank
    memory_dtype: torch.dtype = torch.bfloat16  # what stored memories are rounded to; upstream's


DEFAULT_OPTIONS = TrackerOptions()


class Tracker:
    """Follows the objects of one stream; its memory is bounded by ``max_objects``."""

    def __init__(self, segmenter: Segmenter, options: TrackerOptions = DEFAULT_OPTIONS) -> None:
        self._segmenter, self._options = segmenter, options
        self._bank = MemoryBank(segmenter, options.max_objects, options.endless, options.memory_dtype)
        self._book = Lives()
        self._motion = Motion(4 * segmenter.side, segmenter.device)
        self._regroup()
        self._clock = 0  # frames tracked so far: the bank's time
        self._masks = segmenter.nothing().masks  # each row's logits on the last frame
        self._last: tuple[Frame, FrameFeatures] | None = None  # the last frame, which prompts by hand refer to
        self._asked: dict[int, prompting.ModelPoints] = {}  # the points given by hand on the last frame, by id

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
            self._masks = seen[-1].masks
            self._clock += 1
        self._last, self._asked = (window.frames[-1], features[-1].alone()), {}
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
        heads, asked = prompting.segment_by_hand(self._segmenter, frame, feature, box, points, mask)
        self._bank.append(self._clock - 1, self._segmenter.memorise(feature, heads), heads.pointers)
        self._motion.start(heads.masks)
        self._masks = torch.cat([self._masks, heads.masks])
        area = int(affinity.areas(heads.masks))
        track = self._book.start(prompt, frame.index, 1.0, True, area, "added by hand")
        self._regroup()
        if asked is not None:
            self._asked[track] = asked
        return track

    def refine(self, track: int, points: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
        """Correct a track's mask on the frame tracked last, and with it all that follow.

        ``points`` (P, 2) pixels, ``labels`` (P,) 1 inside the object and 0 outside; those given before for the same
        frame still hold. Raises ConfigError for an id that is not tracked and for points that do not fit.
        """
        row, (frame, feature) = self._find("refine", track)
        asked = prompting.check_points("refine", self._segmenter, frame, (points, labels))
        if track in self._asked:
            asked = torch.cat([self._asked[track][0], asked[0]]), torch.cat([self._asked[track][1], asked[1]])
        this = slice(row, row + 1)
        prompted = self._bank.conditioned_on(row, self._clock - 1)
        memory = None if prompted else self._bank.recall(self._clock - 1).rows(this)
        heads = self._segmenter.correct(feature, asked[0][None], asked[1][None], self._masks[this], memory)
        self._bank.amend(row, self._clock - 1, self._segmenter.memorise(feature, heads)[0], heads.pointers[0])
        self._masks[this] = heads.masks
        self._asked[track] = asked
        area = int(affinity.areas(heads.masks))
        self._book.look(row, area > 0, frame.index)
        self._book.rows[row].area = area

    def remove(self, track: int) -> None:
        """End a track by hand. Raises ConfigError for an id that is not tracked."""
        row, (frame, _) = self._find("remove", track)
        self._end({row: "removed"}, frame.index)

    def _find(self, verb: str, track: int) -> tuple[int, tuple[Frame, FrameFeatures]]:
        """A track's row, and the last frame. Raises ConfigError, which names ``verb``, for an id that is not tracked."""
        row = self._book.row_of(track)
        if row is None or self._last is None:
            raise ConfigError(f"{verb}: no track {track}; tracked now: {', '.join(map(str, self.ids)) or 'none'}")
        return row, self._last

    def _look(self, feature: FrameFeatures) -> Heads:
        """Find the tracked objects on a frame."""
        if not self._bank.count:
            return self._segmenter.nothing()
        heads = self._segmenter.propagate(feature, self._bank.recall(self._clock))
        return self._gated(heads) if self._options.gate else heads

    def _gated(self, heads: Heads) -> Heads:
        """The heads without the masks that must not be believed."""
        expected, usual = self._motion.expected()
        heads = heads.without(gating.stolen(heads.masks, self._masks > 0) | gating.flooding(heads.masks, usual))
        centres, _ = self._motion.measure(heads.masks)
        radius = usual.sqrt()
        surprise = (centres - expected).norm(dim=1) / radius
        heads = heads.without(gating.converged(heads.masks, self._groups, surprise))
        distance = torch.cdist(expected, self._motion.places()) / radius[:, None]
        return heads._replace(masks=gating.shared_out(heads.masks, self._groups, distance))

    def _propagate(self, feature: FrameFeatures) -> Heads:
        heads = self._look(feature)
        self._memorise(feature, heads, torch.ones_like(heads.presence, dtype=torch.bool))
        self._motion.follow(heads.masks)
        return heads

    def _memorise(self, feature: FrameFeatures, heads: Heads, recent: torch.Tensor) -> torch.Tensor:
        """Encode the memories of B objects; the rows among them that ``recent`` (B,) names remember the frame."""
        if not len(heads.masks):
            return torch.zeros(0)
        memories = self._segmenter.memorise(feature, heads)
        rows = self._bank.count
        finite = memories.isfinite().flatten(1).all(1)
        store = recent & finite & ((heads.presence > 0) if self._options.gate else finite)
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
        self._motion.follow(tracked.masks)
        lost = {row for _, row in plan.reclaimed}
        for _, row in corrected:
            self._bank.recondition(row, self._clock, memories[row], heads.pointers[row], forget=row in lost)
            self._motion.restart(row, heads.masks[row])
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
            self._motion.start(heads.masks[rows:])
        areas = affinity.areas(heads.masks[rows:]).tolist()
        for prompt, score, area in zip(fresh.prompts.tolist(), fresh.scores.tolist(), areas, strict=True):
            self._book.start(prompt, frame.index, score, False, area, "detected")
        self._regroup()
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
        self._masks = self._masks[order]
        self._motion.reorder(order)
        self._regroup()
        return order

    def _regroup(self) -> None:
        """Tracks of one prompt are rivals for the same pixels; one added without a prompt has none."""
        first: dict[int, int] = {}
        groups = [r if t.prompt is None else first.setdefault(t.prompt, r) for r, t in enumerate(self._book.rows)]
        self._groups = torch.tensor(groups, dtype=torch.long).to(self._segmenter.device)

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
