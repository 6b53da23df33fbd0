"""Keyframe update: match detections with tracks, correct drifted tracks, end some tracks and start others."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from stages.segmentation.base import Segmenter
from stages.segmentation.outputs import FrameFeatures, Heads, concatenate
from stages.tracking import association, cues, mask_ops, mask_prompts
from stages.tracking.identity import looks
from stages.tracking.identity.learning import Comparison, compare, learn
from stages.tracking.identity.views import Views
from stages.tracking.state import TrackerState
from stages.tracking.track_table import TrackRecord
from stages.types import Detections, Frame

DRIFT_OVERLAP = 0.7  # a matched track whose mask overlaps its detection's by less is prompted again
MAX_MISSES = 3  # a visible confirmed track ends after this many keyframes in a row without a detection
MIN_UNDETECTED_FRAMES = 60  # and this many frames since its last detection: keyframes may be close together
MAX_MISSES_UNCONFIRMED = 2  # a track that only one keyframe has detected ends after this many keyframes
COVERED_SHARE = 0.8  # two detections show one object, or part and whole, if the one covers this share of the other
COLOUR_RATE = 0.2  # how fast a track's colour follows that of its detections
FIRST_VIEWS = 3  # a track's colour is the mean of this many first detections, whatever their colour
WHOLE_SHARE = 0.35  # a mask of at most this share of the area when last detected shows only a part of its object


@dataclass(frozen=True, slots=True, eq=False)
class _Observation:
    """D detections and N tracks, both segmented on one keyframe."""

    detections: Detections
    found: Heads  # of the detections
    colours: torch.Tensor  # of the detections, (D, 3)
    looks: torch.Tensor  # of the detections
    compared: Comparison  # of the looks with those of tracks and ended tracks
    tracked: Heads  # of the tracks
    overlap: NDArray[np.float32]  # (D, N) mean IoU of masks and boxes
    areas: list[int]  # of the detections' masks, D, in pixels
    track_areas: NDArray[np.float32]  # of the tracks' masks, (N,)


def update(
    state: TrackerState,
    segmenter: Segmenter,
    frame: Frame,
    features: FrameFeatures,
    detections: Detections,
    reidentify: bool,
) -> Heads:
    """Track the objects on a keyframe and update them with its detections; returns the heads of all rows afterwards."""
    seen = _observe(state, segmenter, frame, features, detections)
    away = np.array([record.away for record in state.table.rows], bool)
    evidence = _evidence(state, seen, away)
    matches = association.associate(evidence, reidentify)
    learn(state.trust, evidence, matches, seen.compared, ~away)
    ending = _tracks_to_end(state, matches, seen.track_areas, frame)
    starting = _detections_to_start(state, matches, seen, ending)
    returning = {d: state.gallery.records[g] for d, g in matches.reidentified if d in starting}
    views = _views_of(state, matches, seen, starting)
    for record in returning.values():
        state.gallery.remove(record)  # before tracks end below, because these may need the room
    matched_ids = {d: state.table.rows[row].id for d, row in matches.matched + matches.relocated}
    heads = concatenate([seen.tracked, seen.found.take(starting)])
    memories = _update_matched(state, matches, evidence, seen, features, heads, frame)
    rows = state.bank.count
    order = state.end(ending, frame.index) + list(range(rows, len(heads.masks)))
    if starting:
        state.start(state.clock, features, heads.take(slice(rows, None)), memories[rows:], views)
        _add_records(state, seen, starting, returning, frame)
    new_records = state.table.rows[len(order) - len(starting) :]
    started_ids = dict(zip(starting, (record.id for record in new_records), strict=True))
    _record_overlaps(state, seen, matched_ids, started_ids)
    state.update_rivals()
    return heads.take(order)


def _observe(
    state: TrackerState, segmenter: Segmenter, frame: Frame, features: FrameFeatures, detections: Detections
) -> _Observation:
    tracked = state.propagate(features)
    most = 2 * state.bank.capacity
    detections, found = mask_prompts.segment_detections(segmenter, frame, features, detections, most)
    described = looks.describe(segmenter, features, found.masks)
    known = state.cues.views.and_also(state.gallery.views)
    return _Observation(
        detections,
        found,
        cues.median_colours(features.picture, found.masks),
        described,
        compare(described, known, state.parts, state.trust),
        tracked,
        mask_ops.to_numpy(mask_ops.overlap(found.masks, tracked.masks)),
        mask_ops.areas(found.masks).tolist(),
        mask_ops.to_numpy(mask_ops.areas(tracked.masks)),
    )


def _evidence(state: TrackerState, seen: _Observation, away: NDArray[np.bool_]) -> association.Evidence:
    records, ended = state.table.rows, state.gallery.records
    prompts = np.array([-1 if record.prompt is None else record.prompt for record in [*records, *ended]], np.int64)
    track_prompts = prompts[: len(records)]
    detected_areas = np.array([record.area for record in records], np.float32)
    whole = seen.track_areas > WHOLE_SHARE * detected_areas
    predicted, usual_areas = state.cues.predict()
    centres, _ = state.cues.centres_and_areas(seen.found.masks)
    proximity = mask_ops.to_numpy(torch.exp(-torch.cdist(centres, predicted) / usual_areas.sqrt()))
    track_overlap = mask_ops.to_numpy(mask_ops.mask_iou(seen.tracked.masks, seen.tracked.masks))
    return association.Evidence(
        same_prompt=seen.detections.prompts[:, None] == prompts[None],
        overlap=seen.overlap,
        proximity=np.where(whole | away, 0, proximity),
        likeness=seen.compared.likeness,
        track_overlap=np.where(track_prompts[:, None] == track_prompts[None], track_overlap, 0),
        whole=whole,
        worth=state.trust.motion_ratio(),
    )


def _views_of(state: TrackerState, matches: association.Matches, seen: _Observation, starting: list[int]) -> Views:
    """The views of the rows that will start: of this frame, and those that the gallery has of tracks that return."""
    views, ended = Views.first(seen.looks[starting], state.clock), dict(matches.reidentified)
    for row, d in enumerate(starting):
        if d in ended:
            views.put(row, state.gallery.views, ended[d])
            views.see(row, seen.looks[d], state.clock, None)
    return views


def _update_matched(
    state: TrackerState,
    matches: association.Matches,
    evidence: association.Evidence,
    seen: _Observation,
    features: FrameFeatures,
    heads: Heads,
    frame: Frame,
) -> torch.Tensor:
    """Confirm the tracks that have a detection, and condition those on it whose mask has drifted or is elsewhere.

    Replaces the rows of the latter in ``heads``; returns the memories of all ``heads``.
    """
    drifted = [(d, row) for d, row in matches.matched if seen.overlap[d, row] < DRIFT_OVERLAP]
    corrected, relocated = drifted + matches.relocated, {row for _, row in matches.relocated}
    recent = torch.ones_like(heads.presence, dtype=torch.bool)
    for d, row in corrected:
        for tracked, found in zip(heads, seen.found, strict=True):
            tracked[row] = found[d]
        recent[row] = False
    memories = state.store_memories(features, heads, recent)
    for _, row in corrected:
        clear = row in relocated  # its recent memories are of something else
        state.bank.set_conditioning(row, state.clock, memories[row], heads.pointers[row], clear)
        state.cues.correct(row, heads.masks[row], relocated=row in relocated)
    for d, row in matches.matched + matches.relocated:
        record = state.table.rows[row]
        if record.views < FIRST_VIEWS or evidence.most_like(d, row):
            state.cues.blend_colour(row, seen.colours[d], max(COLOUR_RATE, 1 / (record.views + 1)))
            state.cues.views.see(row, seen.looks[d], state.clock, seen.compared.like(d, row, state.trust))
        area = seen.areas[d] if (d, row) in corrected else int(seen.track_areas[row])
        score = float(seen.detections.scores[d])
        state.table.record_detection(row, score, frame.index, area, relocated=row in relocated)
    return memories


def _tracks_to_end(
    state: TrackerState, matches: association.Matches, track_areas: NDArray[np.float32], frame: Frame
) -> dict[int, str]:
    """The tracks that end because they have no detection, {row: reason}; counts the misses of all such tracks."""
    detected = matches.detected_tracks
    ending = dict.fromkeys(matches.displaced, "displaced")
    for row, record in enumerate(state.table.rows):
        if row in detected or row in ending or not track_areas[row] or record.prompt is None:
            continue
        record.misses += 1
        if not record.confirmed and record.misses >= MAX_MISSES_UNCONFIRMED:
            ending[row] = "unconfirmed"
        elif record.misses >= MAX_MISSES and frame.index - record.detected_at >= MIN_UNDETECTED_FRAMES:
            ending[row] = "undetected"
    return ending


def _detections_to_start(
    state: TrackerState, matches: association.Matches, seen: _Observation, ending: dict[int, str]
) -> list[int]:
    """The detections that get a new row, best first. Adds to ``ending`` the tracks out of sight evicted for them."""
    new = matches.new + [d for d, _ in matches.reidentified]
    best_first = sorted(new, key=lambda d: -float(seen.detections.scores[d]))
    kept = matches.detected_tracks | ending.keys()
    out_of_sight = [row for row in state.table.eviction_order() if row not in kept and not seen.track_areas[row]]
    free = state.free_rows + len(ending)
    evicted = out_of_sight[: max(0, len(best_first) - free)]
    ending |= dict.fromkeys(evicted, "max_objects")
    return best_first[: free + len(evicted)]


def _add_records(
    state: TrackerState, seen: _Observation, starting: list[int], returning: dict[int, TrackRecord], frame: Frame
) -> None:
    """Add the records of the rows just started: new ones, or those of ``returning`` tracks by detection."""
    for d in starting:
        score, area = float(seen.detections.scores[d]), seen.areas[d]
        if d in returning:
            state.table.resume(returning[d], frame.index, score, area)
        else:
            state.table.start(int(seen.detections.prompts[d]), frame.index, score, False, area, "detected")


def _record_overlaps(
    state: TrackerState, seen: _Observation, matched_ids: dict[int, int], started_ids: dict[int, int]
) -> None:
    """Record which tracks of different prompts have detections on one object; both ids by detection."""
    inside = mask_ops.to_numpy(mask_ops.share_inside(seen.found.masks, seen.found.masks))
    prompts = seen.detections.prompts
    tracks = sorted((matched_ids | started_ids).items(), key=lambda pair: pair[1])
    overlapping = {
        (first, second): bool(max(inside[d, other], inside[other, d]) >= COVERED_SHARE)
        for number, (d, first) in enumerate(tracks)
        for other, second in tracks[number + 1 :]
        if prompts[d] != prompts[other]
    }
    state.record_overlaps(overlapping, set(started_ids.values()))
