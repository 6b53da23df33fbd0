"""How a stream of frames is cut into windows."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import pytest

from stages.errors import SourceError
from stages.types import Clock, Frame, Window
from stages.windows import FixedPace, cut_windows, join_windows


def frames(*sizes: tuple[int, int], start: int = 0) -> Iterator[Frame]:
    for index, (height, width) in enumerate(sizes, start):
        yield Frame(index, index, Fraction(1, 25), index / 25, Clock.FILE, np.zeros((height, width, 3), np.uint8))


def shape(windows: list[Window]) -> list[tuple[int, list[int], bool]]:
    """Epoch, frame numbers and keyframe of each window."""
    return [(w.epoch, [frame.index for frame in w.frames], w.keyframe) for w in windows]


SMALL, LARGE = (4, 6), (8, 6)


def test_the_first_frame_is_a_keyframe_and_windows_are_full_until_the_last():
    windows = list(cut_windows(frames(*[SMALL] * 7), FixedPace(window=3, every=100)))
    assert shape(windows) == [(0, [0, 1, 2], True), (0, [3, 4, 5], False), (0, [6], False)]


def test_a_keyframe_starts_a_window_and_cuts_the_one_before_short():
    windows = list(cut_windows(frames(*[SMALL] * 10), FixedPace(window=3, every=4)))
    assert shape(windows) == [
        (0, [0, 1, 2], True),
        (0, [3], False),
        (0, [4, 5, 6], True),
        (0, [7], False),
        (0, [8, 9], True),
    ]


def test_keyframes_count_the_frames_that_arrive_and_not_those_that_were_dropped():
    late = frames(*[SMALL] * 4, start=1001)
    assert shape(list(cut_windows(late, FixedPace(window=8, every=2)))) == [
        (0, [1001, 1002], True),
        (0, [1003, 1004], True),
    ]


def test_every_frame_can_be_a_keyframe():
    windows = list(cut_windows(frames(*[SMALL] * 3), FixedPace(window=8, every=1)))
    assert shape(windows) == [(0, [0], True), (0, [1], True), (0, [2], True)]


def test_a_new_size_starts_a_new_epoch_with_a_keyframe_and_no_window_mixes_sizes():
    windows = list(cut_windows(frames(SMALL, SMALL, LARGE, LARGE, SMALL), FixedPace(window=8, every=100)))
    assert shape(windows) == [(0, [0, 1], True), (1, [2, 3], True), (2, [4], True)]


def test_a_new_size_on_a_keyframe_or_after_a_full_window_still_gives_one_window_each():
    on_keyframe = list(cut_windows(frames(SMALL, SMALL, LARGE), FixedPace(window=8, every=2)))
    after_full = list(cut_windows(frames(SMALL, SMALL, LARGE), FixedPace(window=2, every=100)))
    assert shape(on_keyframe) == shape(after_full) == [(0, [0, 1], True), (1, [2], True)]


@pytest.mark.parametrize(("window", "every", "needed"), [(3, 100, 3), (8, 2, 2), (1, 100, 1)])
def test_a_window_comes_without_waiting_for_the_frame_after_it(window: int, every: int, needed: int):
    taken = []

    def watched() -> Iterator[Frame]:
        for frame in frames(*[SMALL] * 20):
            taken.append(frame.index)
            yield frame

    next(cut_windows(watched(), FixedPace(window, every)))
    assert taken == list(range(needed))


def test_no_frames_give_no_windows():
    assert list(cut_windows(frames(), FixedPace(window=8, every=30))) == []


def test_when_the_source_fails_the_frames_before_it_still_come():
    def failing() -> Iterator[Frame]:
        yield from frames(*[SMALL] * 5)
        raise SourceError("camera broke off")

    windows = []
    with pytest.raises(SourceError, match="broke off"):
        windows.extend(cut_windows(failing(), FixedPace(window=3, every=100)))
    assert shape(windows) == [(0, [0, 1, 2], True), (0, [3, 4], False)]


def test_keyframes_count_anew_from_the_first_frame_of_an_epoch():
    windows = list(cut_windows(frames(*[SMALL] * 3, *[LARGE] * 5), FixedPace(window=8, every=4)))
    assert shape(windows) == [(0, [0, 1, 2], True), (1, [3, 4, 5, 6], True), (1, [7], True)]


def test_the_first_window_has_the_epoch_that_is_asked_for():
    windows = list(cut_windows(frames(SMALL, LARGE), FixedPace(window=8, every=100), epoch=5))
    assert shape(windows) == [(5, [0], True), (6, [1], True)]


@dataclass
class Changing:
    """A pace that somebody else sets."""

    window: int
    every: int


def changed(pace: Changing, count: int, at: int, **values: int) -> list[Window]:
    """``count`` frames, where the pace takes other values just before frame ``at`` is read."""

    def watched() -> Iterator[Frame]:
        for frame in frames(*[SMALL] * count):
            if frame.index == at:
                for name, value in values.items():
                    setattr(pace, name, value)
            yield frame

    return list(cut_windows(watched(), pace))


def test_windows_shrink_and_grow_in_mid_stream():
    smaller = changed(Changing(window=4, every=100), 9, 4, window=2)
    larger = changed(Changing(window=2, every=100), 9, 3, window=4)
    assert [len(w.frames) for w in smaller] == [4, 2, 2, 1]
    assert [len(w.frames) for w in larger] == [2, 4, 3]


def test_a_window_that_is_already_longer_than_the_new_limit_is_complete():
    assert [len(w.frames) for w in changed(Changing(window=8, every=100), 7, 5, window=2)] == [6, 1]


def test_a_longer_interval_puts_off_the_next_keyframe_and_counts_from_the_last_one():
    windows = changed(Changing(window=2, every=4), 14, 5, every=8)
    assert [w.frames[0].index for w in windows if w.keyframe] == [0, 4, 12]


def test_a_shorter_interval_that_is_over_makes_the_next_frame_a_keyframe():
    windows = changed(Changing(window=8, every=100), 10, 6, every=3)
    assert shape(windows) == [(0, [0, 1, 2, 3, 4, 5], True), (0, [6, 7, 8], True), (0, [9], True)]


def test_a_live_frame_is_a_window_by_itself_and_keyframes_come_as_often():
    live = (replace(frame, clock=Clock.ARRIVAL) for frame in frames(*[SMALL] * 4))
    assert shape(list(cut_windows(live, FixedPace(window=8, every=3)))) == [
        (0, [0], True),
        (0, [1], False),
        (0, [2], False),
        (0, [3], True),
    ]


@pytest.mark.parametrize(
    ("keyframe", "epoch", "most", "joined"),
    [(False, 0, 3, True), (False, 0, 2, False), (True, 0, 3, False), (False, 1, 3, False)],
)
def test_windows_are_joined_up_to_the_longest_a_keyframe_or_an_epoch(keyframe, epoch, most, joined):
    first, second, third = frames(SMALL, SMALL, SMALL)
    both = join_windows(Window(0, (first, second), True), Window(epoch, (third,), keyframe), most)
    assert (None if both is None else shape([both])) == ([(0, [0, 1, 2], True)] if joined else None)
