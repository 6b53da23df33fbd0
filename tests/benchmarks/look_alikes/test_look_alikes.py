"""The worlds of look-alikes are what they promise, and returns are counted right on cases known by hand."""

import numpy as np
import pytest

from tests.benchmarks.look_alikes.returns import returns_of, shares
from tests.benchmarks.look_alikes.worlds import CUTS, ToAndFro, look_alikes

GAP = 12  # looks of an absence, 36 frames


def outcomes(*visits: list[int | None], gap: int = GAP, other: int = 2) -> list[tuple[int, str]]:
    """The returns of an object that had these ids on its visits, beside one that always has the id ``other``."""
    seen, ids = list[float](), list[int | None]()
    for number, visit in enumerate(visits):
        absent = gap if number else 0
        seen += [0.0] * absent + [1.0] * len(visit)
        ids += [None] * absent + visit
    visible = np.array([[share, 1.0] for share in seen], np.float32)
    return [(one.absent, one.outcome) for one in returns_of(0, visible, [[own, other] for own in ids])]


def test_a_return_is_named_by_the_id_of_most_of_its_looks():
    assert outcomes([1] * 5, [3] + [1] * 5) == [(36, "own")]
    assert outcomes([1] * 5, [2] * 5) == [(36, "other's")]
    assert outcomes([1] * 5, [3] * 5) == [(36, "new")]


def test_each_return_is_compared_with_the_visit_before():
    assert outcomes([1] * 5, [3] * 5, [3] * 5) == [(36, "new"), (36, "own")]


def test_an_absence_of_less_than_a_second_is_no_return():
    assert outcomes([1] * 5, [3] * 5, gap=5) == []


def test_short_and_long_absences_are_told_apart():
    short, long = outcomes([1] * 5, [1] * 5), outcomes([1] * 5, [3] * 5, gap=40)
    assert (short, long) == ([(36, "own")], [(120, "new")])


def test_no_returns_have_no_shares():
    assert shares([])["own"] == shares([])["returns"] == 0


@pytest.mark.parametrize("wild", [False, True])
def test_look_alikes_have_one_label_shape_size_and_mean_colour_and_two_patterns(wild):
    bodies = look_alikes(301, wild, 20).bodies
    for first, other in (bodies[:2], bodies[2:]):
        assert first.label == other.label
        assert (first.outline == other.outline).all()
        assert 0.94 < first.size / other.size < 1.07
        assert np.abs(first.texture.mean((0, 1)) - other.texture.mean((0, 1))).max() < 6
        assert np.abs(first.texture - other.texture).mean() > 10


def test_both_of_the_first_pair_leave_and_one_of_the_second():
    world = look_alikes(300, False, 20)
    gone = np.array([world.truth(t).visible < 0.1 for t in range(0, 600, 15)])
    assert (gone.mean(0) > 0.1).tolist() == [True, True, False, True]
    assert (~gone[-20:]).any(0).all()


def test_the_camera_cuts_ten_times_and_shows_other_objects_each_time():
    world = ToAndFro(300)
    views = [world._camera.view(t / 30) for t in range(round(world.length * 30))]
    assert np.abs(np.diff(views)).sum() == CUTS
    first, second = (world.truth(views.index(view)).visible > 0 for view in (0, 1))
    assert not (first & second).any()
