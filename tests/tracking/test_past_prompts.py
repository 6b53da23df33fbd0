"""Objects added and corrected on a past frame, then carried to the present."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from stages.errors import ConfigError
from stages.testsrc.world import ShapesWorld
from stages.tracking.tracker import Tracker, TrackerOptions
from stages.types import Detections, PastFrame, TrackChange, TrackState, Window
from tests.testsrc.truth import truth_detections
from tests.tracking.test_by_hand import middle_of, overlap

LAST = 8  # the frame tracked last, two frames of the world after another


@pytest.fixture(scope="module")
def fast() -> ShapesWorld:
    """The shapes of ``world`` at half its rate, so that they move twice as far from frame to frame."""
    return ShapesWorld(4, fps=15)


def past(world, t, last=LAST) -> PastFrame:
    image = world.render(t)[0]
    return PastFrame(t, image.shape[:2], image, last - t)


def tracked_to(segmenter, world, shapes_frame, last=LAST, options=None, prompts=None) -> Tracker:
    """A tracker that has tracked the frames up to ``last``, of ``prompts`` where they are given."""
    tracker = Tracker(segmenter, options or TrackerOptions(max_objects=6))
    found = truth_detections(world, 0)
    found = found.take([d for d in range(len(found)) if prompts and found.prompts[d] in prompts])
    tracker.step(Window(0, (shapes_frame(world, 0),), True), found)
    tracker.step(Window(0, tuple(shapes_frame(world, t) for t in range(1, last + 1)), False), None)
    return tracker


def fastest(world) -> int:
    """The shape that moves most from the first to the last frame and is in sight on both."""
    first, last = world.truth(0), world.truth(LAST)
    moved = np.abs(first.boxes - last.boxes).sum(1)
    return int((moved * (first.visible > 0.9) * (last.visible > 0.9)).argmax())


def joined(tracker, carried, world, frames) -> int:
    tracker.carry(carried, [past(world, t) for t in frames])
    return tracker.join(carried)


def masks_next(tracker, world, shapes_frame) -> dict:
    result = tracker.step(Window(0, (shapes_frame(world, LAST + 1),), False), None)[0]
    return {track.id: mask for track, mask in zip(result.tracks, result.masks, strict=True)}


@pytest.mark.parametrize("frames", [range(1, LAST + 1), [3, 6, LAST]], ids=["all", "some"])
def test_an_object_prompted_on_a_past_frame_is_where_it_has_moved_to(frames, segmenter, fast, shapes_frame):
    """A point on its place of then, which it has left: the next mask is of the object, all frames kept or not."""
    wanted, tracker = fastest(fast), tracked_to(segmenter, fast, shapes_frame)
    carried = tracker.add_on(past(fast, 0), points=(middle_of(fast.truth(0).masks[wanted]), np.array([1])))
    assert tracker.ids == ()
    track = joined(tracker, carried, fast, frames)
    assert tracker.ids == (track,)
    [result] = tracker.step(Window(0, (shapes_frame(fast, LAST + 1),), False), None)
    assert [(event.change, event.frame) for event in result.events] == [(TrackChange.STARTED, LAST)]
    assert result.tracks[0].state is TrackState.TRACKED
    assert overlap(result.masks[0], fast.truth(LAST + 1).masks[wanted]) > 0.6


def test_an_object_carried_along_is_remembered_as_one_that_was_added_in_time(segmenter, fast, shapes_frame):
    """With all frames kept as they were, the masks equal those of an object added when the frame was the last one."""
    wanted, prompt = fastest(fast), {"box": fast.truth(0).boxes[fastest(fast)]}
    options = TrackerOptions(max_objects=6, reidentify=False)
    late = tracked_to(segmenter, fast, shapes_frame, options=options)
    carried = late.add_on(past(fast, 0), **prompt)
    track = joined(late, carried, fast, range(1, LAST + 1))
    timely = Tracker(segmenter, options)
    timely.step(Window(0, (shapes_frame(fast, 0),), True), Detections.empty())
    timely.add(**prompt)
    timely.step(Window(0, tuple(shapes_frame(fast, t) for t in range(1, LAST + 1)), False), None)
    expected = masks_next(timely, fast, shapes_frame)
    assert torch.allclose(masks_next(late, fast, shapes_frame)[track], expected[1], atol=1e-4)
    assert overlap(expected[1], fast.truth(LAST + 1).masks[wanted]) > 0.5


def test_the_tracks_that_are_there_do_not_notice_one_that_joins(segmenter, fast, shapes_frame):
    options = TrackerOptions(max_objects=6, gate=False)
    others = [number for number in range(len(fast.labels)) if number != fastest(fast)]
    plain, joining = (tracked_to(segmenter, fast, shapes_frame, options=options, prompts=others) for _ in range(2))
    point = middle_of(fast.truth(0).masks[fastest(fast)])
    joined(joining, joining.add_on(past(fast, 0), points=(point, np.array([1]))), fast, [4, LAST])
    before, after = (masks_next(tracker, fast, shapes_frame) for tracker in (plain, joining))
    assert len(after) == len(before) + 1
    assert all(torch.allclose(mask, after[track], atol=1e-4) for track, mask in before.items())


def test_a_point_on_an_object_that_is_tracked_already_gives_its_id_and_a_box_a_second_track(
    segmenter, fast, shapes_frame
):
    wanted, tracker = fastest(fast), tracked_to(segmenter, fast, shapes_frame, prompts=range(9))
    [track] = [record.id for record in tracker._state.table.rows if record.prompt == wanted]
    truth, before = fast.truth(0), tracker.ids
    carried = tracker.add_on(past(fast, 0), points=(middle_of(truth.masks[wanted]), np.array([1])))
    assert joined(tracker, carried, fast, range(1, LAST + 1)) == track
    assert tracker.ids == before
    second = joined(tracker, tracker.add_on(past(fast, 0), box=truth.boxes[wanted]), fast, [4, LAST])
    assert second not in before


def test_a_correction_on_a_past_frame_holds_in_the_present(segmenter, fast, shapes_frame):
    """A track that went for two objects is told on a past frame which one is meant."""
    tracker, truth = Tracker(segmenter, TrackerOptions(max_objects=6)), fast.truth(0)
    wanted, other = np.argsort(-truth.masks.sum((1, 2)))[:2]
    tracker.step(Window(0, (shapes_frame(fast, 0),), True), Detections.empty())
    both = truth.boxes[[wanted, other]]
    track = tracker.add(box=np.concatenate([both[:, :2].min(0), both[:, 2:].max(0)]))
    results = tracker.step(Window(0, tuple(shapes_frame(fast, t) for t in range(1, LAST + 1)), False), None)
    seen = torch.nn.functional.interpolate(results[1].masks[None, 0:1], truth.masks.shape[1:])[0, 0].numpy() > 0
    now, then = fast.truth(LAST + 1).masks[wanted], fast.truth(2)
    points = np.concatenate([middle_of(then.masks[wanted]), middle_of(then.masks[other])])
    carried = tracker.refine_on(past(fast, 2), track, points, np.array([1, 0]), seen)
    assert joined(tracker, carried, fast, range(3, LAST + 1)) == track
    corrected = masks_next(tracker, fast, shapes_frame)
    assert list(corrected) == [track]
    assert overlap(corrected[track], now) > 0.6


def test_a_correction_that_is_lost_on_the_way_leaves_a_track_that_is_in_sight_alone(segmenter, fast, shapes_frame):
    """A cut takes its carried copy out of sight; where the track is away as well, it stays so."""
    wanted = fastest(fast)
    tracker = tracked_to(segmenter, fast, shapes_frame, prompts=[wanted])
    [track], points = tracker.ids, (middle_of(fast.truth(0).masks[wanted]), np.array([1]))
    before, carried = tracker.snapshot(), tracker.refine_on(past(fast, 0), track, *points, None)
    tracker.carry(carried, [replace(past(fast, LAST), cut=True)])
    with pytest.raises(ConfigError, match=f"track {track} as corrected was lost on the way from frame 0"):
        tracker.join(carried)
    assert tracker.snapshot() == before
    tracker._state.leave_view()
    tracker._state.masks = -tracker._state.masks.abs()
    assert tracker.join(carried) == track
    assert tracker._state.table.rows[0].away


def test_points_on_the_frame_of_an_earlier_prompt_are_added_to_its_points(segmenter, fast, shapes_frame):
    """So they may be outside alone; on another frame without a mask there must be one inside."""
    tracker, truth = tracked_to(segmenter, fast, shapes_frame), fast.truth(0)
    first = tracker.add_on(past(fast, 0), points=(middle_of(truth.masks[fastest(fast)]), np.array([1])))
    track = joined(tracker, first, fast, [4, LAST])
    outside = np.array([[1, 1]], np.float32), np.array([0])
    again = tracker.refine_on(past(fast, 0), track, *outside, None)
    assert again.prompted.points[1].tolist() == [1, 0]
    assert again.area > 50
    with pytest.raises(ConfigError, match=f"track {track} has no mask on frame 2; begin with a point inside it"):
        tracker.refine_on(past(fast, 2), track, *outside, None)


def test_nothing_joins_where_no_place_is_left_and_no_correction_a_track_that_has_ended(segmenter, fast, shapes_frame):
    options = TrackerOptions(max_objects=1)
    tracker, box = tracked_to(segmenter, fast, shapes_frame, options=options), fast.truth(0).boxes[fastest(fast)]
    late = tracker.add_on(past(fast, 0), box=box)
    track = joined(tracker, tracker.add_on(past(fast, 0), box=box), fast, [LAST])
    with pytest.raises(ConfigError, match="all 1 places are taken"):
        tracker.add_on(past(fast, 0), box=box)
    with pytest.raises(ConfigError, match="all 1 places are taken"):
        joined(tracker, late, fast, [LAST])
    correction = tracker.refine_on(past(fast, 0), track, middle_of(fast.truth(0).masks[0]), np.array([1]), None)
    tracker.remove(track)
    with pytest.raises(ConfigError, match=f"no track {track}"):
        joined(tracker, correction, fast, [LAST])


def test_a_small_picture_of_a_past_frame_takes_prompts_in_pixels_of_the_frame(segmenter, fast, shapes_frame):
    """And a change of the model's picture size on the way is no obstacle."""
    wanted, tracker = fastest(fast), tracked_to(segmenter, fast, shapes_frame)
    image = fast.render(0)[0]
    seen = PastFrame(0, (2 * image.shape[0], 2 * image.shape[1]), image, LAST)
    points = 2 * middle_of(fast.truth(0).masks[wanted]), np.array([1])
    carried = tracker.add_on(seen, points=points)
    tracker.rescale(0.75)
    track = joined(tracker, carried, fast, range(1, LAST + 1))
    again = tracker.refine_on(seen, track, *points, None)
    assert len(again.prompted.points[1]) == 1, "points of another size do not count any more"
    assert overlap(masks_next(tracker, fast, shapes_frame)[track], fast.truth(LAST + 1).masks[wanted]) > 0.5
