"""An object has a bounded number of views; one that is seen again follows what is seen."""

import torch

from stages.tracking.identity.views import NEVER, RATE, VIEWS, Views


def looks(value: float) -> torch.Tensor:
    return torch.full((2,), float(value))


def test_other_looks_become_a_new_view_while_there_is_room():
    views = Views.first(looks(0)[None], clock=0)
    views.see(0, looks(5), 10, like=None)
    assert views.looks[0, :2, 0].tolist() == [0, 5]
    assert views.seen[0].tolist() == [0, 10] + [NEVER] * (VIEWS - 2)


def test_the_view_that_was_not_seen_for_longest_makes_room():
    views = Views.first(looks(0)[None], clock=0)
    for number in range(1, VIEWS):
        views.see(0, looks(number), number, like=None)
    views.see(0, looks(0), VIEWS, like=0)
    views.see(0, looks(9), VIEWS + 1, like=None)
    assert views.looks[0, :, 0].tolist() == [0, 9, *range(2, VIEWS)]


def test_a_view_moves_towards_what_resembles_it():
    views = Views.first(looks(0)[None], clock=0)
    views.see(0, looks(1), 3, like=0)
    assert torch.allclose(views.looks[0, 0], looks(RATE))
    assert views.seen[0, 0] == 3


def test_rows_keep_their_views_when_they_are_reordered():
    views = Views.first(torch.tensor([[1.0, 1.0], [2.0, 2.0]]), clock=0).take([1, 0, 1])
    assert views.looks[:, 0, 0].tolist() == [2, 1, 2]
    views.see(0, looks(7), 1, like=None)
    assert views.seen[2, 1] == NEVER  # a copy
