"""The tracker keeps objects apart, never reuses ids, and has bounded memory."""

import cv2
import numpy as np
import torch

from stages.tracking.memory.bank import MemoryBank
from stages.tracking.tracker import Tracker, TrackerOptions
from stages.types import Detections, Frame, TrackChange, TrackState, Window
from tests.testsrc.truth import truth_detections


def detections(boxes, score=0.9, prompts=None) -> Detections:
    count = len(boxes)
    return Detections(
        np.asarray(boxes, np.float32).reshape(-1, 4),
        np.full(count, score, np.float32),
        np.array(prompts or [0] * count),
    )


def windows(world, frame, frames, every=12, size=6):
    """(window, detections on keyframes or None)."""
    for start in range(0, frames, size):
        found = truth_detections(world, start) if start % every == 0 else None
        yield Window(0, tuple(frame(world, t) for t in range(start, start + size)), found is not None), found


def masks_by_id(result):
    return {track.id: mask for track, mask in zip(result.tracks, result.masks, strict=True)}


def test_every_frame_of_a_window_gets_its_result_in_order(segmenter, world, shapes_frame):
    tracker = Tracker(segmenter)
    results = [r for window, found in windows(world, shapes_frame, 18) for r in tracker.step(window, found)]
    assert [r.frame.index for r in results] == list(range(18))
    assert [r.frame.index for r in results if r.keyframe] == [0, 12]
    assert all(len(r.tracks) == len(r.masks) for r in results)


def test_masks_follow_the_objects(segmenter, world, shapes_frame):
    """Prompted once, each visible object keeps the mask of its own track over 24 frames."""
    tracker, ious = Tracker(segmenter), []
    for window, found in windows(world, shapes_frame, 24, every=24):
        for result in tracker.step(window, found):
            truth = world.render(result.frame.index)[1]
            for track, logits in zip(result.tracks, result.masks, strict=True):
                big = torch.nn.functional.interpolate(logits[None, None], truth.masks.shape[1:], mode="bilinear")[0, 0]
                mask, true = big.numpy() > 0, truth.masks[track.prompt]
                if truth.visible[track.prompt] > 0.3:
                    ious.append((mask & true).sum() / (mask | true).sum())
    assert len(ious) > 60
    assert np.mean(ious) > 0.7


def test_without_detections_there_is_nothing_to_track(segmenter, world, shapes_frame):
    tracker = Tracker(segmenter)
    window = Window(0, (shapes_frame(world, 0), shapes_frame(world, 1)), True)
    assert [r.tracks for r in tracker.step(window, Detections.empty())] == [(), ()]


def masks_after(segmenter, world, shapes_frame, change=None):
    """The last masks of 18 frames by id; ``change(tracker)`` happens after the first 12."""
    tracker, last = Tracker(segmenter, TrackerOptions(gate=False)), None
    for window, found in windows(world, shapes_frame, 18, every=100):
        last = tracker.step(window, found)[-1]
        if change and window.frames[0].index == 6:
            change(tracker)
    return masks_by_id(last)


def test_a_new_object_leaves_the_masks_of_the_others_untouched(segmenter, world, shapes_frame):
    alone = masks_after(segmenter, world, shapes_frame)
    box = np.array([10, 10, 70, 70], np.float32)
    joined = masks_after(segmenter, world, shapes_frame, lambda tracker: tracker.add(box=box))
    assert len(joined) == len(alone) + 1
    for track, mask in alone.items():
        assert torch.allclose(mask, joined[track], atol=5e-3)
        assert ((mask > 0) == (joined[track] > 0)).float().mean() > 0.999


def test_removing_an_object_leaves_the_masks_of_the_others_untouched(segmenter, world, shapes_frame):
    whole = masks_after(segmenter, world, shapes_frame)
    fewer = masks_after(segmenter, world, shapes_frame, lambda tracker: tracker.remove(1))
    assert set(fewer) == set(whole) - {1}
    assert all(torch.allclose(whole[track], mask, atol=5e-3) for track, mask in fewer.items())


