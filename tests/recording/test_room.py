"""How long the room of a disk lasts, on a clock that is given."""

import pytest

from daemon.recording.room import Forecast


def test_the_time_until_a_disk_is_full_follows_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unknown at first, and once nothing is noted any more; infinite while the room stays."""
    now = 0.0
    monkeypatch.setattr("daemon.recording.room.time.monotonic", lambda: now)
    forecast, told = Forecast(), []
    for room in (1000, 1000, 1000, 900, 800):
        forecast.note(room)
        told.append(forecast.seconds)
        now += 10
    assert told == [0.0, float("inf"), float("inf"), 900 / (100 / 30), 800 / (200 / 40)]
    now += 60
    assert forecast.seconds == 0.0
