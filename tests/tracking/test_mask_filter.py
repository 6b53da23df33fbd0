"""Implausible masks are found, and rivals share no pixel."""

import torch

from stages.tracking.mask_filter import converged, flooding, jumped, separate_rivals


def square(x: int, side: int = 8) -> torch.Tensor:
    """Logits (32, 32): 5 on a square from column ``x`` on, -5 elsewhere."""
    logits = torch.full((32, 32), -5.0)
    logits[4 : 4 + side, x : x + side] = 5.0
    return logits


def jumps(now: list[torch.Tensor], before: list[torch.Tensor]) -> list[bool]:
    return jumped(torch.stack(now), torch.stack(before) > 0).tolist()


def test_of_two_masks_on_one_object_the_one_that_came_from_elsewhere_has_jumped():
    assert jumps([square(20), square(20)], [square(0), square(19)]) == [True, False]


def test_a_mask_that_appears_inside_another_has_jumped():
    nothing = torch.full((32, 32), -5.0)
    assert jumps([square(20, side=4), square(20)], [nothing, square(20)]) == [True, False]


def test_neither_of_two_tracks_that_stay_on_one_object_has_jumped():
    """One object under two prompts."""
    assert jumps([square(20), square(20)], [square(20), square(19)]) == [False, False]


def test_a_mask_that_moves_to_where_no_other_is_has_not_jumped():
    """It is of a fast object, or of one that was hidden."""
    assert jumps([square(10), square(20)], [square(0), square(20)]) == [False, False]


def test_without_objects_none_has_jumped():
    assert jumped(torch.zeros(0, 32, 32), torch.zeros(0, 32, 32) > 0).tolist() == []


def rivals(count: int) -> torch.Tensor:
    return ~torch.eye(count, dtype=torch.bool)


def test_a_mask_that_suddenly_covers_the_picture_is_flooding():
    everything = torch.full((32, 32), 5.0)
    assert flooding(torch.stack([everything, square(3)]), torch.tensor([64.0, 64.0])).tolist() == [True, False]


def test_an_object_that_usually_covers_the_picture_is_not_flooding():
    assert flooding(torch.full((1, 32, 32), 5.0), torch.tensor([1000.0])).tolist() == [False]


def test_of_two_rivals_on_one_object_the_one_with_the_higher_mismatch_has_converged():
    masks = torch.stack([square(10), square(11)])
    assert converged(masks, rivals(2), torch.tensor([0.2, 0.9])).tolist() == [False, True]
    assert converged(masks, rivals(2), torch.tensor([0.9, 0.2])).tolist() == [True, False]


def test_of_two_equal_rivals_one_keeps_the_object():
    masks = torch.stack([square(10), square(10)])
    assert converged(masks, rivals(2), torch.tensor([0.5, 0.5])).sum() == 1


def test_tracks_that_are_not_rivals_may_share_an_object():
    masks = torch.stack([square(10), square(10)])
    assert converged(masks, torch.zeros(2, 2, dtype=torch.bool), torch.tensor([0.2, 0.9])).tolist() == [False, False]


def test_a_pixel_of_two_rivals_is_left_to_the_one_with_the_lower_cost():
    masks = torch.stack([square(0, side=16), square(8, side=16)])
    cost = torch.zeros(2, 32, 32)
    cost[0, :, 12:] = cost[1, :, :12] = 1.0
    out = separate_rivals(masks, rivals(2), cost.flatten(1)) > 0
    assert not (out[0] & out[1]).any()
    assert out[0, 4:20, :12].all()
    assert out[1, 4:20, 12:24].all()
    assert (out.any(0) == (masks > 0).any(0)).all()


def test_tracks_that_are_not_rivals_share_pixels():
    masks = torch.stack([square(0, side=16), square(8, side=16)])
    assert torch.equal(separate_rivals(masks, torch.zeros(2, 2, dtype=torch.bool), torch.rand(2, 1024)), masks)


def test_all_filters_accept_no_objects():
    empty, none = torch.zeros(0, 32, 32), torch.zeros(0, 0, dtype=torch.bool)
    assert flooding(empty, torch.zeros(0)).tolist() == []
    assert converged(empty, none, torch.zeros(0)).tolist() == []
    assert separate_rivals(empty, none, torch.zeros(0, 1024)).shape == (0, 32, 32)
