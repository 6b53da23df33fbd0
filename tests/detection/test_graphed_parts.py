"""The detector with graphs: the same detections, for pictures and captions of sizes that came before."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode

from stages.detection import graphed_parts
from stages.detection.grounding_dino import EMBEDDED, GroundingDino
from stages.detection.prompts import parse_prompts
from stages.graphs import Graphs
from stages.testsrc.world import ShapesWorld
from tests.detection.comparison import assert_equal
from tests.detection.mm_grounding_dino import write_mm_grounding_dino
from tests.support.recorded_graph import record

CPU = torch.device("cpu")
RED_BLUE, GREEN_YELLOW, RED = (
    parse_prompts([text]) for text in ("red circle, blue square", "green star, yellow triangle", "red circle")
)
PARTS = 3


class _Uploads(TorchFunctionMode):
    """Refuses what copies a number of the host to the device, which a CUDA graph cannot do."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in (torch.tensor, torch.as_tensor, torch.from_numpy):
            raise RuntimeError("copies during capture are not permitted")
        return function(*args, **(kwargs or {}))


def _capture(run: Callable[[], Any]) -> Any:
    with _Uploads():
        return record(run)


def _picture(seed: int, width: int = 256, height: int = 256) -> np.ndarray:
    return ShapesWorld(seed, width, height, objects=4).render(0)[0]


def _pair(model: Path, dtype: torch.dtype, capture: Callable[[Any], Any] = _capture) -> tuple[GroundingDino, ...]:
    return GroundingDino(model, CPU, dtype, Graphs("detector", capture)), GroundingDino(model, CPU, dtype)


def _assert_same(graphed: GroundingDino, plain: GroundingDino, pictures: list[np.ndarray], prompts: Any) -> None:
    for one, other in zip(*(each.detect(pictures, prompts, 0, 0) for each in (graphed, plain)), strict=True):
        assert_equal(one, other)


def _write_grounding_dino(folder: Path) -> Path:
    shutil.copytree(EMBEDDED, folder, dirs_exist_ok=True)
    return folder


def _keep_shape(model: Path) -> Path:
    """Resize pictures by their shorter side, as the public models do: their shapes differ then."""
    path = model / "processor_config.json"
    config = json.loads(path.read_text())
    config["image_processor"]["size"] = {"shortest_edge": 96, "longest_edge": 192}
    path.write_text(json.dumps(config))
    return model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _keep_shape(_write_grounding_dino(tmp_path_factory.mktemp("model")))


@pytest.mark.parametrize("write", [_write_grounding_dino, write_mm_grounding_dino], ids=["grounding-dino", "mm"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_replays_detect_what_the_network_detects(
    write: Callable[[Path], Path], dtype: torch.dtype, tmp_path: Path
) -> None:
    """Two sizes of pictures and three captions of two lengths alternate, each with new pictures.

    Batches of two between them run without graphs.
    """
    graphed, plain = _pair(_keep_shape(write(tmp_path)), dtype)
    for seed in range(0, 20, 4):
        _assert_same(graphed, plain, [_picture(seed)], RED_BLUE)
        _assert_same(graphed, plain, [_picture(seed + 1)], GREEN_YELLOW)
        _assert_same(graphed, plain, [_picture(seed + 2, 256, 128)], RED)
        _assert_same(graphed, plain, [_picture(seed + 3), _picture(seed)], RED_BLUE)
    graphs = graphed._graphs
    assert graphs is not None
    assert graphs.captured == 2 * PARTS
    assert graphed.graph_fallbacks == 0


def test_a_size_that_comes_once_is_not_captured(model: Path) -> None:
    graphed, plain = _pair(model, torch.float32)
    for width in (64, 128, 256):
        _assert_same(graphed, plain, [_picture(1, width)], RED)
    assert graphed._graphs is not None
    assert graphed._graphs.captured == 0


def test_sizes_beyond_the_last_that_is_kept_run_as_they_are(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphed_parts, "MOST", 1)
    graphed, plain = _pair(model, torch.float32)
    for _ in range(3):
        _assert_same(graphed, plain, [_picture(1)], RED)
        _assert_same(graphed, plain, [_picture(2, 256, 128)], RED)
    assert graphed._graphs is not None
    assert (graphed._graphs.captured, graphed.graph_fallbacks) == (PARTS, PARTS)


def test_a_part_that_cannot_be_captured_runs_as_it_is_with_one_warning(
    model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def capture(_: Any) -> Any:
        raise RuntimeError("no memory for another graph")

    caplog.set_level(logging.WARNING)
    graphed, plain = _pair(model, torch.float32, capture)
    for width in (256, 128):
        for _ in range(3):
            _assert_same(graphed, plain, [_picture(1, width)], RED)
    assert graphed.graph_fallbacks == 2 * PARTS
    assert [record.getMessage() for record in caplog.records] == [
        f"detector: {part} runs without a CUDA graph for a batch of 1, and slower: "
        "capture failed: no memory for another graph"
        for part in ("backbone", "encoder", "decoder")
    ]


def test_a_graph_that_gives_other_boxes_is_left_out(model: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Wrong:
        def __init__(self, outputs: tuple[torch.Tensor, ...]) -> None:
            self._outputs = outputs

        def replay(self) -> None:
            for output in self._outputs:
                output.zero_()

    def capture(run: Any) -> Any:
        outputs = tuple(output.clone() for output in run())
        return Wrong(outputs), outputs

    graphed, plain = _pair(model, torch.float32, capture)
    for seed in range(3):
        _assert_same(graphed, plain, [_picture(seed)], RED)
    assert graphed.graph_fallbacks == PARTS
    assert (
        "backbone runs without a CUDA graph for a batch of 1, and slower: its graph gives other results" in caplog.text
    )
