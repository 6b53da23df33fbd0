"""The wild worlds of the test source: what they show, and that their truth is exact."""

from functools import cache

import cv2
import numpy as np
import pytest

from stages.errors import ConfigError
from stages.source.testsrc import ShapesSource
from stages.testsrc.open_world import open_world
from stages.testsrc.wild.coding import GROUP
from stages.testsrc.wild.world import WildWorld

SEEDS = range(8)
WIDTH, HEIGHT = 160, 90


@cache
def world(seed):
    return WildWorld(seed, WIDTH, HEIGHT)


@cache
def truths(seed):
    """The truth of every tenth frame of 20 seconds."""
    return [world(seed).truth(index) for index in range(0, 600, 10)]


def seeds_where(holds):
    found = [seed for seed in range(40) if holds(world(seed))]
    assert found
    return found


def test_any_frame_can_be_drawn_at_any_time():
    coded = seeds_where(lambda world: world._crf is not None)[0]
    for seed in (0, coded):
        forward = {t: world(seed).render(t) for t in (0, 5, 77, 311)}
        again = WildWorld(seed, WIDTH, HEIGHT)
        for t in (311, 77, 5, 0):
            image, truth = again.render(t)
            assert np.array_equal(image, forward[t][0])
            assert np.array_equal(truth.masks, forward[t][1].masks)
            assert np.array_equal(truth.masks, again.truth(t).masks)


def test_the_truth_is_where_the_picture_has_the_objects():
    """Without the objects the picture is another one where their masks are, and the same elsewhere."""
    shown, empty = WildWorld(5, WIDTH, HEIGHT), WildWorld(5, WIDTH, HEIGHT)
    for one in (shown, empty):  # these change pixels that no object has
        one._crf, one._shadow, one._exposure, one._pillars = None, None, 0.0, []
    empty.bodies = ()
    for index in range(0, 300, 60):
        picture, truth = shown.render(index)
        changed = (picture.astype(int) != empty.render(index)[0]).any(2)
        inside = truth.masks.any(0)
        border = cv2.dilate(inside.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
        assert changed[~border].sum() <= 3  # tips that cover less than half of a pixel
        assert changed[inside].mean() > 0.95


def test_objects_are_of_three_to_forty_percent_of_the_pictures_height():
    heights = [
        (box[3] - box[1]) / HEIGHT
        for seed in SEEDS
        for truth in truths(seed)
        for box, visible in zip(truth.boxes, truth.visible, strict=True)
        if visible > 0.95
    ]
    assert np.quantile(heights, 0.01) >= 0.02
    assert np.quantile(heights, 0.05) < 0.09
    assert np.quantile(heights, 0.95) > 0.25
    assert max(heights) <= 0.5


def test_no_pixel_belongs_to_two_objects():
    for seed in SEEDS:
        assert max(truth.masks.sum(0).max() for truth in truths(seed)) <= 1


def test_look_alikes_have_one_label_and_size_and_patterns_of_their_own():
    for seed in SEEDS:
        bodies = world(seed).bodies
        pairs = [
            (first, second)
            for number, second in enumerate(bodies)
            for first in bodies[:number]
            if first.label == second.label
            and first.outline is second.outline
            and first.size == pytest.approx(second.size, rel=0.06)
        ]
        assert pairs
        for first, second in pairs:
            assert np.abs(first.texture - second.texture).mean() > 5


def test_objects_leave_the_picture_and_come_back():
    away = 0
    for seed in SEEDS:
        shown = np.array([truth.visible > 0.3 for truth in truths(seed)])
        for of_one in shown.T:
            edges = np.diff(of_one.astype(int))
            away += bool((edges == -1).any() and (edges == 1).any())
    assert away >= len(SEEDS)


def test_a_cut_shows_other_objects_and_the_way_back_the_first_ones_again():
    for seed in seeds_where(lambda one: len(one._camera.cuts))[:3]:
        one = world(seed)
        by_view = {0: set(), 1: set()}
        views = []
        for index in range(0, 900, 5):
            view = one._camera.view(index / one.fps)
            views.append(view)
            truth = one.truth(index)
            by_view[view] |= set(truth.ids[truth.visible > 0].tolist())
        assert by_view[0]
        assert by_view[1]
        assert not by_view[0] & by_view[1]
        assert np.abs(np.diff(views)).sum() >= 3


def test_the_light_goes_out_for_a_while_and_comes_back():
    for seed in seeds_where(lambda one: len(one._light.outages) and len(one._scenes) == 1)[:3]:
        one = world(seed)
        begin, end = one._light.outages[0]
        before, during, after = (
            one.render(round(seconds * one.fps))[0].mean() for seconds in (begin - 0.3, (begin + end) / 2, end + 0.3)
        )
        assert during < 0.6 * min(before, after)


def test_a_coded_world_loses_detail_but_no_picture():
    seed = seeds_where(lambda one: one._crf is not None)[0]
    one = world(seed)
    for index in (0, GROUP - 1, GROUP, 3 * GROUP + 2):
        shown, drawn = one.render(index)[0], one._paint(index)
        assert shown.shape == drawn.shape
        error = np.abs(shown.astype(int) - drawn).mean()
        assert 0.3 < error < 25


def test_a_coded_picture_may_have_odd_sides():
    seed = seeds_where(lambda one: one._crf is not None)[0]
    assert WildWorld(seed, 71, 53).render(0)[0].shape == (53, 71, 3)


def test_the_url_opens_a_wild_world():
    source = ShapesSource(f"testsrc://shapes?wild=1&seed=3&size={WIDTH}x{HEIGHT}&frames=2")
    shown = [frame.image for frame in source.frames()]
    assert np.array_equal(shown[1], open_world("wild", 3, WIDTH, HEIGHT).render(1)[0])


def test_a_world_is_not_both_hard_and_wild():
    with pytest.raises(ConfigError, match="one of the two"):
        ShapesSource("testsrc://shapes?wild=1&hard=1")


def test_a_wild_world_may_be_empty():
    image, truth = WildWorld(1, WIDTH, HEIGHT, objects=0).render(4)
    assert image.shape == (HEIGHT, WIDTH, 3)
    assert truth.masks.shape == (0, HEIGHT, WIDTH)


def test_a_larger_picture_shows_the_same_world():
    small, large = WildWorld(2, WIDTH, HEIGHT), WildWorld(2, 2 * WIDTH, 2 * HEIGHT)
    for index in (0, 90, 250):
        assert np.abs(small.truth(index).visible - large.truth(index).visible).max() < 0.15
        assert np.abs(2 * small.truth(index).boxes - large.truth(index).boxes).max() <= 4
