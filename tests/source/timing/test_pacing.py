"""How long the packets of a live source may wait."""

from itertools import pairwise

import pytest

from stages.source.timing.pacing import Pacing

RATE = 20


def dues(arrivals: list[float], stamps: list[float | None]) -> list[float]:
    """The seconds that each packet may wait."""
    pacing = Pacing(RATE, arrivals[0])
    return [pacing.due(stamp, arrival) - arrival for arrival, stamp in zip(arrivals, stamps, strict=True)]


def stamps(count: int) -> list[float]:
    return [7 + n / RATE for n in range(count)]


def test_a_packet_that_comes_in_its_time_may_not_wait():
    assert dues([100 + n / RATE for n in range(50)], stamps(50)) == pytest.approx([0] * 50, abs=1e-9)


def test_a_segment_that_comes_at_once_may_last_as_long_as_it_shows_and_the_next_finds_nothing_left():
    arrivals = [100.0 + 2 * (n // 40) for n in range(200)]
    waits = dues(arrivals, stamps(200))
    assert waits[::40] == [0] * 5
    assert waits[39::40] == pytest.approx([0.9 * 39 / RATE] * 5)
    assert all(before < after for before, after in pairwise(waits[:40]))


def test_what_comes_first_at_once_is_made_up_for_in_ten_times_its_length():
    arrivals = [100 + max(0, n - 60) / RATE for n in range(800)]  # 3 s, then in real time
    waits = dues(arrivals, stamps(800))
    assert max(waits) == pytest.approx(0.9 * 3, abs=0.1)
    assert all(before >= after - 1e-9 for before, after in pairwise(waits[60:]))
    assert waits[60 + 28 * RATE :] == pytest.approx([0] * (740 - 28 * RATE), abs=1e-9)


@pytest.mark.parametrize("jump", [3600, -3600, 11, -2])
def test_a_jump_of_the_stamps_counts_as_one_frame(jump):
    arrivals = [100.0] * 40
    jumped = stamps(20) + [stamp + jump for stamp in stamps(40)[20:]]
    assert dues(arrivals, jumped) == pytest.approx(dues(arrivals, stamps(40)))


def test_a_packet_out_of_order_takes_no_time():
    assert dues([100.0] * 4, [7, 7.2, 7.1, 7.3]) == pytest.approx([0, 0.18, 0.18, 0.27])


def test_stamps_that_run_ahead_of_time_for_good_are_no_reason_to_wait():
    """One relay's run ten times too fast: https://github.com/AlexxIT/go2rtc/issues/2398"""
    arrivals = [100 + n / RATE for n in range(2000)]
    waits = dues(arrivals, [10.5 * stamp for stamp in stamps(2000)])
    assert max(waits) <= 30
    assert waits[100:] == [0] * 1900


def test_a_packet_without_a_stamp_may_not_wait():
    assert dues([100.0] * 3, [None, None, None]) == [0, 0, 0]
