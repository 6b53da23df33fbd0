"""A mask that jumps onto another track's object is not believed; whatever moves there steadily is."""

import torch

from stages.gating import stolen


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
