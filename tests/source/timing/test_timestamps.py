"""Clocks: from presentation time stamps (PTS) and arrivals to when a picture was taken."""

import random
from fractions import Fraction
from itertools import pairwise

import pytest
from av.format import ContainerFormat

from stages.source.timing.timestamps import FileClock, LiveClock, has_clock, has_jumps

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


@pytest.mark.parametrize("pace", [0.99, 1.01, 0.97])
def test_a_cameras_clock_that_runs_very_wrong_is_followed(camera, pace):
    """By 36 s in an hour."""
    delays = random.Random(3)
    for n in range(15 * 3600):
        taken = n / 15
        camera.picture(taken + delays.uniform(0, 0.06), round(90_000 * pace * taken))
    errors = [time - n / 15 for n, time in enumerate(camera.times)]
    assert -0.31 < min(errors) <= max(errors) < 0.07
    assert min(errors[15 * 30 :]) > -0.05


@pytest.mark.parametrize("pace", [0.5, 1 / 3, 0.1])
def test_stamps_that_count_far_slower_than_time_are_followed_after_some_seconds(camera, pace):
    for n in range(20 * 120):
        camera.picture(n / 20, round(90_000 * pace * n / 20))
    errors = [time - n / 20 for n, time in enumerate(camera.times)]
    assert min(errors) > -10
    assert min(errors[20 * 15 :]) > -0.3


def test_a_network_that_becomes_slower_for_good_is_believed_after_some_seconds(camera):
    camera.pictures(250, arrival=0, pts=0)
    for n in range(250, 1000):
        camera.picture(n / 25 + 2, STEP * n)
    assert camera.times[260] == pytest.approx(260 / 25, abs=0.02)
    assert camera.times[999] == pytest.approx(999 / 25 + 2, abs=0.02)


@pytest.mark.parametrize("anew", [False, True])
def test_the_frames_of_a_segment_were_taken_before_it_came(anew):
    """A segment of 4 s comes every 4 s; its time stamps may start anew."""
    camera = Camera()
    camera.clock = LiveClock(25, segments=True)
    camera.clock.expect(0, captured=6, arrival=10)
    for n in range(1000):
        camera.picture(10 + 4 * (n // 100) + n % 100 / 1000, STEP * (n % 100 if anew else n))
    assert camera.times == pytest.approx([6 + n / 25 for n in range(1000)], abs=0.15)


def test_a_first_frame_without_a_pts_was_taken_before_the_second(camera):
    camera.clock.expect(0, captured=5, arrival=7)
    assert camera.picture(7, None) == is_near(4.96)
    assert camera.picture(7, 0) == is_near(5)


# --- files


def times(clock: FileClock, *milliseconds: int | None) -> list[int]:
    """In milliseconds."""
    return [round(clock.seconds(stamp, Fraction(1, 1000)) * 1000) for stamp in milliseconds]


def test_a_file_of_a_format_with_jumps_counts_on_where_its_stamps_jump():
    stamps = (900, 940, 980, 60_000, 60_040, 500, 540, 300_000)
    assert times(FileClock(25, jumps=True), *stamps) == [0, 40, 80, 120, 160, 200, 240, 280]


def test_a_file_of_another_format_keeps_its_gaps():
    assert times(FileClock(25), 900, 940, 60_000, 60_040) == [0, 40, 59_100, 59_140]


def test_only_a_real_step_back_moves_the_origin():
    assert times(FileClock(25), 0, 40, 39, 40, 80, 80, 120) == [0, 40, 40, 40, 80, 80, 120]


def test_frames_without_stamps_are_counted_between_those_that_have_some():
    assert times(FileClock(20), None, None, 100, None, 200) == [0, 50, 100, 150, 200]


@pytest.mark.parametrize(
    ("name", "clock", "jumps"),
    [
        ("mpjpeg", False, False),
        ("mjpeg", False, False),
        ("h264", False, False),
        ("hevc", False, False),
        ("m4v", False, True),
        ("jpeg_pipe", False, False),
        ("mpegts", True, True),
        ("rtsp", True, False),
        ("hls", True, True),
        ("flv", True, False),
        ("matroska", True, False),
        ("mp4", True, False),
    ],
)
def test_a_format_tells_whether_its_stamps_come_from_a_clock_and_may_jump(name, clock, jumps):
    container_format = ContainerFormat(name, "r")
    assert (has_clock(container_format), has_jumps(container_format)) == (clock, jumps)
