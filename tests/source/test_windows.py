"""How a stream of frames is cut into windows."""

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest

from stages.errors import SourceError
from stages.types import Clock, Frame, Window
from stages.windows import cut_windows, join_windows


def frames(*sizes: tuple[int, int], start: int = 0) -> Iterator[Frame]:
    for index, (height, width) in enumerate(sizes, start):
        yield Frame(index, index, Fraction(1, 25), index / 25, Clock.FILE, np.zeros((height, width, 3), np.uint8))


def shape(windows: list[Window]) -> list[tuple[int, list[int], bool]]:
    """Epoch, frame numbers and keyframe of each window."""
    return [(w.epoch, [frame.index for frame in w.frames], w.keyframe) for w in windows]


SMALL, LARGE = (4, 6), (8, 6)


def test_each_frame_is_a_window_and_the_first_one_a_keyframe():
    windows = list(cut_windows(frames(*[SMALL] * 3, start=1001)))
    assert shape(windows) == [(0, [1001], True), (0, [1002], False), (0, [1003], False)]


def test_a_new_size_starts_a_new_epoch_with_a_keyframe():
    windows = list(cut_windows(frames(SMALL, SMALL, LARGE, LARGE, SMALL)))
    assert shape(windows) == [(0, [0], True), (0, [1], False), (1, [2], True), (1, [3], False), (2, [4], True)]


def test_a_window_comes_without_waiting_for_the_frame_after_it():
    taken = []

    def watched() -> Iterator[Frame]:
        for frame in frames(*[SMALL] * 20):
            taken.append(frame.index)
            yield frame

    next(cut_windows(watched()))
    assert taken == [0]


def test_no_frames_give_no_windows():
    assert list(cut_windows(frames())) == []


def test_when_the_source_fails_the_frames_before_it_still_come():
    def failing() -> Iterator[Frame]:
        yield from frames(*[SMALL] * 2)
        raise SourceError("camera broke off")

    windows = []
    with pytest.raises(SourceError, match="broke off"):
        windows.extend(cut_windows(failing()))
    assert shape(windows) == [(0, [0], True), (0, [1], False)]


def test_the_first_window_has_the_epoch_that_is_asked_for():
    assert shape(list(cut_windows(frames(SMALL, LARGE), epoch=5))) == [(5, [0], True), (6, [1], True)]


@pytest.mark.parametrize(
    ("keyframe", "epoch", "most", "joined"),
    [(False, 0, 3, True), (False, 0, 2, False), (True, 0, 3, False), (False, 1, 3, False)],
)
def test_windows_are_joined_up_to_the_longest_a_keyframe_or_an_epoch(keyframe, epoch, most, joined):
    first, second, third = frames(SMALL, SMALL, SMALL)
    both = join_windows(Window(0, (first, second), True), Window(epoch, (third,), keyframe), most)
    assert (None if both is None else shape([both])) == ([(0, [0, 1, 2], True)] if joined else None)
