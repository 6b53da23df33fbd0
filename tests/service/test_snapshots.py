"""Snapshots that wait for their stream: a few, for a while, each for one stream."""

import pytest

from daemon.errors import BusyError, UnknownNameError
from daemon.lane.handover import Handover
from daemon.service import snapshots
from daemon.service.snapshots import KEPT_FOR, MOST, Snapshots
from stages.errors import SnapshotError
from tests.support.program import wait_until

SESSION = "7b1f3c95-e2a4-4d60-9f8e-c05d6b472a19"
PACKED = Handover(SESSION, None, ("car",), b"tracks").pack()


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(snapshots, "time", clock)
    return clock


def test_a_snapshot_is_for_one_stream():
    kept = Snapshots()
    name = kept.keep(PACKED)
    with kept.taken(name) as handover:
        assert (handover.prompts, handover.tracker) == (("car",), b"tracks")
        with pytest.raises(UnknownNameError), kept.taken(name):
            pass
    with pytest.raises(UnknownNameError, match=f"no snapshot '{name}' waits: .*; send it again"), kept.taken(name):
        pass


def test_a_stream_that_was_not_started_leaves_the_snapshot_for_the_next_attempt():
    kept = Snapshots()
    name = kept.keep(PACKED)
    with pytest.raises(BusyError), kept.taken(name):
        raise BusyError("the engine is busy")
    with kept.taken(name) as handover:
        assert handover.session == SESSION


def test_a_snapshot_is_kept_for_a_minute(clock):
    kept = Snapshots()
    early, late = kept.keep(PACKED), ""
    clock.now += KEPT_FOR / 2
    late = kept.keep(PACKED)
    clock.now += KEPT_FOR / 2
    with pytest.raises(UnknownNameError), kept.taken(early):
        pass
    with kept.taken(late):
        pass


def test_a_snapshot_that_nobody_takes_is_freed_though_nobody_calls(monkeypatch):
    monkeypatch.setattr(snapshots, "KEPT_FOR", 0.1)
    kept = Snapshots()
    for _ in range(2):
        kept.keep(PACKED)
        kept.keep(PACKED)
        wait_until(lambda: not kept._kept)


def test_a_few_snapshots_are_kept_and_not_more_than_their_bytes(clock, monkeypatch):
    kept = Snapshots()
    for _ in range(MOST):
        kept.keep(PACKED)
    with pytest.raises(BusyError, match=f"{MOST} snapshots wait for their streams; start those, or try again"):
        kept.keep(PACKED)
    clock.now += KEPT_FOR
    monkeypatch.setattr(snapshots, "MOST_BYTES", 2 * len(b"tracks"))
    name = kept.keep(PACKED)
    kept.keep(PACKED)
    with pytest.raises(BusyError):
        kept.keep(PACKED)
    with kept.taken(name):
        pass
    kept.keep(PACKED)


def test_what_is_no_snapshot_is_not_kept():
    with pytest.raises(SnapshotError):
        Snapshots().keep(b"what is this")
