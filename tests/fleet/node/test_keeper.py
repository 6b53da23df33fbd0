"""A keeper has the latest snapshot of each stream, in whatever order they come."""

from daemon.fleet.node.keeper import Keeper


def test_the_latest_snapshot_under_the_highest_fence_is_kept():
    """The last one of a moving stream may overtake one that was taken before it."""
    keeper = Keeper()
    keeper.put("gate", 7, 10.0, b"first")
    keeper.put("gate", 7, 14.0, b"last")
    keeper.put("gate", 7, 12.0, b"late")
    assert keeper.get("gate") == b"last"
    keeper.put("gate", 8, 2.0, b"of another machine")
    keeper.put("gate", 7, 16.0, b"of one that was cut off")
    assert keeper.get("gate") == b"of another machine"
    assert keeper.get("hall") is None
