"""Objects on their way from a frame that was seen to the present, while the stream goes on."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from daemon.engine import interactive
from daemon.engine.classify import ClassifySchedule
from daemon.engine.interactive import SLICES, STEPS, Journey, Placed
from daemon.engine.stream_state import StreamState
from daemon.errors import ConflictError
from daemon.metrics.registry import Metrics
from daemon.settings.schema import Classification, Detection, Tracking
from stages.sam2.segmenter import Sam2Segmenter
from stages.testsrc.world import ShapesWorld
from stages.tracking.tracker import Tracker, TrackerOptions
from stages.types import Detections, Window
from tests.lane.lanes import new_lane
from tests.tracking.test_by_hand import middle_of, overlap

WORLD = ShapesWorld(4, 128, 128, fps=20)


class Past:
    """A stream in the engine, without its threads: each frame is tracked and published as it comes."""

    def __init__(self, segmenter: Sam2Segmenter, shapes_frame, gap: int = 1, fps: int = 5, **options) -> None:
        """``gap``: a frame of so many is tracked, the others are dropped; ``fps``: of those that are tracked."""
        tracking = Tracking(window=4)
        lane = new_lane("gate", [], Metrics(), tracking=tracking)
        self.state = StreamState(lane, Detection(), tracking, ClassifySchedule(Classification()))
        self.tracker = self.state.tracker = Tracker(segmenter, TrackerOptions(max_objects=4, **options))
        self._render, self._gap, self._fps = shapes_frame, gap, fps
        self.shown = 0  # frames

    def show(self, count: int) -> list:
        results = []
        for t in range(self.shown, self.shown + count):
            frame = replace(self._render(WORLD, t), index=t * self._gap, captured_at=t / self._fps)
            window = Window(0, (frame,), t == 0)
            results += self.tracker.step(window, Detections.empty() if t == 0 else None)
            self.state.lane.trail.tracked(window)
            self.state.lane.trail.published(frame, (), shown=False)
        self.shown += count
        return results

    def point(self, t: int, shape: int) -> Placed | Journey:
        points = middle_of(WORLD.truth(t).masks[shape]), np.array([1])
        return interactive.add_seen(self.state, t * self._gap, None, None, points, None)


def visible_throughout(frames: int) -> int:
    first, last = WORLD.truth(0), WORLD.truth(frames)
    return int((np.minimum(first.visible, last.visible) * (first.masks.sum((1, 2)) > 100)).argmax())


@pytest.fixture(scope="module")
def small(segmenter) -> Sam2Segmenter:
    """For pictures of 128 pixels: an eighth of the work."""
    return segmenter.scaled(0.5)


def test_an_object_reaches_the_present_in_a_few_slices_although_the_stream_goes_on(small, shapes_frame, monkeypatch):
    """Each slice looks at a few frames only, however many there are."""
    past, steps = Past(small, shapes_frame), []
    carry = past.tracker.carry
    monkeypatch.setattr(past.tracker, "carry", lambda one, frames: steps.append(len(frames)) or carry(one, frames))
    past.show(40)
    journey, placed, slices = past.point(0, 0), None, 0
    while placed is None:
        past.show(4)
        placed, slices = interactive.advance(past.state, journey), slices + 1
        assert sum(steps) <= STEPS * slices
        assert max(steps) <= 4, "as long as windows may be"
    assert slices <= SLICES
    assert placed.new
    assert past.tracker.ids == (placed.track,)


def test_at_30_frames_per_second_the_last_slice_ends_on_the_newest_frame(small, shapes_frame):
    """Although the pictures that are kept are farther apart than that frame and the last of them."""
    past = Past(small, shapes_frame, fps=30)
    past.show(5)
    placed = interactive.advance(past.state, past.point(0, visible_throughout(5)))
    assert placed == Placed(1, new=True)


def test_of_a_stream_that_drops_most_frames_the_object_is_kept(small, shapes_frame):
    """Its frames are 60 numbers apart, and a track is lost after 90 without a pixel."""
    past, shape = Past(small, shapes_frame, gap=60, lost_after=90), visible_throughout(14)
    past.show(8)
    journey = past.point(0, shape)
    past.show(2)
    placed = interactive.advance(past.state, journey) or interactive.advance(past.state, journey)
    results = past.show(4)
    assert [[track.id for track in result.tracks] for result in results] == [[placed.track]] * 4
    assert overlap(results[-1].masks[0], WORLD.truth(13).masks[shape]) > 0.4


def test_the_newest_frame_is_prompted_as_without_a_number(small, shapes_frame):
    shape = visible_throughout(4)
    points = middle_of(WORLD.truth(3).masks[shape]), np.array([1])
    masks = []
    for seen in (True, False):
        past = Past(small, shapes_frame)
        past.show(4)
        if seen:
            assert past.point(3, shape) == Placed(1, new=True)
            assert interactive.refine_seen(past.state, 3, 1, points) == Placed(1, new=False)
        else:
            assert interactive.add(past.state, None, None, points, None) == 1
            interactive.refine(past.state, 1, points)
        masks.append(past.show(1)[0].masks)
    assert torch.equal(*masks)


def test_a_correction_whose_track_ends_on_the_way_is_refused(small, shapes_frame):
    past = Past(small, shapes_frame)
    past.show(4)
    track, _ = past.point(3, 0)
    past.show(4)
    points = middle_of(WORLD.truth(4).masks[0]), np.array([1])
    journey = interactive.refine_seen(past.state, 4, track, points)
    interactive.remove(past.state, track)
    with pytest.raises(ConflictError, match=f"no track {track}; tracked now: none"):
        interactive.advance(past.state, journey)
