"""Thresholds learned from scores, simulated ones and those of the embedded detector."""

import json
import pickle

import numpy as np
import pytest
import torch

from stages.detection.auto_threshold import FLOOR, LIMITS, MAX_BOXES, STEP, WARM_UP, AutoThresholds
from stages.detection.grounding_dino import EMBEDDED, GroundingDino
from stages.detection.prompts import parse_prompts
from stages.testsrc.bodies import LABELS
from stages.testsrc.world import ShapesWorld
from stages.types import Detections

START = 0.3


def odds(score: float) -> float:
    return float(np.log(score / (1 - score)))


class Scores:
    """Simulated detections: scores of objects, and of a background."""

    def __init__(self, prompts: int = 3, background: float = -3.8, objects: float = 1.5, spread: float = 0.8) -> None:
        """``objects`` and ``background`` are mean log odds, ``spread`` is the objects' standard deviation."""
        self.prompts, self.background, self.objects, self.spread = prompts, background, objects, spread
        self._rng = np.random.default_rng(0)

    def keyframe(self, shown: tuple[int, ...], proposals: int = 20) -> Detections:
        """An object of each prompt in ``shown``, and ``proposals`` background boxes."""
        background = self._rng.normal(self.background, 0.8, proposals)
        objects = self._rng.normal(self.objects, self.spread, len(shown))
        prompts = np.array([*self._rng.integers(0, self.prompts, proposals), *shown], np.int64)
        scores = 1 / (1 + np.exp(-np.array([*background, *objects])))
        order = np.argsort(-scores)
        boxes = np.zeros((len(scores), 4), np.float32)
        return Detections(boxes, scores[order].astype(np.float32), prompts[order])

    def watch(self, keyframes: int, shown: tuple[int, ...]) -> AutoThresholds:
        """Thresholds after that many keyframes."""
        thresholds = AutoThresholds(self.prompts, START)
        for _ in range(keyframes):
            thresholds.select(self.keyframe(shown))
        return thresholds


def test_nothing_moves_before_the_warm_up_is_over():
    scores = Scores()
    assert scores.watch(WARM_UP - 1, (0, 1)).values == (START,) * 3
    assert scores.watch(WARM_UP + 20, (0, 1)).values[0] != START


def test_objects_that_score_low_are_found_once_their_prompt_has_shown_some():
    """The threshold falls to between background and objects; of 200 weak objects nearly all are kept, and little
    else."""
    scores = Scores(background=-5.5, objects=-1.0)
    thresholds = scores.watch(60, (0, 1))
    assert -4 < odds(thresholds.values[0]) < -2
    kept = [thresholds.select(scores.keyframe((0, 1))) for _ in range(100)]
    right = sum(int((found.scores > 1 / (1 + np.exp(3))).sum()) for found in kept)
    assert right >= 180
    assert sum(map(len, kept)) - right <= 20


def test_scores_that_run_high_raise_every_threshold():
    thresholds = Scores(background=-1.5, objects=3.0).watch(60, (0, 1))
    assert min(thresholds.values) > START + 0.1


def test_the_threshold_of_an_absent_object_never_falls_below_its_start():
    thresholds = Scores(background=-5.0, objects=0.0).watch(200, (0, 1))
    assert thresholds.values[0] < START - 0.1
    assert thresholds.values[1] < START - 0.1
    assert thresholds.values[2] == pytest.approx(START)


@pytest.mark.parametrize("background", [-5.0, -3.2])
def test_a_stream_that_shows_nothing_keeps_the_thresholds_it_started_with(background):
    """Also where some background scores reach them."""
    assert Scores(background=background).watch(200, ()).values == pytest.approx((START,) * 3)


def test_objects_similar_to_an_absent_one_do_not_lower_its_threshold():
    """Their scores are above the background, but never reached the threshold."""
    scores = Scores(1, background=-5.0, objects=-2.0, spread=0.2)
    assert scores.watch(200, (0,)).values == pytest.approx((START,))


def test_keyframes_without_any_box_move_nothing():
    thresholds = AutoThresholds(3, START)
    for _ in range(50):
        assert len(thresholds.select(Detections.empty())) == 0
    assert thresholds.values == (START,) * 3
    assert len(AutoThresholds(0, START).select(Detections.empty())) == 0


def test_thresholds_follow_when_the_scores_change():
    """Objects score less at night: the scores of the day lose their weight."""
    day, night = Scores(objects=4.0, background=-1.0), Scores(objects=-0.5, background=-5.0)
    thresholds = day.watch(300, (0, 1))
    assert min(thresholds.values) > START
    for _ in range(3000):
        thresholds.select(night.keyframe((0, 1)))
    assert max(thresholds.values[:2]) < START


def test_a_threshold_moves_in_small_steps_and_within_limits():
    scores = Scores(background=1.5, objects=5.0)
    thresholds = AutoThresholds(3, START)
    seen = [thresholds.values]
    for _ in range(60):
        thresholds.select(scores.keyframe((0, 1)))
        seen.append(thresholds.values)
    moved = np.array([[odds(value) for value in values] for values in seen])
    assert np.abs(np.diff(moved, axis=0)).max() <= STEP * (odds(LIMITS[1]) - odds(START)) + 1e-9
    assert max(seen[-1]) <= LIMITS[1]
    assert seen[-1] == pytest.approx((LIMITS[1],) * 3, abs=1e-3)


