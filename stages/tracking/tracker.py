"""The tracker of one stream: windows in, one Result per frame out; objects added, corrected and removed by hand."""

import time
from collections.abc import Collection

import numpy as np
import torch
from numpy.typing import NDArray

from stages.errors import ConfigError
from stages.segmentation.base import Segmenter
from stages.segmentation.outputs import FrameFeatures, Heads
from stages.tracking import keyframe, mask_ops, mask_prompts
from stages.tracking.state import TrackerOptions as TrackerOptions  # part of the tracker's interface
from stages.tracking.state import TrackerState
from stages.types import Detections, Frame, Result, Window

DEFAULT_OPTIONS = TrackerOptions()


class Tracker:
    """Follows the objects of one stream; its memory is bounded by ``max_objects``."""

    def __init__(self, segmenter: Segmenter, options: TrackerOptions = DEFAULT_OPTIONS, scale: float = 1.0) -> None:
        """``scale`` as in `rescale`."""
        self._whole = segmenter  # for pictures of the model's own size
        self._segmenter, self._options = segmenter.scaled(scale), options
        self._state = TrackerState(self._segmenter, options)
        self._last: Frame | None = None  # which prompts by hand refer to
        self._feature: FrameFeatures | None = None  # of the last frame, unless nobody has needed it
        self._asked: dict[int, mask_prompts.ModelPoints] = {}  # the points given by hand on the last frame, by id

    @property
    def nbytes(self) -> int:
        """Bytes of memory held for objects, the same after any number of frames."""
        return self._state.nbytes

    @property
    def ids(self) -> tuple[int, ...]:
        """The ids of the objects being tracked."""
        return tuple(record.id for record in self._state.table.rows)

    @torch.inference_mode()
    def step(self, window: Window, detections: Detections | None) -> list[Result]:
        """Track a window's frames; ``detections`` belong to its first. One Result per frame, in order."""
        if not self._state.bank.count and not detections:
            return self._pass(window, detections)
        began = time.perf_counter()
        features = self._segmenter.encode([frame.image for frame in window.frames])
        encoded = time.perf_counter()
        seen: list[Heads] = []
        for number, (frame, feature) in enumerate(zip(window.frames, features, strict=True)):
            if number == 0 and detections is not None:
                reidentify = self._options.reidentify
                seen.append(keyframe.observe(self._state, self._segmenter, frame, feature, detections, reidentify))
            else:
                seen.append(self._propagate(feature))
            self._state.masks = seen[-1].masks
            self._state.clock += 1
        self._last, self._feature, self._asked = window.frames[-1], features[-1].alone(), {}
        results = self._conclude(window, seen, detections)
        results[0].seconds.update(encode=encoded - began, propagate=time.perf_counter() - encoded)
        return results

    @torch.inference_mode()
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
        state = self._state
        if not state.free:
            places = state.bank.capacity
            raise ConfigError(f"add: all {places} places are taken; raise max_objects or remove an object")
        frame, feature = self._last, self._look(self._last)
        heads, asked = mask_prompts.segment_by_hand(self._segmenter, frame, feature, box, points, mask)
        area, memories = int(mask_ops.areas(heads.masks)), self._segmenter.memorise(feature, heads)
        state.start(state.clock - 1, feature, heads, memories)
        track = state.table.start(prompt, frame.index, 1.0, True, area, "added by hand")
        state.find_rivals()
        if asked is not None:
            self._asked[track] = asked
        return track

    @torch.inference_mode()
    def refine(self, track: int, points: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
        """Correct a track's mask on the frame tracked last, and with it all that follow.

        ``points`` (P, 2) pixels, ``labels`` (P,) 1 inside the object and 0 outside; those given before for the same
        frame still hold. Raises ConfigError for an id that is not tracked and for points that do not fit.
        """
        row, frame = self._find("refine", track)
        feature = self._look(frame)
        asked = mask_prompts.check_points("refine", self._segmenter, frame, (points, labels))
        if track in self._asked:
            asked = torch.cat([self._asked[track][0], asked[0]]), torch.cat([self._asked[track][1], asked[1]])
        this, moment, bank = slice(row, row + 1), self._state.clock - 1, self._state.bank
        memory = None if bank.conditioned_on(row, moment) else bank.recall(moment).rows(this)
        before = self._state.masks[this]
        heads = self._segmenter.correct(feature, asked[0][None], asked[1][None], before, memory)
        bank.amend(row, moment, self._segmenter.memorise(feature, heads)[0], heads.pointers[0])
        self._state.masks[this] = heads.masks
        self._asked[track] = asked
        self._state.table.corrected(row, frame.index, int(mask_ops.areas(heads.masks)))

    @torch.inference_mode()
    def remove(self, track: int) -> None:
        """End a track by hand. Raises ConfigError for an id that is not tracked."""
        row, frame = self._find("remove", track)
        self._state.end({row: "removed"}, frame.index)

    @torch.inference_mode()
    def forget(self, prompts: Collection[int]) -> None:
        """End the tracks of some prompts; the next result has their events."""
        ending = {
            row: "prompt removed" for row, record in enumerate(self._state.table.rows) if record.prompt in prompts
        }
        self._state.end(ending, self._last.index if self._last else 0)

    @torch.inference_mode()
    def resize(self, max_objects: int) -> None:
        """Have places for ``max_objects``; the memory of those that are gone is freed.

        Where they no longer suffice the least useful tracks end, out of sight for longest, then of the lowest score;
        the next result has their events. The others go on as if nothing had been.
        """
        if max_objects != self._state.bank.capacity:
            self._state.resize(max_objects, self._last.index if self._last else 0)

    @torch.inference_mode()
    def rescale(self, scale: float) -> None:
        """Go on with pictures of ``scale`` times the model's own input size, less detail for less time and memory.

        Tracks keep their ids and records. Those in sight are prompted again with their last masks, on the last frame;
        what is remembered of the others is resampled. ``nbytes`` changes with the square of the size.
        """
        segmenter = self._whole.scaled(scale)
        if segmenter is self._segmenter:
            return
        feature = None
        if self._last is not None and self._state.bank.count:
            # first what takes memory: where there is none, nothing has changed
            feature = segmenter.encode([self._last.image])[0].alone()
        ratio = segmenter.image_size / self._segmenter.image_size
        asked = {track: (points * ratio, labels) for track, (points, labels) in self._asked.items()}
        self._state.rescale(segmenter)
        self._segmenter, self._feature, self._asked = segmenter, feature, asked
        if feature is not None:
            self._state.prompt_again(feature)

    def _look(self, frame: Frame) -> FrameFeatures:
        """The features of the last frame."""
        if self._feature is None:
            self._feature = self._segmenter.encode([frame.image])[0].alone()
        return self._feature

    def _find(self, verb: str, track: int) -> tuple[int, Frame]:
        """A track's row, and the last frame. Raises ConfigError, naming ``verb``, for an id that is not tracked."""
        row = self._state.table.row_of(track)
        if row is None or self._last is None:
            raise ConfigError(f"{verb}: no track {track}; tracked now: {', '.join(map(str, self.ids)) or 'none'}")
        return row, self._last

    def _pass(self, window: Window, detections: Detections | None) -> list[Result]:
        """Nothing is tracked and nothing was detected: no frame is encoded, unless an object is added to the last."""
        seen = [self._segmenter.nothing()] * len(window.frames)
        self._state.clock += len(seen)
        self._last, self._feature, self._asked = window.frames[-1], None, {}
        return self._conclude(window, seen, detections)

    def _propagate(self, feature: FrameFeatures) -> Heads:
        heads = self._state.find(feature)
        self._state.remember(feature, heads, torch.ones_like(heads.presence, dtype=torch.bool))
        return heads

    def _conclude(self, window: Window, seen: list[Heads], detections: Detections | None) -> list[Result]:
        """Bring everything to the host in one transfer each and write every frame's result."""
        presence = torch.stack([heads.presence for heads in seen]).sigmoid().tolist()
        masks = torch.stack([heads.masks for heads in seen]).cpu()
        visible = (masks > 0).flatten(2).any(2).tolist()
        self._state.bank.settle()
        table, results = self._state.table, []
        for number, frame in enumerate(window.frames):
            for row, is_visible in enumerate(visible[number]):
                table.look(row, is_visible, frame.index)
            tracks = tuple(record.as_track(p) for record, p in zip(table.rows, presence[number], strict=True))
            if number + 1 == len(seen):
                self._state.end(self._state.lost(frame.index), frame.index)
            first = number == 0
            events, found = table.take_events(), detections if first else None
            results.append(Result(frame, window.epoch, window.keyframe and first, tracks, masks[number], events, found))
        return results
