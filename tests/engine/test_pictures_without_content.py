"""Streams whose pictures show nothing, or something else each time, get no more keyframes than others."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from daemon.settings.schema import Detection
from stages.detection.grounding_dino import GroundingDino
from stages.detection.prompts import parse_prompts
from stages.keyframes.pace import SAVED
from stages.sam2.load import EMBEDDED
from stages.testsrc.world import ShapesWorld
from stages.tracking.tracker import Tracker, TrackerOptions
from stages.types import Image
from tests.benchmarks.support.engine_run import EngineRun, frame_of

FRAMES = 40
SETTINGS = Detection(least=1)
SHAPES = [ShapesWorld(seed).render(0)[0] for seed in range(4, 8)]
BLACK = np.zeros((256, 256, 3), np.uint8)


def noise(t: int) -> Image:
    return np.random.default_rng(t).integers(0, 256, (256, 256, 3), np.uint8)


@pytest.mark.parametrize(
    "picture",
    [lambda _: BLACK, noise, lambda _: SHAPES[0], lambda t: SHAPES[t % 4]],
    ids=["black", "noise", "one still picture", "a cut on each frame"],
)
def test_keyframes_stay_within_their_share(picture: Callable[[int], Image], segmenter):
    detector = GroundingDino(EMBEDDED / "detector", torch.device("cpu"), torch.float32)
    engine = EngineRun(detector, lambda: Tracker(segmenter, TrackerOptions(max_objects=8)))
    file = engine.add("file", parse_prompts(ShapesWorld(4).labels[:2]), SETTINGS, False, 8)
    results = list(engine.track(file, (frame_of(picture(t), t) for t in range(FRAMES))))
    keyframes = [result.frame.index for result in results if result.keyframe]
    assert [result.frame.index for result in results] == list(range(FRAMES))
    assert {0, *keyframes} == {*keyframes}
    assert len(keyframes) <= 1 + SAVED + SETTINGS.share * FRAMES
