"""How long a source may be silent: the rule with numbers; a slow camera and a late first picture in real time."""

import time
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import pytest

from stages.errors import SourceStalled
from stages.source.patience import Patience, Timeouts
from stages.source.source import open_source
from stages.types import Frame
from tests.support.media import numbered, numbers_of_whole_pictures, write_video
from tests.support.rtsp import RtspServer, needs_rtsp_server

FIRST, READ, DECODE = 30.0, 3.0, 10.0
STEADY = [0.04] * 250


def after(*waits: float, presented: list[float] | None = None, segmented: bool = False) -> Patience:
    patience = Patience(Timeouts(first=FIRST, read=READ, decode=DECODE))
    patience.opened(segmented)
    for number, waited in enumerate(waits):
        patience.arrived(waited, presented[number] if presented else None)
    return patience


def test_before_a_rate_shows_half_a_minute_may_pass():
    assert (after().silence, after().blind) == (FIRST, FIRST)
    assert after(11.0, 0.04, 0.04, 0.04).silence == FIRST


def test_a_camera_of_25_pictures_a_second_is_given_up_after_three_seconds_however_late_its_first_one_was():
    assert after(14.0, *STEADY).silence == READ
    assert after(14.0, *STEADY).blind == DECODE


@pytest.mark.parametrize("interval", [2.0, 7.0, 45.0])
def test_a_slow_camera_may_miss_a_few_pictures(interval):
    patience = after(0.5, *[interval] * 6)
    assert 3 * interval <= patience.silence <= 5 * interval
    assert patience.blind == max(DECODE, patience.silence)


def test_one_long_pause_is_remembered_for_minutes_and_then_forgotten():
    paused = (*STEADY, 6.0)
    assert after(*paused, *STEADY).silence > 3 * READ
    assert after(*paused, *STEADY * 60).silence == READ


def test_pictures_that_come_together_show_their_rate_by_their_pts():
    """Those that FFmpeg read while the source was opened."""
    together = [0.0] * 6
    assert after(*together, presented=[5.0 * n for n in range(6)]).silence == 20
    assert after(*together, presented=[0.04 * n for n in range(6)]).silence == READ


def test_time_stamps_that_jump_ahead_make_it_wait_no_longer_than_for_a_first_picture():
    assert after(*STEADY, 0.04, presented=[0.04 * n for n in range(250)] + [86_400.0]).silence <= FIRST


def test_pictures_that_come_by_the_segment_are_waited_for():
    assert after(*STEADY, segmented=True).silence == FIRST


# --- in real time, side by side


def arrivals(url: str, count: int) -> tuple[list[Frame], list[float]]:
    """The first frames of one connection, and the monotonic times at which they came."""
    source = open_source(url)
    found = [(frame, time.monotonic()) for frame in islice(source.frames(), count)]
    source.close()
    return [frame for frame, _ in found], [moment for _, moment in found]


@pytest.mark.process
@needs_rtsp_server
def test_slow_cameras_late_key_pictures_and_dead_cameras_are_told_apart(tmp_path):
    key = {"g": "1", "bf": "0", "crf": "10"}
    seconds = [5000 * n for n in range(9)]
    slow = write_video(tmp_path / "slow.mp4", numbered(9), milliseconds=seconds, codec_options=key)
    smart = {"g": "350", "keyint_min": "350", "sc_threshold": "0", "bf": "0", "crf": "10"}
    long_gop = write_video(tmp_path / "long.mp4", numbered(50) * 7, codec_options=smart)  # 14 s
    with RtspServer(slow) as slow_camera, RtspServer(long_gop) as smart_camera, ThreadPoolExecutor() as pool:
        watching = pool.submit(arrivals, slow_camera.url, 6)
        early = open_source(smart_camera.url)
        watched = early.frames()
        next(watched)  # the next one joins behind the key picture
        late = pool.submit(late_picture, smart_camera.url)
        dead = pool.submit(death, long_gop)
        frames, moments = watching.result()
        assert numbers_of_whole_pictures(frames) == list(range(6))
        assert moments[-1] - moments[0] > 15
        assert late.result() > 10
        early.close()
        assert dead.result() < FIRST / 2  # twice 3 s and what a busy machine needs


def late_picture(url: str) -> float:
    begun = time.monotonic()
    frames, moments = arrivals(url, 3)
    assert numbers_of_whole_pictures(frames) == [0, 1, 2]
    return moments[0] - begun


def death(clip: Path) -> float:
    """Seconds until a camera of 25 pictures a second that sends no more is given up."""
    with RtspServer(clip, options=("--freeze-after", "60")) as camera:
        moments: list[float] = []
        frames = open_source(camera.url).frames()
        with pytest.raises(SourceStalled, match="broke off"):
            moments.extend(time.monotonic() for _ in frames)
        return time.monotonic() - moments[-1]
