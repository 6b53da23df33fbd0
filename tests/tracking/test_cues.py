"""What a track is expected to do, and what it looks like."""

import torch

from stages.tracking.cues import Cues, colours, likeness


def square(x: float, y: float = 10, side: int = 8) -> torch.Tensor:
    """Logits (1, 32, 32): 5 on a square whose corner is at (x, y), -5 elsewhere."""
    logits = torch.full((1, 32, 32), -5.0)
    logits[0, int(y) : int(y) + side, int(x) : int(x) + side] = 5.0
    return logits


def followed(*masks: torch.Tensor) -> Cues:
    cues = Cues(32, torch.device("cpu"))
    cues.start(masks[0], torch.zeros(1, 3))
    for mask in masks[1:]:
        cues.follow(mask)
    return cues


def test_a_steady_object_is_expected_straight_on():
    expected, usual = followed(square(2), square(4), square(6)).expected()
    assert expected.tolist() == [[12.0, 14.0]]
    assert usual.tolist() == [64.0]


def test_a_hidden_object_is_expected_where_it_would_be_by_now():
    nothing = torch.full((1, 32, 32), -5.0)
    expected, _ = followed(square(2), square(4), nothing, nothing).expected()
    assert expected.tolist() == [[14.0, 14.0]]


def test_what_shows_of_a_half_hidden_object_does_not_stop_it():
    """The left part of it stays in sight while it goes on to the right."""
    part = square(4)
    part[..., 7:] = -5.0
    expected, usual = followed(square(2), square(4), part, part).expected()
    assert expected[0, 0] > 9
    assert usual[0] > 60


def test_an_object_found_again_elsewhere_starts_from_there_at_rest():
    cues = followed(square(2), square(4))
    cues.correct(0, square(20)[0], elsewhere=True)
    assert cues.expected()[0].tolist() == [[24.0, 14.0]]


def test_a_corrected_object_keeps_its_speed():
    cues = followed(square(2), square(4))
    cues.correct(0, square(6)[0], elsewhere=False)
    assert cues.expected()[0].tolist() == [[12.0, 14.0]]


def test_the_colour_is_that_of_the_inside():
    """A rim of another colour, as a mask that is a pixel too large has it, does not count."""
    picture = torch.zeros(3, 32, 32)
    picture[0, 11:17, 11:17] = 1.0
    assert colours(picture, square(10, side=8)).tolist() == [[1.0, 0.0, 0.0]]


def test_an_empty_mask_has_some_colour():
    assert colours(torch.ones(3, 32, 32), torch.full((1, 32, 32), -5.0)).isfinite().all()


def test_likeness_falls_with_the_distance_of_the_colours():
    red, rose, blue = torch.tensor([[1.0, 0, 0]]), torch.tensor([[1.0, 0.2, 0]]), torch.tensor([[0, 0, 1.0]])
    assert float(likeness(red, red)) == 1
    assert 0.2 < float(likeness(red, rose)) < 0.6
    assert float(likeness(red, blue)) < 0.01


def test_a_mask_that_is_astray_or_of_another_colour_is_strange():
    cues = followed(square(2), square(4))  # black, expected at (10, 14)
    picture = torch.zeros(3, 32, 32)
    picture[:, :, 20:] = 2.0
    assert cues.strangeness(picture, square(6)) < 0.1
    assert cues.strangeness(picture, square(23)) > 3


def test_a_pixel_is_claimed_by_the_nearer_and_the_liker():
    cues = followed(square(2), square(4))
    picture = torch.zeros(3, 32, 32)
    picture[:, 14, 12] = 2.0
    claim = cues.claim(picture).view(32, 32)
    assert claim[14, 10] < claim[14, 20] < claim[14, 31]
    assert claim[14, 12] > claim[14, 20]
