"""Runs a segmenter with every shape that tracking can need later, so that nothing is compiled or captured then."""

import logging
import time

import numpy as np
import torch

from stages.plural import plural
from stages.segmentation.base import Segmenter
from stages.segmentation.outputs import FrameFeatures, Heads
from stages.tracking.identity import looks
from stages.tracking.state import TrackerOptions, TrackerState

log = logging.getLogger(__name__)

SIDE = 256  # pixels
RUNS = 2  # of each shape: a graph is compared with its step on the inputs it was captured with, and on others


def run_all_shapes(segmenter: Segmenter, max_objects: int, window: int) -> None:
    """Encode windows of up to ``window`` frames and track up to ``max_objects`` objects, the largest sizes first."""
    for frames in reversed(segmenter.batch_sizes(window)):
        for run in range(RUNS):
            features = segmenter.encode([np.full((SIDE, SIDE, 3), 100 * run, np.uint8)] * frames)[0]
    for objects in reversed(segmenter.batch_sizes(2 * max_objects)):  # a keyframe has tracks and detections
        began = time.perf_counter()
        found = _segment(segmenter, features, objects)
        if objects <= segmenter.padded(max_objects):
            _track(segmenter, features, found)
        log.info("warm-up with %d %s: %.1f s", objects, plural(objects, "object"), time.perf_counter() - began)


@torch.inference_mode()
def _segment(segmenter: Segmenter, features: FrameFeatures, objects: int) -> Heads:
    """Segment objects, encode their memories and describe their looks."""
    corners = torch.linspace(0, segmenter.image_size / 2, objects)[:, None]
    for run in range(RUNS):
        far = corners + 32 * (1 + run)
        found = segmenter.prompt_boxes(features, torch.cat([corners, corners, far, far], 1))
        segmenter.encode_memory(features, found)
        looks.describe(segmenter, features, found.masks)
    return found


@torch.inference_mode()
def _track(segmenter: Segmenter, features: FrameFeatures, found: Heads) -> None:
    """Track objects whose memory is young, then full, then full with two conditioning frames."""
    objects, memories = len(found.masks), segmenter.encode_memory(features, found)
    state = TrackerState(segmenter, TrackerOptions(max_objects=objects))
    state.start(0, features, found, memories)
    for _ in range(objects):
        state.table.start(0, 0, 1.0, True, 1, "detected")
    _propagate(state, features)
    for _ in range(segmenter.recent_pointers):
        state.clock += 1
        state.bank.store(state.clock, memories, found.pointers, torch.ones_like(found.presence, dtype=torch.bool))
    state.bank.sync_counts(state.bank.written().tolist())
    _propagate(state, features)
    for row in range(objects):
        state.bank.set_conditioning(row, state.clock, memories[row], found.pointers[row], clear=False)
    _propagate(state, features)


def _propagate(state: TrackerState, features: FrameFeatures) -> None:
    for _ in range(RUNS):
        state.clock += 1
        found = state.propagate(features)
        state.store_memories(features, found, torch.ones_like(found.presence, dtype=torch.bool))
        state.masks = found.masks
