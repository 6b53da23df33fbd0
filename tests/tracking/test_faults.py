"""A window that fails anywhere in the tracker costs only that window: tracks and identities go on."""

import numpy as np
import pytest
import torch

from stages.sam2.segmenter import Sam2Segmenter
from stages.tracking import mask_filter, mask_ops, state
from stages.tracking.cues import Cues
from stages.tracking.identity import looks
from stages.tracking.identity.gallery import Gallery
from stages.tracking.memory.bank import MemoryBank
from stages.tracking.memory.ring import Ring
from stages.tracking.state import TrackerState
from stages.tracking.tracker import Tracker, TrackerOptions
from stages.transfer import Transfer
from stages.types import Detections, Result, TrackChange, Window
from tests.testsrc.truth import truth_detections

# a function that is called in the window that fails, and the number of the call that runs out of memory
CALLED = [
    (Sam2Segmenter, "encode", 1),
    (Sam2Segmenter, "propagate", 1),
    (Sam2Segmenter, "propagate", 2),
    (Sam2Segmenter, "prompt_points", 1),
    (Sam2Segmenter, "encode_memory", 1),
    (Sam2Segmenter, "encode_memory", 2),
    (MemoryBank, "stored", 1),
    (MemoryBank, "store", 1),
    (MemoryBank, "store", 2),
    (MemoryBank, "append", 1),
    (MemoryBank, "sync_counts", 1),
    (Transfer, "begin", 1),
    (Cues, "append", 1),
    (Cues, "update", 1),
    (Cues, "reorder", 1),
    (TrackerState, "update_rivals", 1),
    (TrackerState, "update_rivals", 2),
    (state, "median_colours", 1),
    (looks, "describe", 1),
    (looks, "distances", 1),
    (mask_filter, "separate_rivals", 1),
]

# a change, its inverse, and the call during the change that runs out of memory
CHANGES = [
    ("resize", 5, 8, Ring, "_empty_index", 1),
    ("resize", 5, 8, Ring, "_empty_index", 2),
    ("resize", 5, 8, Gallery, "resize", 1),
    ("rescale", 0.5, 1.0, Ring, "_empty_index", 1),
    ("rescale", 0.5, 1.0, Cues, "rescale", 1),
    ("rescale", 1.5, 1.0, Ring, "_empty_index", 1),
]


@pytest.fixture
def track(world, shapes_frame):
    """track(tracker, first, last, found=None): one window."""

    def track(tracker: Tracker, first: int, last: int, found: Detections | None = None):
        frames = tuple(shapes_frame(world, t) for t in range(first, last))
        return tracker.step(Window(0, frames, found is not None), found)

    return track


def fail_at(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, call: int) -> None:
    """Make the ``call``-th call of ``owner.name`` run out of memory."""
    calls: list[int] = []
    real = getattr(owner, name)

    def failing(*arguments, **named):
        calls.append(1)
        if len(calls) == call:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(*arguments, **named)

    monkeypatch.setattr(owner, name, failing)


def detected(world, t: int, *prompts: int) -> Detections:
    found = truth_detections(world, t)
    return found.take([found.prompts.tolist().index(prompt) for prompt in prompts])


def story(tracker: Tracker, world, track) -> None:
    """Two tracks; the second has missed one detection, and ends on the next keyframe without one."""
    track(tracker, 0, 3, detected(world, 0, 2, 1))
    track(tracker, 3, 5, detected(world, 3, 2))
    assert tracker.ids == (1, 2)


@pytest.mark.parametrize(("owner", "name", "call"), CALLED, ids=[f"{name} {call}" for _, name, call in CALLED])
def test_the_tracks_go_on_after_a_keyframe_that_failed(owner, name, call, segmenter, world, track, monkeypatch):
    """The keyframe that fails would end one track and start one; the next keyframe does both."""
    tracker = Tracker(segmenter)
    story(tracker, world, track)
    with monkeypatch.context() as patched:
        fail_at(patched, owner, name, call)
        with pytest.raises(torch.OutOfMemoryError):
            track(tracker, 5, 8, detected(world, 5, 2, 3))
    track(tracker, 8, 11)
    [result, *_] = track(tracker, 11, 14, detected(world, 11, 2, 3))
    by_prompt = {track.prompt: track for track in result.tracks}
    assert by_prompt.keys() == {2, 3}
    assert by_prompt[2].id == 1
    for shown, mask in zip(result.tracks, result.masks, strict=True):
        truth = world.render(11)[1].masks[shown.prompt]
        big = torch.nn.functional.interpolate(mask[None, None], truth.shape, mode="bilinear")[0, 0].numpy() > 0
        assert (big & truth).sum() / (big | truth).sum() > 0.5, "every track has the mask of its own object"


