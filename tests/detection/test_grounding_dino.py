"""The detector's behaviour, with the embedded model on the test source's shapes."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torchvision.ops import box_iou
from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

from stages.detection.grounding_dino import EMBEDDED, NMS_IOU, GroundingDino
from stages.detection.prompts import Prompt, parse_prompts
from stages.errors import ConfigError
from stages.testsrc.bodies import LABELS
from stages.testsrc.truth import Truth
from stages.testsrc.world import ShapesWorld
from stages.types import Detections, Image

THRESHOLD = 0.3
CLEARLY_VISIBLE = 0.6  # visible share of a shape from which on a test expects its detection


@pytest.fixture(scope="module")
def detector() -> GroundingDino:
    return GroundingDino(EMBEDDED, torch.device("cpu"), torch.float32)


@dataclass(frozen=True)
class Scene:
    """A picture, its objects, and prompts for absent ones."""

    image: Image
    truth: Truth
    absent: tuple[str, ...]


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    """Pictures that the embedded model was not trained on (it saw seeds from a million up)."""
    found = []
    for seed in range(500, 530):
        image, truth = ShapesWorld(seed, objects=3).render(seed % 60)
        found.append(Scene(image, truth, tuple(label for label in LABELS if label not in truth.labels)))
    return found


def _hits(scene: Scene, found: Detections, prompts: tuple[Prompt, ...]) -> list[bool]:
    """For each clearly visible object, whether it was found under its own prompt."""
    hits = []
    for label, box, visible in zip(scene.truth.labels, scene.truth.boxes, scene.truth.visible, strict=True):
        if visible >= CLEARLY_VISIBLE:
            named = [prompts[i].phrase == label for i in found.prompts]
            overlap = box_iou(torch.from_numpy(found.boxes[named]), torch.from_numpy(box[None]))
            hits.append(bool((overlap > 0.5).any()))
    return hits


def _rows(found: Detections) -> NDArray[np.float64]:
    """(N, 6) prompt, score, box; sorted by prompt and score."""
    order = np.lexsort((found.scores, found.prompts))
    return np.column_stack([found.prompts, found.scores, found.boxes])[order].astype(np.float64)


def _assert_same(one: Detections, other: Detections) -> None:
    assert len(one) == len(other)
    np.testing.assert_allclose(_rows(one), _rows(other), rtol=1e-4, atol=1e-4)


def test_finds_what_is_there(detector: GroundingDino, scenes: list[Scene]) -> None:
    """Nine of ten clearly visible shapes are found, at IoU 0.5 and under their own prompt, among absent ones."""
    hits = []
    for scene in scenes:
        prompts = parse_prompts([*scene.absent[:2], *scene.truth.labels])
        hits += _hits(scene, detector.detect([scene.image], prompts, THRESHOLD, THRESHOLD)[0], prompts)
    assert len(hits) > 60
    assert np.mean(hits) >= 0.9


def test_seldom_finds_what_is_absent(detector: GroundingDino, scenes: list[Scene]) -> None:
    """Of prompts for absent shapes, three per picture, less than one in ten has a detection."""
    errors = [
        len(set(detector.detect([scene.image], parse_prompts(scene.absent[::7][:3]), THRESHOLD, THRESHOLD)[0].prompts))
        for scene in scenes
    ]
    assert np.mean(errors) < 0.3


def test_order_and_spelling_of_prompts_do_not_matter(detector: GroundingDino, scenes: list[Scene]) -> None:
    """The same phrases in another order, case and form give the same boxes for the same phrase."""
    for scene in scenes[:8]:
        labels = [*scene.absent[:6], *scene.truth.labels]
        plain = parse_prompts(labels)
        fancy = parse_prompts([", ".join(label.title() for label in reversed(labels)) + "."])
        back = np.array([[prompt.phrase for prompt in plain].index(prompt.phrase) for prompt in fancy])
        one = detector.detect([scene.image], plain, 0.1, 0.1)[0]
        other = detector.detect([scene.image], fancy, 0.1, 0.1)[0]
        assert len(one)
        _assert_same(one, Detections(other.boxes, other.scores, back[other.prompts]))


def test_hundreds_of_prompts_come_back_right(detector: GroundingDino, scenes: list[Scene]) -> None:
    """Three hundred prompts need many captions; the whole equals what each caption's prompts give on their own."""
    image = scenes[0].image
    colours = ("red", "green", "blue", "yellow", "purple", "orange")
    phrases = [f"{'the ' * (i % 4)}{colours[i % 6]} thing number {i}" for i in range(300 - len(LABELS))]
    for i, label in enumerate(LABELS):
        phrases.insert(12 * i, label)
    prompts = parse_prompts(phrases)
    whole = detector.detect([image], prompts, 0.2, 0.2)[0]
    captions = detector.captions(prompts)
    assert len(prompts) == 300
    assert detector.passes(prompts) == len(captions) > 20
    for caption in captions:
        first, last = min(set(caption.prompt_of_token) - {-1}), max(caption.prompt_of_token)
        own = (whole.prompts >= first) & (whole.prompts <= last)
        part = detector.detect([image], prompts[first : last + 1], 0.2, 0.2)[0]
        _assert_same(Detections(whole.boxes[own], whole.scores[own], whole.prompts[own] - first), part)


