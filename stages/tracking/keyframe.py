"""A keyframe: detections confirm tracks, correct them, bring lost ones back, end some and start others."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from stages.segmentation.base import Segmenter
from stages.segmentation.outputs import FrameFeatures, Heads, joined
from stages.tracking import association, cues, mask_ops, mask_prompts
from stages.tracking.state import TrackerState
from stages.tracking.track_table import TrackRecord
from stages.types import Detections, Frame

DRIFTED = 0.7  # a matched track whose mask overlaps its detection's by less is prompted again
UNDETECTED = 3  # keyframes in a row on which a visible track may go without a detection
UNCONFIRMED = 2  # the same for a track that only one keyframe has seen
PATIENCE = 60  # frames for which a confirmed one may, however close the keyframes are
COVERED = 0.8  # share of a detection's mask that lies in another's when they are one object, or part and whole
REPAINT = 0.2  # how fast a track's colour follows that of its detections
FIRST_VIEWS = 3  # detections of which a track's colour is the mean, whatever they look like
SHRUNK = 0.35  # share of its size when last detected below which a mask is only what is left of its object


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """One keyframe: what its D detections show, and where the N tracks are."""

    detections: Detections
    found: Heads  # D
    colours: torch.Tensor  # (D, 3)
    tracked: Heads  # N
    overlap: NDArray[np.float32]  # (D, N) IoU of masks and boxes
    areas: list[int]  # of the detections' masks, D, in pixels
    sizes: NDArray[np.float32]  # of the tracks' masks, (N,)


def observe(
    state: TrackerState,
    segmenter: Segmenter,
    frame: Frame,
    feature: FrameFeatures,
    detections: Detections,
    reidentify: bool,
) -> Heads:
    """Track the state's objects on a keyframe and put its detections to use; returns the heads of all rows then."""
    seen = _see(state, segmenter, frame, feature, detections)
    evidence = _evidence(state, seen)
    plan = association.plan(evidence, reidentify)
    ending = _undetected(state, plan, seen.sizes, frame)
    starting = _find_places(state, plan, seen, ending)
    back = {d: state.gallery.records[g] for d, g in plan.recalled if d in starting}
    for record in back.values():
        state.gallery.forget(record)  # now: those that end below may need the room
    known = {d: state.table.rows[row].id for d, row in plan.matched + plan.reclaimed}
    heads = joined([seen.tracked, seen.found.take(starting)])
    memories = _correct(state, plan, evidence, seen, feature, heads, frame)
    rows = state.bank.count
    order = state.end(ending, frame.index) + list(range(rows, len(heads.masks)))
    if starting:
        state.start(state.clock, feature, heads.take(slice(rows, None)), memories[rows:])
        _write_records(state, seen, starting, back, frame)
    started = dict(zip(starting, (record.id for record in state.table.rows[len(order) - len(starting) :]), strict=True))
    _note_shared(state, seen, known, started)
    state.find_rivals()
    return heads.take(order)


def _see(
    state: TrackerState, segmenter: Segmenter, frame: Frame, feature: FrameFeatures, detections: Detections
) -> _Seen:
    tracked = state.find(feature)
    detections, found = mask_prompts.segment_detections(segmenter, frame, feature, detections, 2 * state.bank.capacity)
    return _Seen(
        detections,
        found,
        cues.colours(feature.picture, found.masks),
        tracked,
        mask_ops.on_host(mask_ops.overlap(found.masks, tracked.masks)),
        mask_ops.areas(found.masks).tolist(),
        mask_ops.on_host(mask_ops.areas(tracked.masks)),
    )


def _evidence(state: TrackerState, seen: _Seen) -> association.Evidence:
    records, gone = state.table.rows, state.gallery.records
    prompts = np.array([-1 if record.prompt is None else record.prompt for record in [*records, *gone]], np.int64)
    ours = prompts[: len(records)]
    before = np.array([record.area for record in records], np.float32)
    whole = seen.sizes > SHRUNK * before
    expected, usual = state.cues.expected()
    centres, _ = state.cues.measure(seen.found.masks)
    near = mask_ops.on_host(torch.exp(-torch.cdist(centres, expected) / usual.sqrt()))
    likeness = cues.likeness(seen.colours, state.cues.colours), state.gallery.likeness(seen.colours)
    between = mask_ops.on_host(mask_ops.mask_iou(seen.tracked.masks, seen.tracked.masks))
    return association.Evidence(
        same_prompt=seen.detections.prompts[:, None] == prompts[None],
        overlap=seen.overlap,
        near=np.where(whole, 0, near),
        likeness=mask_ops.on_host(torch.cat(likeness, dim=1)),
        between=np.where(ours[:, None] == ours[None], between, 0),
        whole=whole,
    )


