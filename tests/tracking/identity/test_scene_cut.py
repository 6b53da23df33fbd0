"""At a scene cut tracks stay with their view: nothing jumps, and the ids of both views come back with them."""

import dataclasses

import numpy as np
import pytest

from stages.testsrc.world import ShapesWorld
from stages.tracking import keyframe
from stages.tracking.tracker import Tracker, TrackerOptions
from stages.types import Detections, Frame, Motion, Result, TrackState, Window

LOST_AFTER = 6
PROMPTS = 2  # the largest objects of a view, one for each prompt; those of the two views differ in colour


def largest(world: ShapesWorld, t: int) -> Detections:
    truth = world.render(t)[1]
    numbers = np.argsort(-world.render(0)[1].masks.sum((1, 2)))[:PROMPTS]
    return Detections(truth.boxes[numbers], np.full(PROMPTS, 0.9, np.float32), np.arange(PROMPTS))


@pytest.fixture(scope="module")
def show(segmenter, shapes_frame):
    """show(tracker, world, first, length): a view from its cut on, with a keyframe at the cut and every 4 frames."""

    def show(tracker: Tracker, world: ShapesWorld, first: int, length: int, cut: bool = True) -> list[Result]:
        results: list[Result] = []
        for t in range(first, first + length):
            index = tracker._state.frame + 1
            frame: Frame = dataclasses.replace(
                shapes_frame(world, t), index=index, motion=Motion(cut and t == first, None)
            )
            found = largest(world, t) if (t - first) % 4 == 0 else None
            results += tracker.step(Window(0, (frame,), found is not None), found)
        return results

    return show


def ids(result: Result) -> dict[int | None, int]:
    """The ids of the tracks in sight, by prompt."""
    return {track.prompt: track.id for track in result.tracks if track.state is not TrackState.OCCLUDED}


@pytest.mark.parametrize("away", [LOST_AFTER - 2, 3 * LOST_AFTER])
def test_the_ids_of_both_views_come_back(away, segmenter, show):
    """After less and after more frames than a track may be out of sight."""
    here, there = ShapesWorld(4), ShapesWorld(7)
    tracker = Tracker(segmenter, TrackerOptions(lost_after=LOST_AFTER))
    first = ids(show(tracker, here, 0, 9, cut=False)[-1])
    second = ids(show(tracker, there, 0, max(9, away))[-1])
    assert len(first) == len(second) == PROMPTS
    assert not set(first.values()) & set(second.values())
    assert ids(show(tracker, here, 9, max(9, away))[-1]) == first
    assert ids(show(tracker, there, 9, 9)[-1]) == second


def test_tracks_of_the_old_view_have_no_mask_in_the_new_one(segmenter, show):
    tracker = Tracker(segmenter, TrackerOptions(lost_after=90))
    first = ids(show(tracker, ShapesWorld(4), 0, 9, cut=False)[-1])
    for result in show(tracker, ShapesWorld(7), 0, 9):
        old = [row for row, track in enumerate(result.tracks) if track.id in first.values()]
        assert [result.tracks[row].state for row in old] == [TrackState.OCCLUDED] * PROMPTS
        assert not (result.masks[old] > 0).any()


@pytest.mark.parametrize("reidentify", [True, False])
def test_a_flash_that_is_taken_for_a_cut_costs_no_id(reidentify, segmenter, show):
    world, tracker = ShapesWorld(4), Tracker(segmenter, TrackerOptions(lost_after=90, reidentify=reidentify))
    before = ids(show(tracker, world, 0, 9, cut=False)[-1])
    assert ids(show(tracker, world, 9, 1, cut=True)[0]) == before


def test_a_track_of_another_view_that_is_corrected_by_hand_has_a_mask_again(segmenter, show):
    world, tracker = ShapesWorld(4), Tracker(segmenter, TrackerOptions(lost_after=90))
    track = ids(show(tracker, world, 0, 9, cut=False)[-1])[0]
    elsewhere = ShapesWorld(7)
    show(tracker, elsewhere, 0, 3)
    box = largest(elsewhere, 2).boxes[0]
    tracker.refine(track, (box[:2] + box[2:])[None] / 2, np.array([1]))
    result = show(tracker, elsewhere, 3, 1, cut=False)[0]
    assert {each.id: each.state for each in result.tracks}[track] is not TrackState.OCCLUDED


def test_a_cut_after_a_keyframe_that_failed_half_way_is_tracked_on(segmenter, show, monkeypatch):
    """Its new tracks have started, and nothing that follows from the rows has been computed."""
    world, tracker = ShapesWorld(4), Tracker(segmenter, TrackerOptions(lost_after=90))
    show(tracker, world, 0, 1, cut=False)
    with monkeypatch.context() as patched:
        patched.setattr(keyframe, "_record_overlaps", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            show(tracker, ShapesWorld(7), 0, 1, cut=False)
    [result] = show(tracker, ShapesWorld(7), 1, 1)
    assert len(result.tracks) == len(tracker.ids) > PROMPTS


def test_an_object_added_by_hand_is_looked_for_in_each_view(segmenter, show):
    """No detection could bring it back."""
    world, tracker = ShapesWorld(4), Tracker(segmenter, TrackerOptions(lost_after=90))
    show(tracker, world, 0, 1, cut=False)
    added = tracker.add(box=world.render(0)[1].boxes[0])
    result = show(tracker, world, 1, 1)[0]
    assert {track.id: track.state for track in result.tracks}[added] is not TrackState.OCCLUDED