def test_finds_shapes_whichever_caption_their_prompt_is_in(detector: GroundingDino, scenes: list[Scene]) -> None:
    """With all the world's shapes as prompts, in two captions, most visible shapes are still found by name."""
    prompts = parse_prompts(LABELS)
    assert len(detector.captions(prompts)) == 2
    found = detector.detect([scene.image for scene in scenes], prompts, THRESHOLD, THRESHOLD)
    hits = [hit for scene, one in zip(scenes, found, strict=True) for hit in _hits(scene, one, prompts)]
    assert np.mean(hits) >= 0.85


def test_a_batch_gives_what_single_images_give(detector: GroundingDino, scenes: list[Scene]) -> None:
    """Images of different sizes detected together give the same as one by one, each in its own pixels."""
    images = [scene.image for scene in scenes[:3]]
    images += [ShapesWorld(7, 320, 200).render(0)[0], ShapesWorld(8, 160, 240).render(0)[0]]
    prompts = parse_prompts(LABELS[:12])
    together = detector.detect(images, prompts, 0.1, 0.1)
    for image, one in zip(images, together, strict=True):
        _assert_same(one, detector.detect([image], prompts, 0.1, 0.1)[0])


def test_detections_are_well_formed(detector: GroundingDino, scenes: list[Scene]) -> None:
    """Even at threshold 0: float32 xyxy boxes inside the image, int64 prompts, scores in [0, 1], best first."""
    prompts = parse_prompts(LABELS[:3])
    for scene in scenes[:5]:
        found = detector.detect([scene.image], prompts, 0, 0)[0]
        assert len(found) > 5
        assert [str(column.dtype) for column in (found.boxes, found.scores, found.prompts)] == [
            "float32",
            "float32",
            "int64",
        ]
        assert found.boxes.shape == (len(found), 4)
        assert (found.boxes >= 0).all()
        assert (found.boxes[:, 2:] <= (256, 256)).all()
        assert (found.boxes[:, :2] < found.boxes[:, 2:]).all()
        assert all(a >= b for a, b in pairwise(found.scores))
        assert set(found.prompts) <= {0, 1, 2}


def test_overlapping_boxes_of_one_prompt_are_suppressed(detector: GroundingDino, scenes: list[Scene]) -> None:
    """No two boxes of one prompt overlap by more than the limit, though the model's queries do."""
    prompts = parse_prompts(LABELS[:3])
    found = detector.detect([scene.image for scene in scenes[:5]], prompts, 0, 0)
    assert sum(map(len, found)) < 5 * detector.network.config.num_queries
    for one in found:
        overlap = box_iou(torch.from_numpy(one.boxes), torch.from_numpy(one.boxes)).fill_diagonal_(0).numpy()
        assert overlap[one.prompts[:, None] == one.prompts].max() <= NMS_IOU + 1e-6


def test_thresholds_keep_what_reaches_them(detector: GroundingDino, scenes: list[Scene]) -> None:
    """Raising the box threshold leaves the best detections; a text threshold out of reach leaves none."""
    prompts = parse_prompts(LABELS[:8])
    everything = detector.detect([scenes[0].image], prompts, 0.02, 0)[0]
    limit = float(np.median(everything.scores))
    strict = detector.detect([scenes[0].image], prompts, limit, 0)[0]
    best = everything.scores >= limit
    assert 0 < len(strict) < len(everything)
    _assert_same(strict, Detections(everything.boxes[best], everything.scores[best], everything.prompts[best]))
    assert len(detector.detect([scenes[0].image], prompts, 0, 1.01)[0]) == 0


