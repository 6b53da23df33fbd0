"""The tracker's masks are upstream's: the same trained weights, prompts and frames give the same logits, free-running.

Upstream stores memories in bfloat16. The two sides sum in another order, so that now and then a last bit of a stored
memory comes out differently, which is a thousand times more than the sums differ by. So the comparison is made twice:
closely, with memories kept in float32 on both sides, and as upstream ships it.
"""

from dataclasses import dataclass, replace
from functools import cache
from itertools import product

import cv2
import numpy as np
import pytest
import torch
from sam2 import sam2_video_predictor
from sam2.modeling import sam2_base

from stages.sam2.attention import LeanOptions
from stages.sam2.load import EMBEDDED, load_segmenter
from stages.sam2.segmenter import Sam2Segmenter
from stages.sam2.split_attention import Splitting, attend_plainly
from stages.segmentation.outputs import ABSENT
from stages.testsrc.truth import Truth
from stages.testsrc.world import ShapesWorld
from stages.tracking import mask_ops
from stages.tracking.memory.recall import Recall
from stages.tracking.tracker import Tracker, TrackerOptions
from stages.types import Image
from tests.sam2.parity import Act, Agreement, Ours, Upstream, compare, torch_without_bfloat16
from tests.sam2.upstream import build_upstream

pytestmark = pytest.mark.slow

FRAMES, JOINS, LEAVES = 24, 5, 9
SHORT, CORRECTED = 14, 18  # frames of what shows soon after a prompt, and after a correction on frame 12
CLOSE, ROUNDED = 1e-4, 1e-2  # of logits around 40: with memories in float32, and in bfloat16
LEAN = LeanOptions(splitting=Splitting(attend_plainly, multiprocessors=132))  # attention as on a GPU
SHIPPED = TrackerOptions(max_objects=8, gate=False, endless=False)
EXACT = replace(SHIPPED, memory_dtype=torch.float32)