def test_ids_are_never_used_again(segmenter, world, shapes_frame):
    tracker = Tracker(segmenter)
    window = Window(0, (shapes_frame(world, 0),), False)
    tracker.step(window, None)
    given = []
    for _ in range(4):
        given.append(tracker.add(box=np.array([20, 20, 90, 90], np.float32)))
        tracker.remove(given[-1])
    assert given == sorted(set(given))
    assert tracker.ids == ()


def test_the_bytes_held_depend_on_the_places_not_on_the_frames(segmenter, world, shapes_frame):
    tracker = Tracker(segmenter, TrackerOptions(max_objects=8))
    before = tracker.nbytes
    for window, found in windows(world, shapes_frame, 36):
        tracker.step(window, found)
        assert tracker.nbytes == before
    assert Tracker(segmenter, TrackerOptions(max_objects=16)).nbytes == 2 * before


def test_a_detection_on_a_track_continues_it(segmenter, world, shapes_frame):
    """The second keyframe confirms the tracks that it detects again: the same ids, no longer `new`."""
    tracker, results = Tracker(segmenter), []
    for window, found in windows(world, shapes_frame, 18):
        results += tracker.step(window, found)
    first, second = ({t.prompt: t for t in results[moment].tracks} for moment in (0, 12))
    again = set(truth_detections(world, 0).prompts) & set(truth_detections(world, 12).prompts)
    assert len(again) >= 2
    assert all(t.state is TrackState.NEW for t in first.values())
    assert all(second[prompt].state is TrackState.TRACKED for prompt in again)
    assert all(second[prompt].id == first[prompt].id for prompt in again)


def test_a_track_that_two_keyframes_do_not_confirm_ends(segmenter, world, shapes_frame):
    tracker = Tracker(segmenter)
    tracker.step(Window(0, (shapes_frame(world, 0),), True), truth_detections(world, 0))
    once = tracker.step(Window(0, (shapes_frame(world, 1),), True), Detections.empty())[0]
    assert [e.change for e in once.events] == []
    twice = tracker.step(Window(0, (shapes_frame(world, 2),), True), Detections.empty())[0]
    assert {(e.change, e.reason) for e in twice.events} == {(TrackChange.ENDED, "unconfirmed")}
    assert twice.tracks == ()


def test_an_object_out_of_sight_is_kept_for_lost_after_frames_and_then_ends(segmenter, world, shapes_frame):
    """On blank pictures all objects are occluded at once and end after the limit, each with its event."""
    tracker = Tracker(segmenter, TrackerOptions(lost_after=5))
    tracker.step(Window(0, (shapes_frame(world, 0),), True), truth_detections(world, 0))
    count = len(tracker.ids)
    changes = []
    for t in range(1, 12):
        blank = shapes_frame(world, t)
        blank.image[:] = 90
        changes += [(t, e.change) for e in tracker.step(Window(0, (blank,), False), None)[0].events]
    occluded = [t for t, change in changes if change is TrackChange.OCCLUDED]
    ended = [t for t, change in changes if change is TrackChange.ENDED]
    assert len(occluded) >= count
    assert len(ended) == count
    assert min(ended) > min(occluded) + 4
    assert tracker.ids == ()


def test_more_detections_than_places_keep_the_best(segmenter, world, shapes_frame):
    tracker = Tracker(segmenter, TrackerOptions(max_objects=2))
    found = truth_detections(world, 0)
    scores = np.linspace(0.3, 0.9, len(found)).astype(np.float32)
    assert len(found) >= 3
    window = Window(0, (shapes_frame(world, 0),), True)
    tracks = tracker.step(window, Detections(found.boxes, scores, found.prompts))[0].tracks
    assert sorted(t.score for t in tracks) == sorted(scores.tolist())[-2:]