def test_the_keyframe_that_is_made_to_fail_does_end_and_start_a_track(segmenter, world, track):
    """Control for the test above: without the fault both changes happen."""
    tracker = Tracker(segmenter)
    story(tracker, world, track)
    results = track(tracker, 5, 8, detected(world, 5, 2, 3))
    changes = {(event.change, event.prompt) for event in results[0].events}
    assert {(TrackChange.ENDED, 1), (TrackChange.STARTED, 3)} <= changes
    assert np.isin([1, 3], [track.id for track in results[0].tracks]).all()


@pytest.mark.parametrize(
    ("verb", "there", "back", "owner", "name", "call"), CHANGES, ids=[f"{c[0]} {c[1]} {c[4]} {c[5]}" for c in CHANGES]
)
def test_a_change_of_size_that_failed_has_changed_nothing(
    verb, there, back, owner, name, call, segmenter, world, track, monkeypatch
):
    """Masks are bit-exact as without the attempt, also of objects added later; the same change works later."""
    options = TrackerOptions(max_objects=8)
    tracker, untouched = Tracker(segmenter, options), Tracker(segmenter, options)
    for each in (tracker, untouched):
        track(each, 0, 3, truth_detections(world, 0))
    with monkeypatch.context() as patched:
        fail_at(patched, owner, name, call)
        with pytest.raises(torch.OutOfMemoryError):
            getattr(tracker, verb)(there)
    assert same(track(tracker, 3, 6), track(untouched, 3, 6))
    getattr(tracker, verb)(back)
    for each in (tracker, untouched):
        for corner in (10, 60, 110):
            each.add(box=np.array([corner, corner, corner + 70, corner + 70], np.float32))
        each.remove(2)
    assert len(tracker.ids) > 5
    assert same(track(tracker, 6, 9), track(untouched, 6, 9))
    assert tracker.nbytes == untouched.nbytes
    getattr(tracker, verb)(there)
    getattr(untouched, verb)(there)
    assert tracker.nbytes == untouched.nbytes


def test_an_end_of_tracks_that_failed_has_changed_nothing(segmenter, world, track, monkeypatch):
    """Two tracks are to be evicted; adding the second to the gallery fails."""
    options = TrackerOptions(max_objects=8)
    tracker, untouched = Tracker(segmenter, options), Tracker(segmenter, options)
    for each in (tracker, untouched):
        track(each, 0, 3, truth_detections(world, 0))
    with monkeypatch.context() as patched:
        fail_at(patched, Gallery, "add", 2)
        with pytest.raises(torch.OutOfMemoryError):
            tracker.resize(2)
    assert same(track(tracker, 3, 6), track(untouched, 3, 6))
    for each in (tracker, untouched):
        each.resize(2)
    assert same(track(tracker, 6, 9), track(untouched, 6, 9))


@pytest.mark.parametrize(
    ("owner", "name"), [(mask_ops, "areas"), (Sam2Segmenter, "encode_memory"), (MemoryBank, "append")]
)
def test_an_object_that_could_not_be_added_by_hand_has_changed_nothing(
    owner, name, segmenter, world, track, monkeypatch
):
    tracker, untouched = Tracker(segmenter), Tracker(segmenter)
    for each in (tracker, untouched):
        track(each, 0, 3, truth_detections(world, 0))
    with monkeypatch.context() as patched:
        fail_at(patched, owner, name, 1)
        with pytest.raises(torch.OutOfMemoryError):
            tracker.add(box=np.array([10, 10, 80, 80], np.float32))
    assert same(track(tracker, 3, 6), track(untouched, 3, 6))


def same(some: list[Result], others: list[Result]) -> bool:
    """Whether tracks, events and masks are equal, masks bit for bit."""
    pairs = list(zip(some, others, strict=True))
    return all(a.tracks == b.tracks and a.events == b.events and torch.equal(a.masks, b.masks) for a, b in pairs)
