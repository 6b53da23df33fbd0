"""Clocks: from presentation time stamps (PTS) and arrivals to when a picture was taken."""

import random
from fractions import Fraction
from itertools import pairwise

import pytest

from stages.source.timing.timestamps import LiveClock

TICKS = Fraction(1, 90_000)
STEP = 3600  # ticks between pictures, at 25 a second
WALL = 1_795_459_200.0  # wall clock minus monotonic clock


class Camera:
    """Pictures as a LiveClock meets them, read at monotonic times; the wall clock may be set."""

    def __init__(self) -> None:
        self.clock = LiveClock()
        self.ahead = WALL
        self.times: list[float] = []  # what the clock said, as monotonic seconds of an unset wall clock

    def picture(self, arrival: float, pts: int | None) -> float:
        self.times.append(self.clock.seconds(pts, TICKS, arrival, arrival + self.ahead) - WALL)
        return self.times[-1]

    def pictures(self, count: int, arrival: float, pts: int) -> list[float]:
        """Without any delay."""
        return [self.picture(arrival + n / 25, pts + STEP * n) for n in range(count)]


def is_near(seconds):
    return pytest.approx(seconds, abs=1e-5)


@pytest.fixture
def camera() -> Camera:
    return Camera()


def test_pictures_that_come_without_delay_were_taken_when_they_came(camera):
    assert camera.pictures(50, arrival=7, pts=123_456) == is_near([7 + n / 25 for n in range(50)])


def test_uneven_delays_do_not_show_once_a_packet_has_come_without(camera):
    camera.picture(10, 0)
    delays = random.Random(0)
    for n in range(1, 500):
        camera.picture(10 + n / 25 + delays.uniform(0, 0.5), STEP * n)
    assert camera.times == pytest.approx([10 + n / 25 for n in range(500)], abs=0.011)  # 20 s of slack for drift


def test_what_waited_while_the_stream_was_opened_does_not_make_the_later_pictures_late(camera):
    waited = [camera.picture(10 + n / 1000, STEP * n) for n in range(20)]
    assert waited == is_near([10 + n / 1000 for n in range(20)])
    assert camera.pictures(10, arrival=10.03, pts=STEP * 20) == is_near([10.03 + n / 25 for n in range(10)])


def test_after_a_stall_the_late_pictures_keep_the_times_at_which_they_were_taken(camera):
    camera.pictures(25, arrival=0, pts=0)
    late = [camera.picture(5 + n / 1000, STEP * (25 + n)) for n in range(100)]
    assert late == pytest.approx([(25 + n) / 25 for n in range(100)], abs=0.003)


def test_a_picture_without_a_pts_was_taken_when_it_came_also_the_first(camera):
    assert camera.picture(3, None) == is_near(3)
    assert camera.pictures(3, arrival=3.04, pts=0) == is_near([3.04, 3.08, 3.12])
    assert camera.picture(3.16, None) == is_near(3.16)
    assert camera.pictures(3, arrival=3.2, pts=4 * STEP) == is_near([3.2, 3.24, 3.28])


@pytest.mark.parametrize("jump", [90_000 * 3600, 900_000, -90_000 * 3600, -180_000, -(2**33), 2**33, -1])
def test_where_the_pts_jump_wrap_or_start_anew_the_times_go_on(camera, jump):
    camera.pictures(50, arrival=0, pts=2**34)
    assert camera.pictures(50, arrival=2, pts=2**34 + 50 * STEP + jump) == is_near([2 + n / 25 for n in range(50)])


def test_one_stray_pts_spoils_no_other_time(camera):
    camera.pictures(50, arrival=0, pts=0)
    camera.picture(2, 90_000 * 3600)
    assert camera.pictures(50, arrival=2.04, pts=51 * STEP) == is_near([2.04 + n / 25 for n in range(50)])


@pytest.mark.parametrize("pace", [1 - 2e-4, 1 + 2e-4])
def test_a_cameras_clock_that_runs_a_little_wrong_is_followed_for_days(camera, pace):
    for n in range(3 * 24 * 3600):
        camera.picture(n, round(90_000 * pace) * n)
    assert camera.times[-1] == pytest.approx(3 * 24 * 3600 - 1, abs=0.1)


def test_pts_that_count_far_slower_than_time_are_given_up_before_they_lag_for_ever(camera):
    for n in range(25 * 600):
        camera.picture(n / 25, STEP * n // 2)
    assert camera.times[-1] > 600 - 11


def test_a_wall_clock_that_is_set_ahead_is_followed(camera):
    camera.pictures(25, arrival=0, pts=0)
    camera.ahead += 3600
    assert camera.pictures(25, arrival=1, pts=25 * STEP) == is_near([3601 + n / 25 for n in range(25)])


def test_a_wall_clock_that_is_set_back_does_not_stop_the_times_until_it_has_caught_up(camera):
    camera.pictures(25, arrival=0, pts=0)
    camera.ahead -= 3600
    assert camera.pictures(25, arrival=1, pts=25 * STEP) == is_near([1 + n / 25 for n in range(25)])
    camera.ahead += 3700
    assert camera.pictures(25, arrival=2, pts=50 * STEP) == is_near([102 + n / 25 for n in range(25)])


@pytest.mark.parametrize("seed", range(20))
def test_whatever_comes_no_time_runs_backwards_or_lies_after_its_arrival(camera, seed):
    chance = random.Random(seed)
    arrival, pts, highest = 0.0, 0, 0.0  # highest: the furthest ahead that the wall clock was set
    for _ in range(500):
        arrival += chance.choice([0, 0.001, 0.04, 0.04, 3, 30])
        pts += chance.choice([STEP, STEP, STEP, 0, -STEP, 2**33, -(2**33), 90_000 * 20])
        if not chance.randrange(50):
            camera.ahead = WALL + chance.uniform(-7200, 7200)
        highest = max(highest, camera.ahead - WALL)
        time = camera.picture(arrival, chance.choice([pts, pts, pts, None]))
        assert time <= arrival + highest + 1e-5
    assert all(one <= other for one, other in pairwise(camera.times))
