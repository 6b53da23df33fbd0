"""Masks that cannot be right are not believed, and rivals do not share pixels."""

import torch

from stages.tracking.mask_filter import converged, flooding, shared_out, stolen


def square(x: int, side: int = 8) -> torch.Tensor:
    """Logits (32, 32): 5 on a square from column ``x`` on, -5 elsewhere."""
    logits = torch.full((32, 32), -5.0)
    logits[4 : 4 + side, x : x + side] = 5.0
    return logits


def gate(now: list[torch.Tensor], before: list[torch.Tensor]) -> list[bool]:
    return stolen(torch.stack(now), torch.stack(before) > 0).tolist()


def test_a_mask_that_jumps_onto_another_tracks_object_is_stolen_and_the_owner_keeps_it():
    assert gate([square(20), square(20)], [square(0), square(19)]) == [True, False]


def test_a_mask_that_appears_inside_anothers_is_stolen():
    nothing = torch.full((32, 32), -5.0)
    assert gate([square(20, side=4), square(20)], [nothing, square(20)]) == [True, False]


def test_two_tracks_that_share_an_object_all_along_both_keep_it():
    """One object under two prompts."""
    assert gate([square(20), square(20)], [square(20), square(19)]) == [False, False]


def test_a_mask_that_jumps_to_a_free_place_is_kept():
    """A fast object, or one that comes out from behind something."""
    assert gate([square(10), square(20)], [square(0), square(20)]) == [False, False]


def test_no_objects_are_no_question():
    assert stolen(torch.zeros(0, 32, 32), torch.zeros(0, 32, 32) > 0).tolist() == []


def rivals(count: int) -> torch.Tensor:
    return ~torch.eye(count, dtype=torch.bool)


def test_a_mask_that_suddenly_covers_the_picture_is_flooding():
    everything = torch.full((32, 32), 5.0)
    assert flooding(torch.stack([everything, square(3)]), torch.tensor([64.0, 64.0])).tolist() == [True, False]


def test_an_object_that_has_always_covered_the_picture_may():
    assert flooding(torch.full((1, 32, 32), 5.0), torch.tensor([1000.0])).tolist() == [False]


def test_of_two_rivals_on_one_object_the_stranger_gives_way_whatever_their_order():
    masks = torch.stack([square(10), square(11)])
    assert converged(masks, rivals(2), torch.tensor([0.2, 0.9])).tolist() == [False, True]
    assert converged(masks, rivals(2), torch.tensor([0.9, 0.2])).tolist() == [True, False]


def test_of_two_equal_rivals_one_keeps_the_object():
    masks = torch.stack([square(10), square(10)])
    assert converged(masks, rivals(2), torch.tensor([0.5, 0.5])).sum() == 1


def test_tracks_that_share_an_object_by_right_both_keep_it():
    masks = torch.stack([square(10), square(10)])
    assert converged(masks, torch.zeros(2, 2, dtype=torch.bool), torch.tensor([0.2, 0.9])).tolist() == [False, False]


def test_a_pixel_that_rivals_claim_belongs_to_the_one_it_befits():
    masks = torch.stack([square(0, side=16), square(8, side=16)])
    cost = torch.zeros(2, 32, 32)
    cost[0, :, 12:] = cost[1, :, :12] = 1.0
    out = shared_out(masks, rivals(2), cost.flatten(1)) > 0
    assert not (out[0] & out[1]).any()
    assert out[0, 4:20, :12].all()
    assert out[1, 4:20, 12:24].all()
    assert (out.any(0) == (masks > 0).any(0)).all()


def test_pixels_are_shared_by_those_that_are_no_rivals():
    masks = torch.stack([square(0, side=16), square(8, side=16)])
    assert torch.equal(shared_out(masks, torch.zeros(2, 2, dtype=torch.bool), torch.rand(2, 1024)), masks)


def test_without_objects_nothing_is_asked():
    empty, none = torch.zeros(0, 32, 32), torch.zeros(0, 0, dtype=torch.bool)
    assert flooding(empty, torch.zeros(0)).tolist() == []
    assert converged(empty, none, torch.zeros(0)).tolist() == []
    assert shared_out(empty, none, torch.zeros(0, 1024)).shape == (0, 32, 32)
