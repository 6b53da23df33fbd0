"""The tracker of one stream: windows in, one Result per frame out; objects added, corrected and removed by hand."""

import time
from collections.abc import Collection, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from stages.errors import ConfigError
from stages.segmentation.base import Segmenter
from stages.segmentation.outputs import FrameFeatures, Heads
from stages.tracking import carried, keyframe, mask_ops, mask_prompts, snapshot
from stages.tracking.carried import Carried, Prompted
from stages.tracking.state import TrackerOptions as TrackerOptions  # part of the tracker's interface
from stages.tracking.state import TrackerState
from stages.transfer import Transfer, to_half
from stages.types import GRID, Detections, Frame, PastFrame, Result, Window

DEFAULT_OPTIONS = TrackerOptions()
MOST_PROMPTED = 8  # tracks whose mask on the frame of their last prompt is kept, for further points on that frame


class Tracker:
    """Follows the objects of one stream; its memory is bounded by ``max_objects``."""

    def __init__(self, segmenter: Segmenter, options: TrackerOptions = DEFAULT_OPTIONS, scale: float = 1.0) -> None:
        """``scale`` as in `rescale`."""
        self._full_size = segmenter  # for the model's own image size
        self._segmenter, self._options = segmenter.scaled(scale), options
        self._state = TrackerState(self._segmenter, options)
        self._last: Frame | None = None  # the frame tracked last, to which prompts by hand refer
        self._last_features: FrameFeatures | None = None  # of that frame; None until they are needed
        self._points: dict[int, mask_prompts.ModelPoints] = {}  # points given by hand on that frame, by track id
        self._prompted: dict[int, Prompted] = {}  # what tracks were last given by hand, by id; the newest few

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
        if window.frames[0].index <= self._state.frame:  # a new session counts from 0: its frames follow the last one
            self._state.renumber(-1 - self._state.frame)
        if not self._state.bank.count and not detections:
            return self._skip(window, detections)
        began = time.perf_counter()
        encoded = self._segmenter.encode([frame.image for frame in window.frames])
        encoded_at = time.perf_counter()
        heads: list[Heads] = []
        for number, (frame, features) in enumerate(zip(window.frames, encoded, strict=True)):
            if frame.cut and self._options.gate and self._options.reidentify:
                self._state.leave_view()
            if number == 0 and detections is not None:
                reidentify = self._options.reidentify
                heads.append(keyframe.update(self._state, self._segmenter, frame, features, detections, reidentify))
            else:
                heads.append(self._propagate(features))
            self._state.masks = heads[-1].masks
            self._state.clock += 1
        self._last, self._last_features, self._points = window.frames[-1], encoded[-1].copy(), {}
        self._state.frame = self._last.index
        results = self._results(window, heads, detections)
        results[0].seconds.update(encode=encoded_at - began, propagate=time.perf_counter() - encoded_at)
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
        ``mask`` (H, W). Raises ConfigError for a prompt outside the picture or of another shape, before the first
        frame, and when there is no free row.
        """
        if self._last is None:
            raise ConfigError("add: no frame has been tracked yet; add objects once frames arrive")
        self._check_room()
        state, frame, features = self._state, self._last, self._features_of(self._last)
        size = mask_prompts.size_of(frame)
        heads, used = mask_prompts.segment_by_hand(self._segmenter, size, features, box, points, mask)
        area, memories = int(mask_ops.areas(heads.masks)), self._segmenter.encode_memory(features, heads)
        state.start(state.clock - 1, features, heads, memories)
        track = state.table.start(prompt, frame.index, 1.0, True, area, "added by hand")
        state.update_rivals()
        if used is not None:
            self._points[track] = used
        self._note(track, Prompted(frame.index, heads.masks, used))
        return track

    @torch.inference_mode()
    def refine(self, track: int, points: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
        """Correct a track's mask on the frame tracked last; later masks follow from the corrected one.

        ``points`` (P, 2) pixels, ``labels`` (P,) 1 inside the object and 0 outside. They are added to the points given
        before for the same frame. Raises ConfigError for an id that is not tracked and for points that do not fit.
        """
        row, frame = self._row("refine", track), self._last
        if frame is None:
            raise ConfigError("refine: no frame has been tracked yet since the tracker was restored; try again then")
        features = self._features_of(frame)
        size = mask_prompts.size_of(frame)
        used = mask_prompts.check_points("refine", self._segmenter, size, (points, labels), self._points.get(track))
        rows, clock, bank = slice(row, row + 1), self._state.clock - 1, self._state.bank
        memory = None if bank.is_conditioned_on(row, clock) else bank.stored(clock, [row]).tokens
        heads = self._segmenter.correct(features, used[0][None], used[1][None], self._state.masks[rows], memory)
        bank.replace(row, clock, self._segmenter.encode_memory(features, heads)[0], heads.pointers[0])
        self._state.masks[rows] = heads.masks
        self._points[track] = used
        self._note(track, Prompted(frame.index, heads.masks, used))
        self._state.table.record_correction(row, frame.index, int(mask_ops.areas(heads.masks)))

    @torch.inference_mode()
    def add_on(
        self,
        past: PastFrame,
        prompt: int | None = None,
        *,
        box: NDArray[np.float32] | None = None,
        points: tuple[NDArray[np.float32], NDArray[np.int64]] | None = None,
        mask: NDArray[np.bool_] | None = None,
    ) -> Carried:
        """Find an object on a past frame; `carry` it to the frame tracked last and `join` it to the tracks there.

        Prompts and errors as of `add`.
        """
        self._check_room()
        features, segmenter = self._segmenter.encode([past.image])[0].copy(), self._segmenter
        heads, used = mask_prompts.segment_by_hand(segmenter, past.size, features, box, points, mask)
        prompted = Prompted(past.index, heads.masks, used)
        clock = self._state.clock - 1 - past.ago
        return Carried.begun(segmenter, self._options, clock, features, heads, prompted, prompt)

    @torch.inference_mode()
    def refine_on(
        self,
        past: PastFrame,
        track: int,
        points: NDArray[np.float32],
        labels: NDArray[np.int64],
        mask: NDArray[np.bool_] | None,
    ) -> Carried:
        """Correct a track's mask on a past frame; `carry` and `join` let it go on from there.

        ``mask``: its mask on that frame (H, W); None where it had none, and needs a point inside. If the track was
        prompted on that very frame, its mask and points of then count instead. Errors as of `refine`.
        """
        row, before = self._row("refine", track), self._prompted.get(track)
        segmenter, masks = self._segmenter, None if mask is None else carried.logits_of(self._segmenter, mask)
        if before is None or before.frame != past.index:
            before = Prompted(past.index, segmenter.empty_heads().masks, None)
        else:
            masks = before.masks
        used = mask_prompts.check_points("refine", segmenter, past.size, (points, labels), before.points)
        if masks is None and not (used[1] > 0).any():
            raise ConfigError(f"refine: track {track} has no mask on frame {past.index}; begin with a point inside it")
        features = segmenter.encode([past.image])[0].copy()
        heads = carried.correct(segmenter, features, used, masks)
        prompted, clock = Prompted(past.index, heads.masks, used), self._state.clock - 1 - past.ago
        return Carried.corrected(segmenter, self._options, clock, features, heads, prompted, self._state, row)

    @torch.inference_mode()
    def carry(self, one: Carried, frames: Sequence[PastFrame]) -> None:
        """Find an object on the next past frames, oldest first; the frame tracked last, if given, ends them."""
        one.state.rescale(self._segmenter)
        images = [past.image for past in frames if past.ago]
        encoded = self._segmenter.encode(images) if images else []
        if self._last is not None and not frames[-1].ago:
            encoded = [*encoded, self._features_of(self._last)]
        clocks = [self._state.clock - 1 - past.ago for past in frames]
        one.follow(self._segmenter, list(zip(clocks, [past.cut for past in frames], encoded, strict=True)))

    @torch.inference_mode()
    def join(self, one: Carried) -> int:
        """Add an object that was carried to the frame tracked last to the tracks, or correct its track; returns the id.

        An object by points that turns out to be tracked already is not added: the id is that of its track. Raises
        ConfigError when there is no free row, and for a track that has ended meanwhile, or that is in sight while the
        corrected object was lost on the way.
        """
        state = self._state
        if one.track is not None:
            self._correct(self._row("refine", one.track), one)
            track = one.track
        else:
            twin = one.twin(state.masks) if one.by_points else None
            if twin is not None:
                return state.table.rows[twin].id
            self._check_room()
            record = one.state.table.rows[0]
            state.adopt(one.state, 0)
            track = state.table.start(record.prompt, state.frame, 1.0, True, one.area, "added by hand")
            state.table.rows[-1].away = record.away
            state.update_rivals()
        if one.prompted.masks.shape[1:] == state.masks.shape[1:]:  # else the image size has changed on the way
            self._note(track, one.prompted)
        return track

    @torch.inference_mode()
    def remove(self, track: int) -> None:
        """End a track by hand. Raises ConfigError for an id that is not tracked."""
        self._state.end({self._row("remove", track): "removed"}, self._state.frame)

    @torch.inference_mode()
    def forget(self, prompts: Collection[int]) -> None:
        """End the tracks of some prompts; the next result has their events."""
        ending = {
            row: "prompt removed" for row, record in enumerate(self._state.table.rows) if record.prompt in prompts
        }
        self._state.end(ending, self._state.frame)

    @torch.inference_mode()
    def resize(self, max_objects: int) -> None:
        """Change the number of objects that can be tracked; memory that is no longer needed is freed.

        When there are more tracks than that, some end: those out of sight for longest, then those with the lowest
        scores; the next result has their events. The masks of the others do not change.
        """
        if max_objects != self._state.bank.capacity:
            self._state.resize(max_objects, self._state.frame)

    @torch.inference_mode()
    def rescale(self, scale: float) -> None:
        """Change the image size to ``scale`` times the model's own: less detail for less time and memory.

        Tracks keep their ids and records. Visible ones are prompted again with their last masks, on the last frame; the
        memories of the others are resampled. ``nbytes`` changes with the square of the size.
        """
        segmenter = self._full_size.scaled(scale)
        if segmenter is self._segmenter:
            return
        features = None
        if self._last is not None and self._state.bank.count:
            # first, because it needs memory: if it fails, nothing has changed yet
            features = segmenter.encode([self._last.image])[0].copy()
        ratio = segmenter.image_size / self._segmenter.image_size
        rescaled = {track: (points * ratio, labels) for track, (points, labels) in self._points.items()}
        self._state.rescale(segmenter)
        self._segmenter, self._last_features, self._points, self._prompted = segmenter, features, rescaled, {}
        if features is not None:
            self._state.condition_on_last_masks(features)

    @torch.inference_mode()
    def snapshot(self, full: bool = True) -> bytes:
        """The state between two windows, for `restore` on any device and in any precision.

        Ids, motion and the gallery go on in both kinds. With ``full`` masks go on, too, to the bit where device and
        precision are the same. Without, each object has the newest of its recent memories only, a third of the bytes or
        less; the masks of the next frames may differ. The picture of the last frame is not kept.
        """
        return snapshot.dump(self._state.state_dict(full), self._full_size, self._segmenter.image_size)

    @torch.inference_mode()
    def restore(self, data: bytes) -> None:
        """Go on from a `snapshot` in place of what has been tracked so far.

        Options and image size stay those of this tracker: memories of another size are resampled, and if there are more
        tracks than ``max_objects``, some end as by `resize`. Tracks keep the numbers of their prompts, so the caller
        must give each prompt the number that it had. Frames may be numbered from 0 again. Prompts by hand refer to the
        next frame. Raises SnapshotError, and nothing has changed, for a snapshot of another model or version, and for
        damaged bytes. If memory runs out, nothing is tracked any more.
        """
        state, at_size = snapshot.load(data, self._full_size)
        self._state.rescale(at_size)
        try:
            self._state.load_state_dict(state)
        finally:
            self._state.rescale(self._segmenter)
        self._last, self._last_features, self._points, self._prompted = None, None, {}, {}

    def skip_ids(self, count: int) -> None:
        """Give none of the next ``count`` ids: they may have been given after the snapshot that was restored."""
        self._state.table.skip_ids(count)

    def _features_of(self, last: Frame) -> FrameFeatures:
        """The features of the last frame, encoded if they are not there yet."""
        if self._last_features is None:
            self._last_features = self._segmenter.encode([last.image])[0].copy()
        return self._last_features

    def _correct(self, row: int, one: Carried) -> None:
        """Let a row go on as its corrected object, which has come to the last frame. Errors as of `join`."""
        state, area = self._state, int(mask_ops.areas(one.masks))
        if not area and int(mask_ops.areas(state.masks[row : row + 1])):
            raise ConfigError(
                f"refine: track {one.track} as corrected was lost on the way from frame {one.prompted.frame}, and it"
                " has a mask now; point at a newer picture"
            )
        state.overwrite(row, one.state)
        if area:
            state.table.record_correction(row, state.frame, area)
        else:
            state.table.rows[row].away = one.state.table.rows[0].away

    def _note(self, track: int, prompted: Prompted) -> None:
        """Keep what a track was given, as the newest."""
        self._prompted.pop(track, None)
        self._prompted[track] = prompted
        while len(self._prompted) > MOST_PROMPTED:
            del self._prompted[next(iter(self._prompted))]

    def _check_room(self) -> None:
        """Raises ConfigError when there is no free row."""
        if not self._state.free_rows:
            places = self._state.bank.capacity
            raise ConfigError(f"add: all {places} places are taken; raise max_objects or remove an object")

    def _row(self, verb: str, track: int) -> int:
        """A track's row. Raises ConfigError, naming ``verb``, for an id that is not tracked."""
        row = self._state.table.row_of(track)
        if row is None:
            raise ConfigError(f"{verb}: no track {track}; tracked now: {', '.join(map(str, self.ids)) or 'none'}")
        return row

    def _skip(self, window: Window, detections: Detections | None) -> list[Result]:
        """Results without objects. No frame is encoded; the last one is later, if an object is added by hand."""
        heads = [self._segmenter.empty_heads()] * len(window.frames)
        self._state.clock += len(heads)
        self._last, self._last_features, self._points = window.frames[-1], None, {}
        self._state.frame = self._last.index
        return self._results(window, heads, detections)

    def _propagate(self, features: FrameFeatures) -> Heads:
        heads = self._state.propagate(features)
        self._state.store_memories(features, heads, torch.ones_like(heads.presence, dtype=torch.bool))
        return heads

    def _results(self, window: Window, heads: list[Heads], detections: Detections | None) -> list[Result]:
        """Build every frame's result. The masks' way to the host begins, but only those who read them wait for it."""
        masks = torch.stack([each.masks for each in heads])
        if self._segmenter.device.type != "cpu" and self._segmenter.dtype != torch.float32:
            masks = to_half(masks)  # the model has rounded more than that
        presence, areas, coverage = self._read_small(torch.stack([each.presence for each in heads]).sigmoid(), masks)
        transfer = Transfer.begin(masks)
        table, results = self._state.table, []
        for number, frame in enumerate(window.frames):
            for row, area in enumerate(areas[number]):
                table.record_visibility(row, area > 0, frame.index)
            tracks = tuple(record.as_track(p) for record, p in zip(table.rows, presence[number], strict=True))
            if number + 1 == len(heads):
                self._state.end(self._state.lost_rows(frame.index), frame.index)
            first = number == 0
            events, found = table.take_events(), detections if first else None
            keyframe, logits, seen = window.keyframe and first, transfer.part(number), tuple(areas[number])
            shown = coverage[number]
            results.append(Result(frame, window.epoch, keyframe, tracks, logits, events, found, None, seen, shown))
        return results

    def _read_small(
        self, presence: torch.Tensor, masks: torch.Tensor
    ) -> tuple[list[list[float]], list[list[int]], NDArray[np.uint8]]:
        """Presence (T, N), areas (T, N) and coverage (T, GRID, GRID) of T frames of N objects.

        They are read in one transfer with what the bank has stored.
        """
        inside, written = masks > 0, self._state.bank.written()
        parts = presence.double(), inside.flatten(2).sum(2), mask_ops.coverage(masks)
        read = torch.cat([*(part.flatten() for part in parts), written]).cpu()
        presence, areas, coverage, written = read.split([*(part.numel() for part in parts), len(written)])
        self._state.bank.sync_counts(written.long().tolist())
        shape = masks.shape[:2]
        return (
            presence.view(shape).tolist(),
            areas.view(shape).long().tolist(),
            coverage.view(-1, GRID, GRID).to(torch.uint8).numpy(),
        )
