"""Identities last: through absence, through broken numbers, and beside others under another name."""

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
    """The numbers of the objects that show most on frame 0."""
    return np.argsort(-world.render(0)[1].masks.sum((1, 2)))[:count].tolist()


def blank(shapes_frame, world, t):
    frame = shapes_frame(world, t)
    frame.image[:] = 90
    return frame


def absent_and_back(segmenter, world, shapes_frame, options, painted=None):
    """One object, seen twice, gone until its track has ended, and back; the last result and all changes."""
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


def test_who_comes_back_after_the_track_has_ended_gets_the_old_id(segmenter, world, shapes_frame):
    result = absent_and_back(segmenter, world, shapes_frame, TrackerOptions(lost_after=4))
    assert [track.id for track in result.tracks] == [1]
    assert [event.change for event in result.events] == [TrackChange.RETURNED]


def test_who_looks_otherwise_is_someone_else(segmenter, world, shapes_frame):
    options = TrackerOptions(lost_after=4)
    result = absent_and_back(segmenter, world, shapes_frame, options, painted=(250, 250, 250))
    assert [track.id for track in result.tracks] == [2]


def test_without_reidentification_who_comes_back_is_new(segmenter, world, shapes_frame):
    result = absent_and_back(segmenter, world, shapes_frame, TrackerOptions(lost_after=4, reidentify=False))
    assert [track.id for track in result.tracks] == [2]


def test_who_comes_back_may_take_the_place_of_who_leaves_for_it(segmenter, world, shapes_frame):
    """One place, and room for one in the gallery: the first object returns while the second is out of sight."""
    first, second = biggest(world, 2)
    tracker = Tracker(segmenter, TrackerOptions(max_objects=1, lost_after=2))
    tracker.step(Window(0, (shapes_frame(world, 0),), True), only(world, 0, first))
    for t in range(1, 6):
        tracker.step(Window(0, (blank(shapes_frame, world, t),), False), None)
    tracker.step(Window(0, (shapes_frame(world, 6),), True), only(world, 6, second))
    tracker.step(Window(0, (blank(shapes_frame, world, 7),), False), None)
    hidden = shapes_frame(world, 8)
    hidden.image[world.render(8)[1].masks[second]] = 90
    result = tracker.step(Window(0, (hidden,), True), only(world, 8, first))[0]
    assert [(track.id, track.prompt) for track in result.tracks] == [(1, first)]


def test_the_least_useful_track_gives_its_place_to_a_new_object_and_says_so(segmenter, world, shapes_frame):
    """Of two places one is held by an object that has gone; a third object gets it."""
    first, second, third = biggest(world, 3)
    tracker = Tracker(segmenter, TrackerOptions(max_objects=2))
    tracker.step(Window(0, (shapes_frame(world, 0),), True), only(world, 0, first, second))
    gone = shapes_frame(world, 1)
    gone.image[world.render(1)[1].masks[second]] = 90
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
    """Over 30 frames of a crowd, masks of tracks that were detected apart stay apart."""
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
    """Of one object the decoder gives NaN on frames 1 and 2: it is occluded there, and the others do not notice."""

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
