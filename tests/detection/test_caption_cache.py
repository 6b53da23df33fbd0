"""What belongs to a caption is computed once, and detections are those of a model that computes it each time."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from stages.detection import caption_cache
from stages.detection.grounding_dino import EMBEDDED, GroundingDino
from stages.detection.prompts import Prompt, parse_prompts
from stages.testsrc.bodies import LABELS
from stages.testsrc.world import ShapesWorld
from tests.detection.comparison import assert_equal
from tests.detection.mm_grounding_dino import write_mm_grounding_dino

CPU = torch.device("cpu")
RED_BLUE, GREEN_YELLOW = (
    parse_prompts(texts) for texts in (["red circle, blue square"], ["green star, yellow triangle"])
)
ALL = parse_prompts(LABELS)  # two captions


@contextmanager
def _counted(detector: GroundingDino) -> Iterator[list[int]]:
    """The batch sizes with which the text backbone runs inside the block."""
    runs: list[int] = []
    hook = detector.network.model.text_backbone.encoder.register_forward_hook(
        lambda _, inputs, output: runs.append(len(inputs[0]))
    )
    yield runs
    hook.remove()


@pytest.mark.parametrize("write", [lambda folder: EMBEDDED, write_mm_grounding_dino], ids=["grounding-dino", "mm"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_alternating_captions_give_what_they_give_without_a_cache(
    write: Callable[[Path], Path], dtype: torch.dtype, tmp_path: Path
) -> None:
    """Captions of the same length in turn, then two captions for one picture, then the first ones again."""
    model = write(tmp_path)
    kept = GroundingDino(model, CPU, dtype)
    plain = GroundingDino(model, CPU, dtype)
    del plain.network.model.text_backbone.forward  # the class's own is left
    with _counted(kept) as runs, _counted(plain) as plain_runs:
        for seed, prompts in enumerate((RED_BLUE, GREEN_YELLOW, RED_BLUE, ALL, GREEN_YELLOW, ALL)):
            image = ShapesWorld(500 + seed, objects=4).render(0)[0]
            (found,), (expected,) = (each.detect([image], prompts, 0, 0) for each in (kept, plain))
            assert_equal(found, expected)
    assert runs == [1] * 4
    assert plain_runs == [1] * 8


def test_a_wrong_caption_in_the_cache_would_show() -> None:
    """With the text of another caption of the same length detections differ, which the test above looks for."""
    detector = GroundingDino(EMBEDDED, CPU, torch.float32)
    image = ShapesWorld(500, objects=4).render(0)[0]
    before = [detector.detect([image], prompts, 0, 0)[0] for prompts in (RED_BLUE, GREEN_YELLOW)]
    (one,), (other,) = map(detector.captions, (RED_BLUE, GREEN_YELLOW))
    with detector._captions.reading(one) as mine, detector._captions.reading(other) as theirs:
        mine.features, theirs.features = theirs.features, mine.features
    for prompts, right in zip((RED_BLUE, GREEN_YELLOW), before, strict=True):
        wrong = detector.detect([image], prompts, 0, 0)[0]
        assert not np.array_equal(wrong.scores, right.scores)


def test_pictures_of_one_batch_share_a_caption() -> None:
    """The text backbone runs for one of them; each picture has the detections that it has alone."""
    detector = GroundingDino(EMBEDDED, CPU, torch.float32)
    images = [ShapesWorld(seed, objects=3).render(0)[0] for seed in (500, 501, 502)]
    with _counted(detector) as runs:
        together = detector.detect(images, RED_BLUE, 0, 0)
    assert runs == [1]
    for image, found in zip(images, together, strict=True):
        (alone,) = detector.detect([image], RED_BLUE, 0, 0)
        np.testing.assert_allclose(found.scores, alone.scores, rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(found.boxes[:5], alone.boxes[:5], atol=1e-2)


def test_captions_that_were_not_used_lately_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for two, the third takes the place of the one that was used least lately."""
    monkeypatch.setattr(caption_cache, "MOST", 2)
    detector = GroundingDino(EMBEDDED, CPU, torch.float32)
    image = ShapesWorld(500).render(0)[0]
    texts: dict[str, tuple[Prompt, ...]] = {name: parse_prompts([name]) for name in ("red circle", "star", "square")}
    for text, expected in (
        ("red circle", 1),
        ("star", 1),
        ("red circle", 0),
        ("square", 1),
        ("red circle", 0),
        ("star", 1),
    ):
        with _counted(detector) as runs:
            detector.detect([image], texts[text], 0, 0)
        assert len(runs) == expected, text


class _Waits(TorchDispatchMode):
    """Collects the operations that a CUDA device would have to be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if str(op) in ("aten._local_scalar_dense.default", "aten.nonzero.default", "aten._unique2.default"):
            self.found.append(str(op))
        return op(*args, **(kwargs or {}))


def test_the_model_is_not_waited_for() -> None:
    """No operation of the model's forward pass asks the device for a number."""
    detector = GroundingDino(EMBEDDED, CPU, torch.float32)
    waits = _Waits()
    forward = detector.network.forward

    def watched(**inputs: Any) -> Any:
        with torch.inference_mode(False), torch.no_grad(), waits:
            return forward(**{name: tensor.clone() for name, tensor in inputs.items()})

    detector.network.forward = watched
    assert len(detector.detect([ShapesWorld(500).render(0)[0]], RED_BLUE, 0, 0)[0])
    assert waits.found == []
