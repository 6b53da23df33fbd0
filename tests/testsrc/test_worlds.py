"""The test source's worlds: the ordinary ones never change, the hard ones keep what they promise."""

import hashlib
from functools import cache

import numpy as np
import pytest

from stages.errors import ConfigError
from stages.testsrc.motion import WaypointPath
from stages.testsrc.world import ShapesWorld

SEEDS = (0, 3, 200, 209, 219)
FRAMES, SIDE = 600, 64
HIDDEN = 0.1  # share of a body's pixels below which it is out of sight


@cache
def seen(seed):
    """A hard world, and two (objects, frames) arrays: the share that shows, and whether anything is in the picture."""
    world = ShapesWorld(seed, SIDE, SIDE, hard=True)
    visible = np.stack([world.render(t)[1].visible for t in range(FRAMES)], 1)
    inside = np.array(
        [
            [bool(((polygon := body.polygon(t / 30, SIDE, SIDE)).max(0) > 0).all() and (polygon.min(0) < SIDE).all())]
            for body in world.bodies
            for t in range(FRAMES)
        ]
    ).reshape(len(world.bodies), FRAMES)
    return world, visible, inside


def spans(flags):
    """(begin, end) of each run of True."""
    edges = np.flatnonzero(np.diff(np.r_[False, flags, False]))
    return list(zip(edges[::2], edges[1::2], strict=True))


def out_of_sight(seed):
    """Seconds of every span in which a body is hidden, and of every span in which it is away."""
    _, visible, inside = seen(seed)
    hidden, away = [], []
    for shown, there in zip(visible, inside, strict=True):
        for begin, end in spans(shown < HIDDEN):
            (hidden if there[begin:end].all() else away).append((end - begin) / 30)
    return hidden, away


def pairs(world):
    return [(i, j) for j, label in enumerate(world.labels) for i in range(j) if world.labels[i] == label]


@pytest.mark.parametrize(
    ("seed", "objects", "digest", "means"),
    [
        (0, 4, "9f8db53e18cb2cc3", (76.263, 75.033, 75.981)),
        (7, 4, "4dfd449314592317", (113.538, 113.983, 114.5)),
        (113, 4, "f0b2e40d54490777", (126.117, 123.318, 124.989)),
        (209, 6, "b29c941aff987b50", (118.162, 116.917, 115.412)),
        (10007, 3, "47b1c7edf2f1a970", (135.676, 142.887, 135.225)),
        (1000000, 8, "6ddfc1edfc1f2f17", (122.437, 128.95, 123.446)),
    ],
)
def test_an_ordinary_world_is_what_it_was_when_the_embedded_models_were_trained(seed, objects, digest, means):
    world, drawn = ShapesWorld(seed, objects=objects), hashlib.sha256()
    for frame, mean in zip((0, 77, 431), means, strict=True):
        image, truth = world.render(frame)
        drawn.update(repr(truth.labels).encode())
        drawn.update(truth.masks.tobytes())
        assert image.mean() == pytest.approx(mean, abs=0.02)  # colours may round differently on another machine
    assert drawn.hexdigest()[:16] == digest


def test_any_frame_of_a_hard_world_can_be_drawn_at_any_time():
    first, second = ShapesWorld(5, hard=True), ShapesWorld(5, hard=True)
    forward = {t: first.render(t) for t in (0, 311, 599, 1234)}
    for t in (1234, 0, 599, 311):
        image, truth = second.render(t)
        assert np.array_equal(image, forward[t][0])
        assert np.array_equal(truth.masks, forward[t][1].masks)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_hard_world_has_eight_bodies_of_a_size_that_the_detector_knows_and_two_pairs_of_look_alikes(seed):
    world, _, _ = seen(seed)
    assert len(world.labels) == 8
    assert len(pairs(world)) == 2
    assert len(set(world.labels)) == 6
    assert all(body.size * (1 - body.pulse[0]) >= 0.16 and body.size <= 0.36 for body in world.bodies)
    for i, j in pairs(world):
        assert world.bodies[i].size == pytest.approx(world.bodies[j].size, rel=0.1)


@pytest.mark.parametrize("seed", SEEDS)
def test_look_alikes_cross_each_others_way_at_least_three_times(seed):
    world, _, _ = seen(seed)
    for pair in pairs(world):
        first, second = (np.array([world.bodies[n].motion.position(t / 30) for t in range(FRAMES)]) for n in pair)
        size = world.bodies[pair[0]].size
        distance = np.linalg.norm(first - second, axis=1)
        near = [distance[begin:end].min() < 0.5 * size for begin, end in spans(distance < 1.5 * size)]
        assert sum(near) >= 3


@pytest.mark.parametrize("seed", SEEDS)
def test_bodies_hide_behind_others_for_up_to_two_seconds(seed):
    hidden, _ = out_of_sight(seed)
    assert max(hidden) <= 2.0
    assert sum(seconds >= 0.5 for seconds in hidden) >= 3


@pytest.mark.parametrize("seed", SEEDS)
def test_bodies_leave_the_picture_for_one_to_five_seconds_and_some_for_more_than_three(seed):
    _, away = out_of_sight(seed)
    assert min(away) >= 1.0
    assert max(away) <= 5.0
    assert sum(seconds > 3.0 for seconds in away) >= 2


@pytest.mark.parametrize("seed", SEEDS)
def test_one_of_two_look_alikes_is_always_in_sight(seed):
    world, visible, _ = seen(seed)
    for pair in pairs(world):
        assert visible[list(pair)].max(0).min() > HIDDEN


def test_more_bodies_do_not_change_the_eight():
    few, many = ShapesWorld(3, hard=True), ShapesWorld(3, objects=12, hard=True)
    assert few.labels == many.labels[-8:]
    assert not set(many.labels[:4]) & set(few.labels)
    assert np.array_equal(few.render(100)[1].masks, many.render(100)[1].masks[-8:])


@pytest.mark.parametrize(("seed", "objects"), [(5, 11), (2, 16), (9, 40)])
def test_a_hard_world_may_have_many_more_bodies(seed, objects):
    assert len(ShapesWorld(seed, 96, 64, objects, hard=True).bodies) == objects


def test_a_hard_world_of_fewer_than_eight_bodies_is_refused():
    with pytest.raises(ConfigError, match="objects=8 or more"):
        ShapesWorld(objects=7, hard=True)


def test_a_tour_goes_straight_from_place_to_place_and_begins_again():
    tour = WaypointPath(np.array([0.0, 1.0, 3.0]), np.array([[0.0, 0.0], [1.0, 0.5], [1.0, 1.5]]), 4.0)
    assert tour.position(0.5).tolist() == [0.5, 0.25]
    assert tour.position(2.0).tolist() == [1.0, 1.0]
    assert tour.position(3.5).tolist() == [0.5, 0.75]
    assert tour.position(40.5).tolist() == tour.position(0.5).tolist()
