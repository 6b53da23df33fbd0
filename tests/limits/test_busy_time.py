"""How much of the engine's time a stream takes."""

import pytest

from daemon.limits import busy_time
from daemon.limits.busy_time import LEAST, SPAN, BusyTime


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(busy_time, "time", clock)
    return clock


def test_what_lies_back_for_longer_than_half_a_minute_does_not_count(clock):
    busy = BusyTime()
    assert (busy.seconds, busy.share) == (0.0, 0.0)
    for _ in range(int(SPAN)):
        clock.now += 1.0
        busy.add(0.25)
    assert busy.seconds == pytest.approx(0.25 * SPAN)
    assert busy.share == pytest.approx(0.25, rel=0.05)
    clock.now += SPAN / 2
    assert busy.share == pytest.approx(0.125, rel=0.1)
    clock.now += SPAN
    assert (busy.seconds, busy.share) == (0.0, 0.0)


def test_the_share_of_a_young_stream_is_of_the_time_since_its_first_window(clock):
    busy = BusyTime()
    clock.now += 2.0
    busy.add(2.0)
    assert busy.share == pytest.approx(2.0 / LEAST), "a single window says little"
    for _ in range(8):
        clock.now += 1.0
        busy.add(0.5)
    assert busy.share == pytest.approx(6.0 / 10.0)


def test_what_another_stream_is_charged_with_is_taken_off(clock):
    busy = BusyTime()
    busy.add(-3.0)
    assert busy.seconds == 0.0
    busy.add(4.0)
    assert busy.seconds == pytest.approx(1.0)
