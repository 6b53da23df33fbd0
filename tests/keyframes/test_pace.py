"""When one stream gets its keyframes."""

import math
from collections.abc import Callable
from itertools import pairwise

import pytest

from stages.keyframes.pace import KeyframePace
from stages.types import Motion, TrackChange, Window
from tests.keyframes.results import frame, result

CUT = Motion(True, None)


def run(
    pace: KeyframePace,
    frames: int,
    changes: Callable[[int], int] = lambda _: 0,
    cuts: Callable[[int], bool] = lambda _: False,
    longest: int = 8,
) -> list[int]:
    """The keyframes of a file, of which each finds so many changes."""
    waiting = [Window(0, (frame(t, CUT if cuts(t) else None),), t == 0) for t in range(frames)]
    keyframes = []
    while waiting:
        window = waiting.pop(0)
        first = window.frames[0]
        worth = pace.may(first, timed=False) and pace.need(first) >= 1
        keyframe = window.keyframe or pace.must or worth
        most = pace.room(longest, keyframe, timed=False)
        while waiting and (joined := pace.join(window, waiting[0], most, keyframe)):
            window = joined
            waiting.pop(0)
        pace.begin(Window(0, window.frames, keyframe))
        found = [TrackChange.STARTED] * changes(first.index) if keyframe else []
        pace.observe([result(first.index, *found, looked=keyframe)])
        pace.observe(result(each.index) for each in window.frames[1:])
        keyframes += [first.index] * keyframe
    return keyframes


def gaps(keyframes: list[int]) -> list[int]:
    return [later - earlier for earlier, later in pairwise(keyframes)]


def test_a_busy_stream_has_keyframes_as_close_as_it_may_and_a_quiet_one_as_far_apart_as_it_may():
    assert set(gaps(run(KeyframePace(30, 5, 0.2), 300, lambda _: 3))[8:]) == {5}
    assert set(gaps(run(KeyframePace(30, 5, 0.2), 900))[10:]) == {30}


@pytest.mark.parametrize(("every", "least"), [(30, 5), (7, 3), (1, 1), (12, 12)])
def test_keyframes_are_never_closer_than_least_and_never_farther_apart_than_every(every, least):
    for rate in (0, 1, 20):
        found = gaps(run(KeyframePace(every, least, 1.0), 400, lambda t, rate=rate: rate * (t // 97 % 2)))
        assert least <= min(found)
        assert max(found) <= every


def test_without_a_share_keyframes_are_evenly_spaced_whatever_happens():
    assert run(KeyframePace(30, 5, 0.0), 100, lambda _: 9, lambda t: t % 11 == 0) == [0, 30, 60, 90]


@pytest.mark.parametrize("share", [0.05, 0.1])
def test_a_file_spends_no_more_than_its_share_of_the_frames(share):
    keyframes = run(KeyframePace(100, 5, share), 1000, lambda _: 9)
    assert len(keyframes) == pytest.approx(1000 * share, abs=5)


@pytest.mark.parametrize("longest", [1, 2, 3, 5, 16])
def test_the_length_of_windows_does_not_change_where_keyframes_are(longest):
    def changes(t: int) -> int:
        return t // 50 % 3

    def cuts(t: int) -> bool:
        return t % 83 == 0

    expected = run(KeyframePace(30, 5, 0.2), 500, changes, cuts)
    assert run(KeyframePace(30, 5, 0.2), 500, changes, cuts, longest) == expected
    assert len(set(gaps(expected))) > 3, "else this shows nothing"


def test_a_cut_brings_a_keyframe_at_once_or_as_soon_as_there_may_be_one():
    assert 217 in run(KeyframePace(30, 5, 0.2), 300, cuts=lambda t: t == 217)
    quiet = run(KeyframePace(30, 5, 0.2), 900)
    late = quiet[-2] + 2
    assert late + 3 in run(KeyframePace(30, 5, 0.2), 900, cuts=lambda t: t == late)


def test_cuts_on_every_frame_are_no_reason_for_keyframes():
    """Noise looks like that."""
    assert set(gaps(run(KeyframePace(30, 5, 0.2), 900, cuts=lambda t: t > 0))[10:]) == {30}


def test_need_grows_with_the_square_of_the_time_where_changes_come_evenly():
    pace = KeyframePace(100, 5, 0.2)
    pace.begin(Window(0, tuple(frame(t) for t in range(10)), True))
    early = pace.need()
    pace.begin(Window(0, tuple(frame(t) for t in range(10, 20)), False))
    assert pace.need() == pytest.approx(4 * early)


def test_a_cut_is_needed_more_than_anything():
    pace = KeyframePace(30, 5, 0.2)
    pace.begin(Window(0, (frame(0),), True))
    assert pace.need(frame(1, CUT)) == math.inf