def test_a_thousand_detections_on_one_keyframe_are_segmented_in_groups(segmenter, world, shapes_frame):
    tracker = Tracker(segmenter, TrackerOptions(max_objects=4))
    boxes = np.random.default_rng(0).uniform(0, 200, (1000, 2)).astype(np.float32)
    found = detections(np.concatenate([boxes, boxes + 20], 1))
    assert len(tracker.step(Window(0, (shapes_frame(world, 0),), True), found)[0].tracks) <= 4


def test_two_boxes_of_one_prompt_on_one_object_are_one_track(segmenter, world, shapes_frame):
    """The better one starts it; a box of another prompt on the same object starts another track."""
    box = world.render(0)[1].boxes[int(world.render(0)[1].masks.sum((1, 2)).argmax())]
    found = Detections(np.stack([box + 3, box, box]), np.array([0.5, 0.9, 0.8], np.float32), np.array([0, 0, 1]))
    tracks = Tracker(segmenter).step(Window(0, (shapes_frame(world, 0),), True), found)[0].tracks
    assert sorted((t.prompt, round(t.score, 2)) for t in tracks) == [(0, 0.9), (1, 0.8)]


def test_detections_on_a_blank_picture_start_nothing(segmenter, world, shapes_frame):
    """A detection for which SAM 2 finds no object has no mask and takes no row."""
    blank = shapes_frame(world, 0)
    blank.image[:] = 90
    result = Tracker(segmenter).step(Window(0, (blank,), True), truth_detections(world, 0))[0]
    assert all((mask > 0).any() for mask in result.masks)


def test_a_picture_that_changes_its_size_keeps_its_tracks(segmenter, world, shapes_frame):
    """The same scene at half the size in a new epoch: same ids, boxes in the new pixels."""
    tracker = Tracker(segmenter)
    before = tracker.step(Window(0, (shapes_frame(world, 0),), True), truth_detections(world, 0))[0]
    frame = shapes_frame(world, 1)
    small = Frame(1, 1, frame.time_base, frame.captured_at, frame.clock, cv2.resize(frame.image, (128, 96)))
    found = truth_detections(world, 1)
    halved = Detections(found.boxes * np.array([0.5, 0.375] * 2, np.float32), found.scores, found.prompts)
    after = tracker.step(Window(1, (small,), True), halved)[0]
    assert {track.id for track in after.tracks} == {track.id for track in before.tracks}
    assert after.masks.shape[0] == len(after.tracks)


def test_old_and_young_objects_in_one_frame_get_the_masks_that_they_get_in_one_group(
    segmenter, world, shapes_frame, monkeypatch
):
    """Some rows are full, some are not, and one has two conditioning frames; attention takes them apart."""

    def masks():
        tracker = Tracker(segmenter, TrackerOptions(gate=False, max_objects=8))
        tracker.step(Window(0, (shapes_frame(world, 0),), False), None)
        ids = [tracker.add(box=box) for box in truth_detections(world, 0).boxes]
        found, sizes = [], set()
        for t in range(1, 30):
            [result] = tracker.step(Window(0, (shapes_frame(world, t),), False), None)
            found.append(torch.as_tensor(result.masks))
            if t == 20:  # the oldest become full on frame 15
                tracker.add(box=truth_detections(world, 20).boxes[0])
                hidden = [torch.full_like(mask, -1.0) for mask in tracker._state.masks[1:]]
                tracker._state.masks = torch.stack([tracker._state.masks[0], *hidden])
                tracker._state.condition_on_last_masks(tracker._last_features)  # of the first row alone
                tracker.add(box=truth_detections(world, 20).boxes[1])
            sizes.add(len(tracker._state.bank.groups()))
        assert ids
        return found, sizes

    split, groups = masks()
    monkeypatch.setattr(MemoryBank, "groups", lambda bank: [list(range(bank.count))])
    whole, _ = masks()
    assert max(groups) > 1
    assert max(float((a - b).abs().max()) for a, b in zip(split, whole, strict=True)) < 5e-3
    assert all(((a > 0) == (b > 0)).float().mean() > 0.999 for a, b in zip(split, whole, strict=True))
