"""At most so many frames a second: `tracking.max_fps`."""

import random

import pytest

from daemon.stream.frame_rate_limit import FrameRateLimit


def kept(max_fps, times):
    limit = FrameRateLimit(max_fps)
    return [number for number, time in enumerate(times) if limit.keeps(time)]


def test_without_a_limit_every_frame_is_kept():
    assert kept(0, [0, 0, 0.1, 0.1, 5]) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("rate", "max_fps", "step"), [(30, 15, 2), (30, 10, 3), (30, 1, 30), (25, 25, 1), (10, 30, 1)])
def test_an_even_source_is_thinned_out_evenly(rate, max_fps, step):
    assert kept(max_fps, [number / rate for number in range(300)]) == list(range(0, 300, step))


@pytest.mark.parametrize(("rate", "max_fps"), [(30, 20), (24, 10), (59.94, 7), (15, 14.5), (100, 0.5)])
def test_on_average_it_is_as_many_as_asked_for(rate, max_fps):
    seconds = 60
    assert len(kept(max_fps, [number / rate for number in range(round(seconds * rate))])) == pytest.approx(
        seconds * max_fps, abs=1
    )


def test_frames_that_come_at_the_rate_but_unevenly_are_all_kept():
    uneven = random.Random(3)
    times = [number / 10 + uneven.uniform(0, 0.025) for number in range(500)]
    assert kept(10, times) == list(range(500))


def test_a_burst_after_a_pause_is_not_kept_whole():
    assert kept(10, [0, 0.1, 3.0, 3.01, 3.02, 3.03, 3.04, 3.15]) == [0, 1, 2, 7]
