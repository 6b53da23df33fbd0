"""Overload stay accounted for: what is skipped leaves its counts, events and duties to what follows it."""

from fractions import Fraction

import numpy as np
import torch

from daemon.lane.drop_policy import fold_outcome, fold_window
from daemon.lane.outcome import Notice, Outcome
from stages.types import Clock, Frame, Result, StreamEvent, TrackChange, TrackEvent, Window


def frame(index: int, dropped_before: int = 0) -> Frame:
    image = np.zeros((8, 8, 3), np.uint8)
    return Frame(index, index, Fraction(1, 30), index / 30, Clock.FILE, image, dropped_before)


def test_a_skipped_window_leaves_its_keyframe_and_its_frames_count_to_the_next():
    lost = Window(0, (frame(0), frame(1, dropped_before=5)), keyframe=True)
    following = fold_window(lost, Window(0, (frame(2), frame(3)), keyframe=False))
    assert following.keyframe
    assert [each.dropped_before for each in following.frames] == [7, 0]


def test_skipped_results_leave_their_events_and_their_frames_count_to_the_next():
    event = TrackEvent(TrackChange.STARTED, 1, 0, 0, "detected")
    result = Result(frame(0), 0, True, (), torch.zeros(0, 2, 2), (event,))
    lost = Outcome((result,), (Notice(StreamEvent.ERROR, "x"),), lost_frames=3)
    following = fold_outcome(lost, Outcome(lost_frames=10))
    assert following.lost_frames == 14
    assert following.lost_events == (event,)
    assert following.notices == (Notice(StreamEvent.ERROR, "x"),)
    assert following.results == ()


def test_what_is_kept_of_skipped_results_is_bounded():
    piled = Outcome()
    for number in range(2000):
        piled = fold_outcome(piled, Outcome(notices=(Notice(StreamEvent.ERROR, str(number)),)))
    assert len(piled.notices) < 1000
    assert piled.notices[-1].reason == "1999"
