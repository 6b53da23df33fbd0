"""Motion prediction and colour of tracks."""

import torch

from stages.tracking.cues import Cues, median_colours, mismatch, pixel_mismatch
from stages.tracking.identity.views import Views


def square(x: float, y: float = 10, side: int = 8) -> torch.Tensor:
    """Logits (1, 32, 32): 5 on a square whose corner is at (x, y), -5 elsewhere."""
    logits = torch.full((1, 32, 32), -5.0)
    logits[0, int(y) : int(y) + side, int(x) : int(x) + side] = 5.0
    return logits


def call(step, shared, rows):
    return step(shared, rows)


def followed(*masks: torch.Tensor) -> Cues:
    cues = Cues(32, 2, torch.device("cpu"))
    cues.append(masks[0], torch.zeros(1, 3), Views.first(torch.zeros(1, 2), 0))
    for mask in masks[1:]:
        cues.update(mask, call)
    return cues


def test_an_object_at_constant_speed_is_predicted_on_its_line():
    expected, usual = followed(square(2), square(4), square(6)).predict()
    assert expected.tolist() == [[12.0, 14.0]]
    assert usual.tolist() == [64.0]


def test_the_prediction_of_a_hidden_object_keeps_moving():
    nothing = torch.full((1, 32, 32), -5.0)
    expected, _ = followed(square(2), square(4), nothing, nothing).predict()
    assert expected.tolist() == [[14.0, 14.0]]


def test_a_partly_hidden_object_keeps_its_speed_and_area():
    """Its left part stays visible while it moves on to the right."""
    part = square(4)
    part[..., 7:] = -5.0
    expected, usual = followed(square(2), square(4), part, part).predict()
    assert expected[0, 0] > 9
    assert usual[0] > 60


def test_a_relocated_object_starts_at_its_new_position_at_rest():
    cues = followed(square(2), square(4))
    cues.correct(0, square(20)[0], relocated=True)
    assert cues.predict()[0].tolist() == [[24.0, 14.0]]


def test_a_corrected_object_keeps_its_speed():
    cues = followed(square(2), square(4))
    cues.correct(0, square(6)[0], relocated=False)
    assert cues.predict()[0].tolist() == [[12.0, 14.0]]


def test_the_colour_is_measured_inside_the_mask():
    """A rim of another colour, as in a mask that is one pixel too large, does not count."""
    picture = torch.zeros(3, 32, 32)
    picture[0, 11:17, 11:17] = 1.0
    assert median_colours(picture, square(10, side=8)).tolist() == [[1.0, 0.0, 0.0]]


def test_the_colour_of_an_empty_mask_is_finite():
    assert median_colours(torch.ones(3, 32, 32), torch.full((1, 32, 32), -5.0)).isfinite().all()


def test_a_mask_far_away_or_of_another_colour_has_a_high_mismatch():
    cues = followed(square(2), square(4))  # black, predicted at (10, 14)
    parts = cues.moments, cues.motion, cues.colours
    picture = torch.zeros(3, 32, 32)
    picture[:, :, 20:] = 2.0
    assert mismatch(*parts, picture, square(6)) < 0.1
    assert mismatch(*parts, picture, square(23)) > 3


def test_the_cost_of_a_pixel_rises_with_distance_and_colour_difference():
    cues = followed(square(2), square(4))
    picture = torch.zeros(3, 32, 32)
    picture[:, 14, 12] = 2.0
    cost = pixel_mismatch(cues.moments, cues.motion, cues.colours, picture).view(32, 32)
    assert cost[14, 10] < cost[14, 20] < cost[14, 31]
    assert cost[14, 12] > cost[14, 20]