def _correct(
    state: TrackerState,
    plan: association.Plan,
    evidence: association.Evidence,
    seen: _Seen,
    feature: FrameFeatures,
    heads: Heads,
    frame: Frame,
) -> torch.Tensor:
    """Confirm tracks, and prompt those anew whose mask is elsewhere; writes the corrected rows of ``heads``."""
    drifted = [(d, row) for d, row in plan.matched if seen.overlap[d, row] < DRIFTED]
    corrected, lost = drifted + plan.reclaimed, {row for _, row in plan.reclaimed}
    recent = torch.ones_like(heads.presence, dtype=torch.bool)
    for d, row in corrected:
        for old, new in zip(heads, seen.found, strict=True):
            old[row] = new[d]
        recent[row] = False
    memories = state.remember(feature, heads, recent)
    for _, row in corrected:
        state.bank.recondition(row, state.clock, memories[row], heads.pointers[row], forget=row in lost)
        state.cues.correct(row, heads.masks[row], elsewhere=row in lost)
    for d, row in plan.matched + plan.reclaimed:
        record = state.table.rows[row]
        if record.views < FIRST_VIEWS or evidence.looks_itself(d, row):
            state.cues.repaint(row, seen.colours[d], max(REPAINT, 1 / (record.views + 1)))
        area = seen.areas[d] if (d, row) in corrected else int(seen.sizes[row])
        state.table.detected(row, float(seen.detections.scores[d]), frame.index, area, returned=row in lost)
    return memories


def _undetected(
    state: TrackerState, plan: association.Plan, sizes: NDArray[np.float32], frame: Frame
) -> dict[int, str]:
    """Rows of the tracks that this keyframe speaks against, and why they end."""
    held = plan.continued
    ending = dict.fromkeys(plan.displaced, "displaced")
    for row, record in enumerate(state.table.rows):
        if row in held or row in ending or not sizes[row] or record.prompt is None:
            continue
        record.misses += 1
        if not record.confirmed and record.misses >= UNCONFIRMED:
            ending[row] = "unconfirmed"
        elif record.misses >= UNDETECTED and frame.index - record.detected_at >= PATIENCE:
            ending[row] = "undetected"
    return ending


def _find_places(state: TrackerState, plan: association.Plan, seen: _Seen, ending: dict[int, str]) -> list[int]:
    """The detections that get a new place, best first; the least useful tracks out of sight may end for them."""
    new = plan.fresh + [d for d, _ in plan.recalled]
    best_first = sorted(new, key=lambda d: -float(seen.detections.scores[d]))
    kept = plan.continued | ending.keys()
    out_of_sight = [row for row in state.table.by_use() if row not in kept and not seen.sizes[row]]
    free = state.free + len(ending)
    evicted = out_of_sight[: max(0, len(best_first) - free)]
    ending |= dict.fromkeys(evicted, "max_objects")
    return best_first[: free + len(evicted)]


def _write_records(
    state: TrackerState, seen: _Seen, starting: list[int], back: dict[int, TrackRecord], frame: Frame
) -> None:
    """The records of the rows that have just been started: new ones, and those of tracks that have come back."""
    for d in starting:
        score, area = float(seen.detections.scores[d]), seen.areas[d]
        if d in back:
            state.table.resume(back[d], frame.index, score, area)
        else:
            state.table.start(int(seen.detections.prompts[d]), frame.index, score, False, area, "detected")


def _note_shared(state: TrackerState, seen: _Seen, known: dict[int, int], started: dict[int, int]) -> None:
    """Tell the state which tracks of different prompts their detections, {index: track id}, show on one object."""
    inside = mask_ops.on_host(mask_ops.inside(seen.found.masks, seen.found.masks))
    prompts, tracks = seen.detections.prompts, sorted((known | started).items(), key=lambda pair: pair[1])
    overlapping = {
        (first, second): bool(max(inside[d, other], inside[other, d]) >= COVERED)
        for number, (d, first) in enumerate(tracks)
        for other, second in tracks[number + 1 :]
        if prompts[d] != prompts[other]
    }
    state.note_shared(overlapping, set(started.values()))