def test_boxes_and_scores_are_those_of_the_library(detector: GroundingDino) -> None:
    """Each detection is one that transformers' own processor and post-processing find, in pixels of the picture."""
    processor = AutoProcessor.from_pretrained(EMBEDDED)
    model = AutoModelForZeroShotObjectDetection.from_pretrained(EMBEDDED)
    for seed in range(5):
        image, truth = ShapesWorld(seed, 320, 240).render(0)
        prompts = parse_prompts(truth.labels)
        inputs = processor(images=image, text=[[p.phrase for p in prompts]], return_tensors="pt")
        with torch.no_grad():
            outputs = model(**inputs)
        (theirs,) = processor.post_process_grounded_object_detection(outputs, threshold=0, target_sizes=[(240, 320)])
        found = detector.detect([image], prompts, THRESHOLD, THRESHOLD)[0]
        assert len(found)
        rows = np.column_stack([theirs["scores"], theirs["boxes"].clamp(min=0).numpy().clip(max=(320, 240, 320, 240))])
        for row in np.column_stack([found.scores, found.boxes]):
            assert np.abs(rows - row).max(1).min() < 0.01


def test_without_prompts_the_model_does_not_run(detector: GroundingDino) -> None:
    """No prompts, or no images, give empty detections, even for a picture that no model could process."""
    nothing = np.zeros((0, 0, 3), np.uint8)
    assert [len(found) for found in detector.detect([nothing, nothing], (), THRESHOLD, THRESHOLD)] == [0, 0]
    assert detector.detect([], parse_prompts(["red circle"]), THRESHOLD, THRESHOLD) == []


def test_a_prompt_too_long_for_the_model_is_refused_by_name(detector: GroundingDino) -> None:
    """The embedded model reads 48 tokens, three of them special tokens."""
    fits, longer = " ".join(["red"] * 45), " ".join(["blue"] * 46)
    assert len(detector.captions(parse_prompts([fits]))[0].input_ids) == 48
    with pytest.raises(ConfigError, match=r"^prompt 'blue blue .*' is 46 tokens long, the detector reads at most 45"):
        detector.passes(parse_prompts([fits, longer]))


def test_special_tokens_in_a_prompt_are_plain_words(detector: GroundingDino, scenes: list[Scene]) -> None:
    """A prompt that spells special tokens is read as lower-case words and does not change the other prompts."""
    prompts = parse_prompts(["star [SEP] y [CLS] [PAD] z", *scenes[0].truth.labels])
    caption = detector.captions(prompts)[0]
    assert caption.input_ids.count(102) == 1
    found = detector.detect([scenes[0].image], prompts, THRESHOLD, THRESHOLD)[0]
    assert all(_hits(scenes[0], found, prompts))


CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, CUDA])])
def test_bfloat16_moves_boxes_by_less_than_a_pixel(device: str, detector: GroundingDino, scenes: list[Scene]) -> None:
    """In bfloat16 the detections with high scores are the same, mostly within half a pixel and 0.02 of score."""
    rounded = GroundingDino(EMBEDDED, torch.device(device), torch.bfloat16)
    moved, overlaps = [], []
    for scene in scenes:
        prompts = parse_prompts(scene.truth.labels)
        sure = detector.detect([scene.image], prompts, THRESHOLD + 0.1, THRESHOLD)[0]
        other = _rows(rounded.detect([scene.image], prompts, THRESHOLD - 0.1, THRESHOLD - 0.1)[0])
        for prompt, score, *box in _rows(sure):
            same = other[other[:, 0] == prompt, 1:]
            away = np.abs(same - [score, *box])
            moved.append(min(away, key=lambda row: row[1:].max(), default=np.full(5, 999.0)))
            overlaps.append(box_iou(torch.tensor([box]), torch.from_numpy(same[:, 1:])).max().item())
    shift = np.array(moved)
    assert len(shift) > 40
    assert shift[:, 1:].max() < 8
    assert np.median(shift[:, 1:].max(1)) < 0.5
    assert np.median(shift[:, 0]) < 0.02
    assert np.median(overlaps) > 0.98
    assert min(overlaps) > 0.8


def test_weights_stored_in_bfloat16_give_what_float32_weights_give_under_autocast(scenes: list[Scene]) -> None:
    """Bit for bit: converting them once only saves what autocast would do at each picture."""
    rounded, plain = (GroundingDino(EMBEDDED, torch.device("cpu"), torch.bfloat16) for _ in range(2))
    exact = GroundingDino(EMBEDDED, torch.device("cpu"), torch.float32)
    plain.network.float().load_state_dict(exact.network.state_dict())
    stored = {name for name, weight in rounded.network.named_parameters() if weight.dtype == torch.bfloat16}
    assert len(stored) > 100
    assert not any(word in name for name in stored for word in ("norm", "embeddings.word", "level_embed"))
    for scene in scenes[:6]:
        prompts = parse_prompts(scene.truth.labels)
        (one,), (other,) = (each.detect([scene.image], prompts, 0, 0) for each in (rounded, plain))
        np.testing.assert_array_equal(one.boxes, other.boxes)
        np.testing.assert_array_equal(one.scores, other.scores)
