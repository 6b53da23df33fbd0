"""Identities persist: through absence, through NaN values, and beside tracks of another prompt on the same object."""

import copy

import numpy as np
import pytest
import torch

from stages.sam2.streaming import StreamingSAM2
from stages.testsrc.world import ShapesWorld
from stages.tracking.tracker import Tracker, TrackerOptions
from stages.types import Detections, TrackChange, TrackState, Window


def only(world: ShapesWorld, t: int, *numbers: int, prompts=None) -> Detections:
    boxes = world.render(t)[1].boxes[list(numbers)].reshape(-1, 4)
    return Detections(boxes, np.full(len(numbers), 0.9, np.float32), np.array(prompts or numbers, np.int64))


def biggest(world: ShapesWorld, count: int) -> list[int]:
    """The indices of the objects with the most visible pixels on frame 0."""
    return np.argsort(-world.render(0)[1].masks.sum((1, 2)))[:count].tolist()


def blank(shapes_frame, world, t):
    frame = shapes_frame(world, t)
    frame.image[:] = 90
    return frame


def without(world: ShapesWorld, number: int) -> ShapesWorld:
    """The same world without one of its objects."""
    other = copy.copy(world)
    other.bodies = tuple(body for n, body in enumerate(world.bodies) if n != number)
    other.labels = tuple(body.label for body in other.bodies)
    return other


def absent_and_back(segmenter, world, shapes_frame, options, painted=None):
    """One object, seen twice, absent until its track has ended, then back; returns the last result."""
    (number,), tracker, changes = biggest(world, 1), Tracker(segmenter, options), []
    for t in (0, 1):
        result = tracker.step(Window(0, (shapes_frame(world, t),), True), only(world, t, number))[0]
    for t in range(2, 12):
        result = tracker.step(Window(0, (blank(shapes_frame, world, t),), False), None)[0]
        changes += [event.change for event in result.events]
    assert changes[-1] is TrackChange.ENDED
    back = shapes_frame(world, 12)
    if painted is not None:
        back.image[world.render(12)[1].masks[number]] = painted
    return tracker.step(Window(0, (back,), True), only(world, 12, number))[0]


def test_an_object_that_returns_after_its_track_has_ended_gets_the_old_id(segmenter, world, shapes_frame):
    result = absent_and_back(segmenter, world, shapes_frame, TrackerOptions(lost_after=4))
    assert [track.id for track in result.tracks] == [1]
    assert [event.change for event in result.events] == [TrackChange.RETURNED]


def test_an_object_of_another_colour_gets_a_new_id(segmenter, world, shapes_frame):
    options = TrackerOptions(lost_after=4)
    result = absent_and_back(segmenter, world, shapes_frame, options, painted=(250, 250, 250))
    assert [track.id for track in result.tracks] == [2]


def test_without_reidentification_a_returning_object_gets_a_new_id(segmenter, world, shapes_frame):
    result = absent_and_back(segmenter, world, shapes_frame, TrackerOptions(lost_after=4, reidentify=False))
    assert [track.id for track in result.tracks] == [2]


def test_a_returning_object_may_take_the_row_of_the_track_evicted_for_it(segmenter, world, shapes_frame):
    """One row, and a gallery of one: the first object returns while the second is out of sight."""
    first, second = biggest(world, 2)
    tracker = Tracker(segmenter, TrackerOptions(max_objects=1, lost_after=2))
    tracker.step(Window(0, (shapes_frame(world, 0),), True), only(world, 0, first))
    for t in range(1, 6):
        tracker.step(Window(0, (blank(shapes_frame, world, t),), False), None)
    tracker.step(Window(0, (shapes_frame(world, 6),), True), only(world, 6, second))
    tracker.step(Window(0, (blank(shapes_frame, world, 7),), False), None)
    result = tracker.step(Window(0, (shapes_frame(without(world, second), 8),), True), only(world, 8, first))[0]
    assert [(track.id, track.prompt) for track in result.tracks] == [(1, first)]


def test_a_track_out_of_sight_is_evicted_for_a_new_object_with_an_event(segmenter, world, shapes_frame):
    """One of two rows has an object that is hidden; a third object gets it."""
    first, second, third = biggest(world, 3)
    tracker = Tracker(segmenter, TrackerOptions(max_objects=2))
    tracker.step(Window(0, (shapes_frame(world, 0),), True), only(world, 0, first, second))
    gone = shapes_frame(without(world, second), 1)
    result = tracker.step(Window(0, (gone,), True), only(world, 1, first, third))[0]
    assert {(e.change, e.reason) for e in result.events} >= {(TrackChange.ENDED, "max_objects")}
    assert {track.prompt for track in result.tracks} == {first, third}
    assert len(result.tracks) == 2


def test_one_object_under_two_prompts_keeps_both_tracks_whole(segmenter, world, shapes_frame):
    (number,) = biggest(world, 1)
    tracker = Tracker(segmenter)
    tracker.step(Window(0, (shapes_frame(world, 0),), True), only(world, 0, number, number, prompts=[0, 1]))
    result = tracker.step(Window(0, tuple(shapes_frame(world, t) for t in range(1, 5)), False), None)[-1]
    first, second = (mask > 0 for mask in result.masks)
    assert (first & second).sum() > 0.9 * (first | second).sum()


def test_rivals_never_share_a_pixel(segmenter, shapes_frame):
    """Over 30 frames of a crowd, masks of objects that were detected apart have no common pixel."""
    world = ShapesWorld(300, hard=True)
    seen = np.flatnonzero(world.render(0)[1].visible > 0.9).tolist()
    tracker = Tracker(segmenter)
    tracker.step(Window(0, (shapes_frame(world, 0),), True), only(world, 0, *seen))
    for start in range(1, 31, 6):
        window = Window(0, tuple(shapes_frame(world, t) for t in range(start, start + 6)), False)
        for result in tracker.step(window, None):
            assert (result.masks > 0).sum(0).max() <= 1


@pytest.mark.parametrize("gate", [True, False])
def test_numbers_that_are_not_finite_cost_only_their_object(gate, segmenter, world, shapes_frame, monkeypatch):
    """The decoder gives NaN for one object on frames 1 and 2: it is occluded there, the others are unchanged."""

    def run(broken: bool):
        tracker, results = Tracker(segmenter, TrackerOptions(gate=gate)), []
        results += tracker.step(Window(0, (shapes_frame(world, 0),), True), only(world, 0, *biggest(world, 3)))
        for t in range(1, 5):
            with monkeypatch.context() as patch:
                if broken and t < 3:
                    patch.setattr(StreamingSAM2, "track_step", with_nan(StreamingSAM2.track_step))
                results += tracker.step(Window(0, (shapes_frame(world, t),), False), None)
        return results

    healthy, hurt = run(False), run(True)
    assert [track.state is TrackState.OCCLUDED for track in hurt[1].tracks] == [True, False, False]
    assert hurt[-1].tracks[0].state is not TrackState.OCCLUDED
    assert all(result.masks.isfinite().all() for result in hurt)
    for sound, other in zip(healthy, hurt, strict=True):
        assert torch.allclose(sound.masks[1:], other.masks[1:], atol=1e-3)


def with_nan(track_step):
    def broken(*args, **kwargs):
        out = track_step(*args, **kwargs)
        out["pred_masks"][0] = torch.nan
        return out

    return broken