@dataclass(frozen=True)
class Scene:
    """Frames of a world of four shapes, and prompts for them."""

    images: list[Image]
    truths: list[Truth]

    def box(self, t: int, n: int) -> np.ndarray:
        box = self.truths[t].boxes[n]
        assert box.any(), f"object {n} does not show on frame {t}"
        return box

    def points(self, t: int, n: int, inside: int, outside: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Evenly spread over the object, and over a rim around it."""
        mask = self.truths[t].masks[n].astype(np.uint8)
        rim = cv2.dilate(mask, np.ones((25, 25), np.uint8)) - mask
        places = []
        for area, count in ((mask, inside), (rim, outside)):
            pixels = np.argwhere(area)[:, ::-1]
            places.append(pixels[np.linspace(0, len(pixels) - 1, count + 2).astype(int)[1:-1]])
        return np.concatenate(places).astype(np.float32), np.array([1] * inside + [0] * outside)

    def prompt(self, kind: str, t: int, n: int) -> dict[str, object]:
        match kind:
            case "box":
                return {"box": self.box(t, n)}
            case "one point":
                return {"points": self.points(t, n, 1)}
            case "five points, two of them outside":
                return {"points": self.points(t, n, 3, 2)}
            case _:
                return {"mask": self.truths[t].masks[n]}

    def story(self, kind: str = "box", verb: str = "add") -> list[Act]:
        """Three objects from the first frame on, one more later, and one removed later."""
        joining = [(0, 0), (0, 1), (0, 2), (JOINS, 3)]
        return [Act(t, verb, n, **self.prompt(kind, t, n)) for t, n in joining] + [Act(LEAVES, "remove", 1)]


@cache
def scene(seed: int, start: int = 0) -> Scene:
    rendered = [ShapesWorld(seed, objects=4).render(t) for t in range(start, start + FRAMES)]
    return Scene([image for image, _ in rendered], [truth for _, truth in rendered])


@pytest.fixture(scope="module")
def predictor():
    predictor = build_upstream(EMBEDDED / "segmenter.yaml")
    predictor.load_state_dict(torch.load(EMBEDDED / "segmenter.pt", weights_only=True)["model"])
    return predictor


@pytest.fixture
def play(predictor, segmenter, tmp_path):
    """play(scene, script) -> Agreement, free-running over ``frames`` frames, and the tracker."""

    def play(
        scene: Scene,
        script: list[Act],
        options: TrackerOptions = EXACT,
        model: Sam2Segmenter = segmenter,
        frames: int = FRAMES,
    ) -> tuple[Agreement, Ours]:
        images = scene.images[:frames]
        with pytest.MonkeyPatch.context() as patched:
            if options.memory_dtype is torch.float32:
                patched.setattr(sam2_video_predictor, "torch", torch_without_bfloat16())
            theirs, ours = Upstream(predictor, images, tmp_path), Ours(Tracker(model, options), images)
            agreement = compare(theirs, ours, script, frames)
        print(f"largest difference {agreement.largest:.1e} of {len(agreement.differences)} masks")
        return agreement, ours

    return play


def assert_equal(agreement: Agreement, close: float = CLOSE) -> None:
    assert agreement.largest < close
    assert sum(agreement.flips) == 0


@pytest.mark.parametrize(
    ("seed", "options", "close"),
    [*((seed, EXACT, CLOSE) for seed in range(4)), *((seed, SHIPPED, ROUNDED) for seed in (0, 1))],
    ids=[*(f"{seed}-float32" for seed in range(4)), "0-bfloat16", "1-bfloat16"],
)
def test_free_running_logits_equal_upstreams(seed, options, close, play):
    """Three objects from the start, one from frame 5 on, one removed on frame 9: the same logits and masks."""
    agreement, _ = play(scene(seed), scene(seed).story(), options)
    assert_equal(agreement, close)
    assert agreement.frames == {0: 26, 1: 11, 2: 26, 3: 20}  # three frames with prompts count twice


@pytest.mark.parametrize(
    ("seed", "options", "close"), [(0, EXACT, CLOSE), (3, SHIPPED, ROUNDED)], ids=["float32", "bfloat16"]
)
def test_with_attention_as_on_a_gpu_the_logits_are_upstreams_too(seed, options, close, play):
    model = load_segmenter("embedded", torch.device("cpu"), torch.float32, lean=LEAN)
    agreement, _ = play(scene(seed), scene(seed).story(), options, model)
    assert_equal(agreement, close)


@pytest.mark.parametrize(
    ("seed", "kind"), [(0, "one point"), (2, "five points, two of them outside"), (0, "mask"), (2, "mask")]
)
def test_every_kind_of_prompt_starts_the_same_object(seed, kind, play):
    assert_equal(play(scene(seed), scene(seed).story(kind), frames=SHORT)[0])


def test_the_logit_of_an_absent_object_is_upstreams():
    assert ABSENT == sam2_base.NO_OBJ_SCORE


def test_objects_that_the_detector_starts_are_the_same_too(play):
    """Boxes that come as the detections of a keyframe, among tracks that it did not detect."""
    assert_equal(play(scene(0), scene(0).story(verb="detect"), frames=SHORT)[0])


def test_an_object_that_leaves_the_picture_is_absent_on_both_sides(play):
    """Where it is absent, SAM 2 replaces its pointer by an embedding and adds another to its memory."""
    clip = scene(10, start=36)
    agreement, _ = play(clip, [Act(0, "add", n, box=clip.box(0, n)) for n in (0, 1, 2)])
    assert_equal(agreement)
    assert agreement.spreads.count(0) > 3  # absent: every logit is the same


def half_found(segmenter, clip: Scene, t: int, n: int) -> np.ndarray:
    """A box of a part of the object, whose mask overlaps the track's on frame ``t`` by 0.4 to 0.6."""
    ours = Ours(Tracker(segmenter, EXACT), clip.images)
    for earlier in range(t + 1):
        tracked = ours.track(earlier, [])
        for act in clip.story():
            if act.frame == earlier:
                getattr(ours, act.verb)(act)
    low, high = clip.box(t, n).reshape(2, 2)
    for part in product((0.4, 0.5, 0.6, 0.7, 1), repeat=2):
        box = np.concatenate([low, low + part * (high - low)])
        at = torch.from_numpy(box * segmenter.image_size / 256)[None]
        if 0.4 < mask_ops.overlap(segmenter.prompt_boxes(ours.features(), at).masks, tracked[n][None]) < 0.6:
            return box
    raise AssertionError(f"no part of object {n} on frame {t} will do: choose another")


@pytest.mark.parametrize("n", [0, 3], ids=["an old track", "a young track"])
def test_a_detection_that_prompts_a_track_again_is_upstreams_second_prompt(n, play, segmenter):
    """A keyframe's box finds a mask that overlaps the track's by 0.3 to 0.7.

    It becomes the track's second conditioning frame, and its recent memories stay.
    """
    clip, t = scene(1), 12
    agreement, ours = play(
        clip, [*clip.story(), Act(t, "detect", n, box=half_found(segmenter, clip, t, n))], frames=CORRECTED
    )
    assert ours.conditioned_on(n, t)
    assert not ours.conditioned_on(2, t)
    assert_equal(agreement)


@pytest.mark.parametrize(("seed", "times"), [(0, 1), (1, 1), (1, 2)])
def test_a_correction_on_a_tracked_frame_is_upstreams(seed, times, play):
    """By points inside and outside, once or twice on the same frame; later masks follow from the correction."""
    clip, t = scene(seed), 12
    asked = [clip.points(t, 2, 1, 1), clip.points(t, 2, 2, 3)][:times]
    corrections = [Act(t, "refine", 2, points=points) for points in asked]
    assert_equal(play(clip, [*clip.story(), *corrections], frames=CORRECTED)[0])


@pytest.mark.parametrize("kind", ["box", "one point", "five points, two of them outside", "mask"])
def test_a_correction_right_after_the_prompt_is_upstreams(kind, play):
    """It adds to the prompt of the same frame: of an object of the first frame, and of one that joins later."""
    clip = scene(0)
    asked = [Act(t, "refine", n, points=clip.points(t, n, 1, 1)) for t, n in ((0, 2), (JOINS, 3))]
    assert_equal(play(clip, clip.story(kind) + asked, frames=SHORT)[0])


def without_key_mask(read, segmenter):
    return replace(read, valid=None)


def without_one_pointer(read, segmenter):
    """Each object's pointer of its first frame is left out."""
    tokens = segmenter.pointer_dim // segmenter.memory_dim  # of one pointer
    valid = torch.ones(read.tokens.shape[:2], dtype=torch.bool) if read.valid is None else read.valid.clone()
    valid[:, -read.pointer_tokens :][:, :tokens] = False
    return replace(read, valid=valid)


@pytest.mark.parametrize("spoil", [without_key_mask, without_one_pointer])
def test_the_comparison_notices_wrong_memories(spoil, play, segmenter, monkeypatch):
    """Negative controls: keys that a young object never wrote are read, or one pointer of each is not."""
    read = Recall.__call__
    monkeypatch.setattr(Recall, "__call__", lambda recall, *of: spoil(read(recall, *of), segmenter))
    assert play(scene(0), scene(0).story(), frames=SHORT)[0].largest > 10 * CLOSE


def test_the_comparison_notices_a_correction_that_is_not_made(play, monkeypatch):
    """Negative control: the corrections above change far more than the tolerance."""
    monkeypatch.setattr(Tracker, "refine", lambda *asked: None)
    clip = scene(0)
    script = [*clip.story(), Act(12, "refine", 2, points=clip.points(12, 2, 1, 1))]
    assert play(clip, script, frames=SHORT)[0].largest > 10 * CLOSE
