"""A daemon that says that it is ready has nothing left to compile."""

import pytest
import torch

from daemon.engine.warm_up import warm_up
from stages.detection.grounding_dino import EMBEDDED, GroundingDino
from stages.sam2.load import load_segmenter
from tests.sam2.test_static_shapes import CPU, run


@pytest.mark.slow
def test_after_the_warm_up_nothing_is_left_to_compile_whatever_a_windows_length(world, shapes_frame, graphs):
    segmenter = load_segmenter("embedded", CPU, torch.float32, compiled=True)
    warm_up(GroundingDino(EMBEDDED, CPU, torch.float32), segmenter, max_objects=2, window=8)
    known = len(graphs)
    assert known > 3
    for objects in (1, 2):
        run(segmenter, world, shapes_frame, objects)
    assert len(graphs) == known


def test_models_that_run_as_they_are_need_one_size_only(segmenter):
    assert segmenter.batch_sizes(64) == [1]


def test_a_gpu_runs_at_most_sixteen_objects_together(segmenter, monkeypatch):
    monkeypatch.setattr(segmenter, "static", True)
    assert segmenter.batch_sizes(64) == [1, 2, 4, 8, 16]
    assert segmenter.batch_sizes(5) == [1, 2, 4, 8]
