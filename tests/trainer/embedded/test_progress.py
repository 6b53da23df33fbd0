"""Training an embedded model: it goes on where it was cut off, and does not depend on who draws the pictures."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from trainer.embedded import detector, progress
from trainer.embedded.batches import batches
from trainer.embedded.clips import Phase
from trainer.embedded.detector import draw_step as draw_detector_step
from trainer.embedded.progress import Progress, Run
from trainer.embedded.segmenter import draw_step, phase_of

CURRICULUM = (Phase(0.5, 64, 2, 1, (0.0, 0.0)), Phase(1.0, 64, 3, 2, (1.0, 0.0)))


@pytest.fixture(autouse=True)
def _often(monkeypatch):
    monkeypatch.setattr(progress, "EVERY", 1)


def begin(out, start=None, steps=6):
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    training = Progress(model, torch.optim.AdamW(model.parameters(), 0.1), Run(steps, out, start=start))
    training.start(torch.load)
    return training


def train(training, steps):
    for step in range(training.step, steps):
        loss = training.model(torch.full((1, 3), float(step))).square().sum()
        training.optimizer.zero_grad()
        loss.backward()
        training.optimizer.step()
        training.advance(0.9)
    return training


def same(one, other):
    """Whether parts of two batches are equal: tensors, and containers of them."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def weights(training):
    return [*training.model.state_dict().values(), *training.average.state_dict().values()]


def test_a_training_that_was_cut_off_goes_on_to_the_same_weights(tmp_path):
    whole = train(begin(tmp_path / "whole"), 6)
    train(begin(tmp_path / "cut"), 3)
    resumed = train(begin(tmp_path / "cut", tmp_path / "cut.training"), 6)
    assert resumed.step == whole.step == 6
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(resumed), strict=True))


def test_another_schedule_is_refused_with_the_one_to_give(tmp_path):
    """The learning rate follows from the number of steps; it would jump."""
    train(begin(tmp_path / "cut", steps=2600), 3)
    with pytest.raises(SystemExit, match=r"was begun with --steps 2600 --seed 0 --factor 1; give the same$"):
        begin(tmp_path / "other", tmp_path / "cut.training", steps=9000)


@pytest.mark.slow
def test_a_detector_s_training_that_was_interrupted_ends_with_the_same_model(tmp_path, monkeypatch):
    monkeypatch.setattr(detector, "CALIBRATION", range(10_000, 10_004))
    monkeypatch.setattr(detector, "CHECK", range(10_200, 10_202))
    detector.train(Run(2, tmp_path / "whole"), batch=2)

    def interrupted(*arguments):
        if arguments[-1] == 1:
            raise KeyboardInterrupt
        return draw_detector_step(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(detector, "draw_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            detector.train(Run(2, tmp_path / "cut"), batch=2)
    detector.train(Run(2, tmp_path / "cut", start=tmp_path / "cut.training"), batch=2)
    whole, cut = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "cut"))
    assert whole == cut


def test_the_state_goes_when_the_training_is_complete(tmp_path):
    training = train(begin(tmp_path / "model"), 2)
    assert (tmp_path / "model.training").exists()
    training.finish()
    assert list(tmp_path.iterdir()) == []


def test_a_trained_model_is_trained_further_from_the_first_step_on(tmp_path):
    trained = train(begin(tmp_path / "first"), 4)
    torch.save(copy.deepcopy(trained.average.state_dict()), tmp_path / "model.pt")
    further = begin(tmp_path / "second", tmp_path / "model.pt")
    assert (further.step, further.further) == (0, True)
    assert torch.equal(further.model.weight, trained.average.weight)
    assert torch.equal(further.average.weight, trained.average.weight)


def test_a_cut_off_further_training_still_is_one(tmp_path):
    torch.save(begin(tmp_path / "first").model.state_dict(), tmp_path / "model.pt")
    train(begin(tmp_path / "second", tmp_path / "model.pt"), 2)
    assert begin(tmp_path / "second", tmp_path / "second.training").further


@pytest.mark.parametrize("draw", [partial(draw_step, CURRICULUM, 4, 7, 1), partial(draw_detector_step, 4, 7, 2, False)])
def test_the_pictures_of_a_step_are_the_same_whoever_draws_them_and_from_whatever_step_on(draw):
    alone, with_workers = (list(batches(draw, 0, 4, workers)) for workers in (0, 2))
    for first, second in zip((*alone, draw(2)), (*with_workers, next(batches(draw, 2, 4, 0))), strict=True):
        assert all(same(one, other) for one, other in zip(first, second, strict=True))
    assert not np.array_equal(alone[2][0], alone[3][0])


def test_phases_follow_each_other():
    assert phase_of(CURRICULUM, 0.0) == (CURRICULUM[0], 0.0)
    assert phase_of(CURRICULUM, 0.25) == (CURRICULUM[0], 0.5)
    assert phase_of(CURRICULUM, 0.5) == (CURRICULUM[1], 0.0)


def test_more_pictures_a_step_are_asked_for_by_a_factor():
    assert draw_step(CURRICULUM, 4, 7, 3, 0).images.shape[1] == 3
    assert draw_step(CURRICULUM, 4, 7, 2, 3).images.shape[1] == 4
