"""Objects added, corrected and removed by hand on the last frame."""

import numpy as np
import pytest
import torch

from stages.errors import ConfigError
from stages.tracking.tracker import Tracker, TrackerOptions
from stages.types import Detections, TrackChange, Window
from tests.tracking.truth import truth_detections


@pytest.mark.parametrize("kind", ["box", "points", "mask"])
def test_an_object_added_by_hand_is_tracked_from_the_next_frame_on(kind, segmenter, world, shapes_frame):
    tracker, truth = Tracker(segmenter), world.render(0)[1]
    biggest = int(truth.masks.sum((1, 2)).argmax())
    rows, columns = np.nonzero(truth.masks[biggest])
    prompt = {
        "box": truth.boxes[biggest],
        "points": (np.array([[columns.mean(), rows.mean()]], np.float32), np.array([1])),
        "mask": truth.masks[biggest],
    }[kind]
    tracker.step(Window(0, (shapes_frame(world, 0),), False), None)
    track = tracker.add(**{kind: prompt})
    result = tracker.step(Window(0, (shapes_frame(world, 1),), False), None)[0]
    assert [t.id for t in result.tracks] == [track]
    assert result.events[0].change is TrackChange.STARTED
    assert (result.masks[0] > 0).sum() > 50


@pytest.mark.parametrize(
    "prompt",
    [
        {},
        {"box": np.array([10, 10, 300, 50], np.float32)},
        {"points": (np.array([[-1, 5]], np.float32), np.array([1]))},
        {"mask": np.ones((10, 10), bool)},
        {"box": np.array([10, 10, 20], np.float32)},
        {"points": (np.array([[np.nan, 5]], np.float32), np.array([1]))},
        {"points": (np.zeros((0, 2), np.float32), np.zeros(0, np.int64))},
    ],
)
def test_a_prompt_that_does_not_fit_the_picture_is_refused_and_the_others_go_on(prompt, segmenter, world, shapes_frame):
    tracker = Tracker(segmenter)
    tracker.step(Window(0, (shapes_frame(world, 0),), True), truth_detections(world, 0))
    before = tracker.ids
    with pytest.raises(ConfigError, match="add:"):
        tracker.add(**prompt)
    assert tracker.ids == before


def test_an_unknown_id_cannot_be_removed(segmenter, world, shapes_frame):
    tracker = Tracker(segmenter)
    tracker.step(Window(0, (shapes_frame(world, 0),), True), truth_detections(world, 0))
    with pytest.raises(ConfigError, match="no track 99"):
        tracker.remove(99)


def middle_of(mask) -> np.ndarray:
    """The pixel of a mask nearest to its centre, (1, 2) x y."""
    rows, columns = np.nonzero(mask)
    nearest = np.hypot(rows - rows.mean(), columns - columns.mean()).argmin()
    return np.array([[columns[nearest], rows[nearest]]], np.float32)


def overlap(logits, truth) -> float:
    big = torch.nn.functional.interpolate(logits[None, None], truth.shape, mode="bilinear")[0, 0].numpy() > 0
    return float((big & truth).sum() / (big | truth).sum())


def tracked_after(segmenter, world, shapes_frame, correct):
    """Add a box around two objects on frame 0, call ``correct(tracker, id, truth)``; returns the mask on frame 1."""
    tracker, truth = Tracker(segmenter), world.render(0)[1]
    tracker.step(Window(0, (shapes_frame(world, 0),), False), None)
    both = truth.boxes[np.argsort(-truth.masks.sum((1, 2)))[:2]]
    track = tracker.add(box=np.concatenate([both[:, :2].min(0), both[:, 2:].max(0)]))
    correct(tracker, track, truth)
    result = tracker.step(Window(0, (shapes_frame(world, 1),), False), None)[0]
    assert [t.id for t in result.tracks] == [track]
    return result.masks[0]


def test_points_select_the_right_object(segmenter, world, shapes_frame):
    """After a point inside the one object and a point outside, on the other, the next frame's mask is of the first."""
    wanted, other = np.argsort(-world.render(0)[1].masks.sum((1, 2)))[:2]

    def correct(tracker, track, truth):
        points = np.concatenate([middle_of(truth.masks[wanted]), middle_of(truth.masks[other])])
        tracker.refine(track, points, np.array([1, 0]))

    now = world.render(1)[1].masks[wanted]
    before = overlap(tracked_after(segmenter, world, shapes_frame, lambda *_: None), now)
    after = overlap(tracked_after(segmenter, world, shapes_frame, correct), now)
    assert after > before + 0.1


