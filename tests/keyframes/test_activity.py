"""How much the next keyframe is expected to bring follows from what the last ones brought, and from hints."""

from dataclasses import replace

import pytest
import torch

from stages.keyframes.activity import Activity
from stages.types import TrackChange, TrackState
from tests.keyframes.results import moving, result

STARTED, ENDED, OCCLUDED = TrackChange.STARTED, TrackChange.ENDED, TrackChange.OCCLUDED
APART = 8  # frames from one keyframe to the next


def shown(activity: Activity, keyframes: int, *changes: TrackChange, between=result, **found) -> Activity:
    """Keyframes that find these changes; ``between`` gives the results of the frames after each."""
    for number in range(keyframes):
        activity.observe(result(APART * number, *changes, looked=True, **found))
        for index in range(1, APART):
            activity.observe(between(APART * number + index))
    return activity


def test_a_stream_in_which_nothing_changes_is_expected_to_change_ever_less():
    rates = [shown(Activity(), keyframes).rate for keyframes in (2, 10, 40)]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 0.002


def test_the_rate_is_that_of_the_changes_that_keyframes_found_whatever_their_number():
    assert shown(Activity(), 60, STARTED).rate == pytest.approx(1 / APART, rel=0.1)
    assert shown(Activity(), 60, STARTED, ENDED).rate == pytest.approx(2 / APART, rel=0.1)


def test_what_the_first_keyframe_finds_says_nothing():
    """All that stands in the picture is new on it."""
    activity = Activity()
    before = activity.rate
    activity.observe(result(0, *[STARTED] * 20, looked=True))
    assert activity.rate == before


def test_a_track_that_was_never_confirmed_takes_its_change_back():
    activity = Activity()
    for number in range(40):
        index = 2 * APART * number
        activity.observe(result(index, STARTED, looked=True, state=TrackState.NEW))
        activity.observe(result(index + APART, ENDED, looked=True, state=TrackState.NEW))
    assert activity.rate < 0.01


def test_masks_of_another_size_are_no_change():
    """The governor has made pictures smaller: areas are a quarter of what they were."""
    calm, smaller = shown(Activity(), 3), shown(Activity(), 3)
    calm.observe(result(1))
    smaller.observe(replace(result(1, area=25), logits=torch.zeros(1, 2, 2)))
    assert smaller.expected(5) == calm.expected(5)


def test_what_moved_while_nothing_was_looked_for_is_forgotten_soon():
    """A stream without prompts has no keyframe; then it gets some."""
    activity = shown(Activity(), 3)
    for index in range(20_000):
        activity.observe(result(index, motion=moving((9, 9), (9, 10))))
    assert shown(activity, 80, STARTED).rate == pytest.approx(1 / APART, rel=0.3)


@pytest.mark.parametrize(
    "hint",
    [
        lambda: result(1, OCCLUDED),
        lambda: result(1, presence=0.3),
        lambda: result(1, area=40),
        lambda: result(1, area=300),
        lambda: result(1, motion=moving((9, 9), (9, 10))),
    ],
    ids=["hidden", "unsure", "shrunk", "grown", "motion outside all masks"],
)
def test_doubts_and_motion_outside_all_masks_raise_what_is_expected(hint):
    calm, doubted = shown(Activity(), 3), shown(Activity(), 3)
    calm.observe(result(1))
    doubted.observe(hint())
    assert doubted.expected(5) > calm.expected(5)


def test_motion_of_what_is_tracked_is_no_hint():
    calm, tracked = shown(Activity(), 3), shown(Activity(), 3)
    calm.observe(result(1))
    tracked.observe(result(1, motion=moving((0, 0), (0, 1), (1, 0), (1, 1))))
    assert tracked.expected(5) == calm.expected(5)


def test_hints_that_announce_nothing_count_ever_less():
    """Leaves in the wind cost some looks and not more."""

    def waving(index: int):
        return result(index, motion=moving((9, 9), (9, 10), (10, 9)))

    first, later = (shown(Activity(), keyframes, between=waving).expected(APART) for keyframes in (2, 60))
    assert later < first / 10


def test_hints_that_announce_changes_count_more():
    def waving(index: int):
        return result(index, motion=moving((9, 9), (9, 10)))

    right, wrong = shown(Activity(), 20, STARTED, between=waving), shown(Activity(), 20, between=waving)
    before = right.expected(0), wrong.expected(0)
    right.observe(waving(1))
    wrong.observe(waving(1))
    assert right.expected(0) - before[0] > 2 * (wrong.expected(0) - before[1])
