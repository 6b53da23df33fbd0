"""Runs the models before the daemon is ready, so that no stream waits for the compilation of kernels and graphs."""

import logging
from collections.abc import Collection, Sequence

import numpy as np
import torch

from daemon.limits.governor import SCALES
from daemon.limits.out_of_memory import free_memory_of, is_out_of_memory
from stages.detection.base import Detector, Tiles
from stages.detection.prompts import Prompt, parse_prompts
from stages.detection.tiles import detect_in_tiles
from stages.errors import ConfigError, one_line
from stages.plural import plural
from stages.segmentation.base import Segmenter
from stages.tracking.all_shapes import RUNS, SIDE, run_all_shapes

LARGE = (2160, 3840)  # a picture that "auto" cuts into tiles

log = logging.getLogger(__name__)


def warm_up(
    detector: Detector,
    segmenter: Segmenter,
    detections: Collection[tuple[Sequence[Prompt], Tiles]],
    max_objects: int,
    window: int,
) -> None:
    """Detect, and track with every shape of each size of pictures; what can be captured is captured.

    ``detections``: prompts and tiles of each stream; ``window``: the longest, in frames. Where the memory is too small
    for all shapes, it tries again with half the objects and half the frames, as the governor does later; raises what
    the models do when that is one of each.
    """
    if segmenter.device.type != "cpu":
        for prompts, tiles in detections or [(parse_prompts(["red circle"]), "off")]:
            _detect(detector, prompts, tiles)
    while not _tracked(segmenter, max_objects, window):
        max_objects, window = max(1, max_objects // 2), max(1, window // 2)
    torch.cuda.empty_cache()  # does nothing without CUDA; what the warm-up alone needed is free for streams


def _detect(detector: Detector, prompts: Sequence[Prompt], tiles: Tiles) -> None:
    """Detect as often as it takes to have a graph, on a picture in the shape of most cameras, to which it is resized.

    Its tiles have the shape of most cameras' tiles. A prompt that the detector cannot read, and too little memory, are
    told when the stream runs.
    """
    picture = np.zeros((*(LARGE if tiles == "auto" else (9 * SIDE // 16, SIDE)), 3), np.uint8)
    try:
        for _ in range(RUNS + 1):
            detect_in_tiles(detector, [picture], prompts, (1.0, 1.0), tiles, detector.together)
    except Exception as error:
        if not isinstance(error, ConfigError) and not is_out_of_memory(error):
            raise
        log.debug("warm-up: detection failed", exc_info=True)
        free_memory_of(error)


def _tracked(segmenter: Segmenter, max_objects: int, window: int) -> bool:
    """Track with every shape; False when memory has run out and fewer objects or frames may fit."""
    try:
        with segmenter.capturing():
            for sized in map(segmenter.scaled, SCALES):
                if sized.static:
                    run_all_shapes(sized, max_objects, window)
    except Exception as error:
        if not is_out_of_memory(error) or max_objects == window == 1:
            raise
        sizes = f"{max_objects} {plural(max_objects, 'object')} and windows of {window} {plural(window, 'frame')}"
        advice = "lower tracking.max_objects or tracking.window"
        log.warning(
            "warm-up: too little memory for %s; %s: %s",
            sizes,
            advice,
            one_line(error),
            extra={"event": "out_of_memory"},
        )
        free_memory_of(error)
        return False
    return True