def test_a_correction_leaves_the_other_objects_untouched(segmenter, world, shapes_frame):
    def run(correct):
        tracker = Tracker(segmenter, TrackerOptions(gate=False))
        tracker.step(Window(0, (shapes_frame(world, 0),), True), truth_detections(world, 0))
        tracker.step(Window(0, (shapes_frame(world, 1),), False), None)
        if correct:
            tracker.refine(1, middle_of(world.render(1)[1].masks[0]), np.array([0]))
        result = tracker.step(Window(0, (shapes_frame(world, 2),), False), None)[0]
        return {track.id: mask for track, mask in zip(result.tracks, result.masks, strict=True)}

    plain, corrected = run(False), run(True)
    assert not torch.allclose(plain[1], corrected[1], atol=1e-2)
    assert all(torch.equal(plain[track], corrected[track]) for track in plain if track != 1)


@pytest.mark.parametrize(
    ("track", "points", "labels", "says"),
    [
        (99, [[5, 5]], [1], "refine: no track 99; tracked now: 1"),
        (1, [[5, 500]], [1], "outside the picture of 256 x 256"),
        (1, [[5, 5]], [7], "label is 1"),
        (1, [[5, 5]], [1, 0], "a label each"),
    ],
)
def test_a_correction_that_does_not_fit_is_refused(track, points, labels, says, segmenter, world, shapes_frame):
    tracker = Tracker(segmenter)
    tracker.step(Window(0, (shapes_frame(world, 0),), True), truth_detections(world, 0))
    before = tracker.ids
    with pytest.raises(ConfigError, match=says):
        tracker.refine(track, np.array(points, np.float32), np.array(labels))
    assert tracker.ids == before


def test_a_removed_object_can_be_neither_corrected_nor_removed_again(segmenter, world, shapes_frame):
    tracker = Tracker(segmenter)
    tracker.step(Window(0, (shapes_frame(world, 0),), True), truth_detections(world, 0))
    tracker.remove(1)
    with pytest.raises(ConfigError, match="refine: no track 1"):
        tracker.refine(1, np.array([[5, 5]], np.float32), np.array([1]))
    with pytest.raises(ConfigError, match="remove: no track 1"):
        tracker.remove(1)


def test_frames_on_which_nothing_is_tracked_are_not_encoded_until_an_object_is_added(
    segmenter, world, shapes_frame, monkeypatch
):
    encoded, encode = [], segmenter.encode
    monkeypatch.setattr(segmenter, "encode", lambda images: encoded.append(len(images)) or encode(images))
    tracker = Tracker(segmenter)
    empty = Window(0, tuple(shapes_frame(world, t) for t in range(3)), True)
    assert [len(result.tracks) for result in tracker.step(empty, Detections.empty())] == [0, 0, 0]
    assert encoded == []
    tracker.add(box=world.render(2)[1].boxes[0])
    tracker.step(Window(0, (shapes_frame(world, 3),), False), None)
    assert encoded == [1, 1]


def test_tracks_of_a_forgotten_prompt_end_and_come_back_under_their_id_when_it_is_asked_for_again(
    segmenter, world, shapes_frame
):
    tracker, found = Tracker(segmenter), truth_detections(world, 0)
    first = tracker.step(Window(0, (shapes_frame(world, 0),), True), found)[0]
    gone = {track.id for track in first.tracks if track.prompt == 0}
    tracker.forget({0})
    assert set(tracker.ids) == {track.id for track in first.tracks} - gone
    [result] = tracker.step(Window(0, (shapes_frame(world, 1),), False), None)
    ended = {event.track: event.reason for event in result.events if event.change is TrackChange.ENDED}
    assert ended == dict.fromkeys(gone, "prompt removed")
    tracker.step(Window(0, (shapes_frame(world, 2),), True), truth_detections(world, 2))
    assert gone <= set(tracker.ids)