def test_a_start_beyond_the_limits_is_left_where_it_is():
    thresholds = AutoThresholds(1, 0.9)
    for _ in range(30):
        thresholds.select(Scores(1).keyframe(()))
    assert thresholds.values == pytest.approx((0.9,))


def test_what_is_kept_reaches_the_threshold_and_keeps_its_order():
    scores = Scores()
    thresholds = scores.watch(30, (0, 1))
    before, found = thresholds.values, scores.keyframe((0, 1, 2, 0))
    kept = thresholds.select(found)
    expected = [n for n in range(len(found)) if found.scores[n] >= before[found.prompts[n]]]
    assert 0 < len(expected) < len(found)
    assert kept.scores.tolist() == found.scores[expected].tolist()
    assert kept.prompts.tolist() == found.prompts[expected].tolist()


def test_only_the_best_boxes_of_a_keyframe_count():
    """A model with hundreds of weak proposals gives the same thresholds as one with few."""
    few, many = AutoThresholds(2, START), AutoThresholds(2, START)
    scores = Scores(2)
    for _ in range(50):
        found = scores.keyframe((0, 1), proposals=300)
        many.select(found)
        few.select(found.take(range(MAX_BOXES)))
    assert few.values == many.values


def test_its_memory_does_not_grow():
    scores = Scores()
    young, old = scores.watch(WARM_UP, (0, 1)), scores.watch(500, (0, 1))
    assert len(pickle.dumps(young)) == len(pickle.dumps(old))


def test_a_new_stream_detects_what_the_fixed_thresholds_do():
    """With the embedded detector, until the warm-up is over."""
    detector = GroundingDino(EMBEDDED, torch.device("cpu"), torch.float32)
    total = 0
    for seed in range(500, 508):
        world = ShapesWorld(seed)
        absent = [label for label in LABELS if label not in world.labels]
        prompts = parse_prompts([*world.labels, *absent[:2]])
        images = [world.render(30 * index)[0] for index in range(WARM_UP)]
        thresholds = AutoThresholds(len(prompts), START)
        fixed = detector.detect(images, prompts, 0.25, START)
        for usual, everything in zip(fixed, detector.detect(images, prompts, FLOOR, FLOOR), strict=True):
            kept = thresholds.select(everything)
            assert len(everything) > len(usual)
            assert kept.boxes.tolist() == usual.boxes.tolist()
            assert kept.prompts.tolist() == usual.prompts.tolist()
            total += len(kept)
    assert total > 60


@pytest.mark.parametrize(("objects", "moves"), [(0.5, False), (3.5, True)])
def test_thresholds_stay_where_the_scores_are_as_expected(objects, moves):
    """And move where a model's scores run high."""
    scores = Scores(background=-1.0 if moves else -3.3, objects=objects, spread=0.3)
    values = scores.watch(60, (0, 1)).values
    assert (max(abs(odds(value) - odds(START)) for value in values) > 0.7) is moves
    assert moves or values == pytest.approx((START,) * 3)


def test_what_was_learned_goes_on_elsewhere():
    """In another process, by way of JSON, where the prompts stand in another order and one is new."""
    scores, here, there = Scores(), AutoThresholds(3, START), AutoThresholds(3, START)
    for _ in range(WARM_UP + 3):
        here.select(scores.keyframe((0, 0, 2)))
    there.load_state_dict(json.loads(json.dumps(here.state_dict())), [2, None, 0])
    here.rearrange([2, None, 0])
    assert there.values == here.values != (START,) * 3
    for _ in range(20):
        found = scores.keyframe((0, 2))
        assert here.select(found).scores.tolist() == there.select(found).scores.tolist()
        assert there.values == here.values


def test_the_rest_of_a_warm_up_is_waited_for_elsewhere():
    scores, here, there = Scores(), AutoThresholds(3, START), AutoThresholds(3, START)
    here.select(scores.keyframe((0,)))
    there.load_state_dict(here.state_dict(), [0, 1, 2])
    moved = []
    for _ in range(WARM_UP - 1):
        there.select(scores.keyframe((0,)))
        moved.append(there.values != (START,) * 3)
    assert moved == [False] * (WARM_UP - 2) + [True]


def test_prompts_that_stay_keep_what_was_learned_of_them_and_new_ones_start_anew():
    scores = Scores()
    thresholds = scores.watch(40, (0, 1))
    moved = thresholds.values[0]
    assert moved != START
    thresholds.rearrange([2, None, 0])
    assert thresholds.values[1:] == (START, moved)
    for _ in range(40):
        thresholds.select(scores.keyframe((1, 2)))
    assert len(thresholds.values) == 3
    assert thresholds.values[1] == pytest.approx(moved, abs=0.1)
