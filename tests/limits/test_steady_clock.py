"""A wall clock and a monotonic one that are given by hand."""

import pytest

from daemon.limits.steady_clock import SteadyClock

NOON = 1795867200.0  # 2026-11-28 12:00:00 UTC
STEP = 1e8  # seconds


class Clocks:
    """Time that passes by hand, and a wall clock that is set by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.passed = self.set = 0.0  # seconds
        monkeypatch.setattr("daemon.limits.steady_clock.time.monotonic", lambda: self.passed)
        monkeypatch.setattr("daemon.limits.steady_clock.time.time", lambda: NOON + self.passed + self.set)
        self.steady = SteadyClock()

    def wrong(self, passing: int = 1) -> float:
        """Seconds by which the steady clock is ahead of the true time, after so many seconds."""
        for _ in range(passing):
            self.passed += 1
            now = self.steady.now()
        return now - NOON - self.passed


@pytest.mark.parametrize("before", [5, 3599, 3600, 7199, 9000])
def test_a_step_ahead_counts_after_an_hour_whenever_it_came(monkeypatch: pytest.MonkeyPatch, before: int) -> None:
    clocks = Clocks(monkeypatch)
    assert clocks.wrong(before) == 0
    clocks.set = STEP
    assert clocks.wrong(3600) == 0
    assert clocks.wrong(2) == STEP


def test_a_step_that_is_taken_back_within_the_hour_never_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither does one right after it; nor are the hours of two steps added up."""
    clocks = Clocks(monkeypatch)
    for step in (STEP, 0.0, STEP, 2 * STEP):
        clocks.set = step
        assert clocks.wrong(3000) == 0
    assert clocks.wrong(602) == 2 * STEP


def test_a_step_back_counts_at_once_and_small_changes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = Clocks(monkeypatch)
    for step in (5.0, 30.0, 89.0, -STEP, 10.0 - STEP):
        clocks.set = step
        assert clocks.wrong() == step
