"""Few prompts are read beside contrasts, phrases that are never reported and take what resembles a prompt only."""

import pytest
import torch

from stages.detection import contrasts
from stages.detection.captions import NO_PROMPT
from stages.detection.contrasts import FEW, choose_contrasts
from stages.detection.grounding_dino import EMBEDDED, GroundingDino
from stages.detection.prompts import parse_prompts
from stages.testsrc.bodies import LABELS
from stages.testsrc.world import ShapesWorld


def shapes_only(word: str) -> bool:
    return word != "person"


def chosen(*prompts: str) -> list[str]:
    return [contrast.phrase for contrast in choose_contrasts(parse_prompts(prompts), shapes_only)]


@pytest.fixture(scope="module")
def detector() -> GroundingDino:
    return GroundingDino(EMBEDDED, torch.device("cpu"), torch.float32)


@pytest.mark.parametrize("count", range(1, 8))
def test_prompts_and_contrasts_are_at_least_five_phrases_each_once(count):
    prompts = LABELS[:count]
    phrases = [*prompts, *chosen(*prompts)]
    assert len(phrases) == max(FEW, count) == len(set(phrases))


def test_what_may_name_the_same_thing_is_no_contrast():
    """The same phrase, one with more words, and one with fewer."""
    assert "blue square" in chosen("red square")
    assert "blue square" not in [*chosen("blue square"), *chosen("shiny blue square"), *chosen("blue")]
    assert not any("square" in phrase for phrase in chosen("square"))


def test_a_model_that_knows_the_words_of_the_world_reads_the_prompts_alone():
    assert choose_contrasts(parse_prompts(["forklift"]), lambda _: True) == ()


def test_contrasts_stand_behind_the_prompts_and_cost_no_further_caption(detector):
    [caption] = detector.captions(parse_prompts(["red circle"]))
    assert set(caption.prompt_of_token) == {NO_PROMPT, 0, *range(1, FEW)}
    long = parse_prompts(["big " * 40 + "red circle"])
    [caption] = detector.captions(long)
    assert set(caption.prompt_of_token) == {NO_PROMPT, 0}
    assert detector.passes(long) == 1


def test_contrasts_are_never_reported(detector):
    total = 0
    for seed in range(500, 504):
        world = ShapesWorld(seed)
        prompts = parse_prompts(world.labels[:2])
        [found] = detector.detect([world.render(0)[0]], prompts, 0, 0)
        assert set(found.prompts.tolist()) <= set(range(len(prompts)))
        total += len(found)
    assert total > 4


@pytest.mark.slow
def test_with_contrasts_a_prompt_gets_fewer_boxes_of_other_things(detector, monkeypatch):
    """And no fewer of its own, but for a few."""
    counts = {}
    for few in (0, FEW):
        monkeypatch.setattr(contrasts, "FEW", few)
        detector._written.cache_clear()
        right = wrong = 0
        for seed in range(500, 530):
            world = ShapesWorld(seed, objects=4)
            truth = world.truth(0)
            prompts = parse_prompts([world.labels[0]])
            [found] = detector.detect([world.render(0)[0]], prompts, 0.2, 0.2)
            there = sum(
                label == world.labels[0] for label, seen in zip(truth.labels, truth.visible, strict=True) if seen
            )
            right += min(len(found), there)
            wrong += max(0, len(found) - there)
        counts[few] = right, wrong
    (alone_right, alone_wrong), (right, wrong) = counts[0], counts[FEW]
    assert right >= 0.9 * alone_right > 0
    assert wrong <= alone_wrong
