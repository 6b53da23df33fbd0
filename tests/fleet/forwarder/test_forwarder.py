"""The forwarder between real publishers and real subscribers."""

import time
from collections.abc import Iterator

import pytest

from daemon.fleet.forwarder import forwarder as module
from daemon.fleet.forwarder.late_joiners import LateJoiners
from stages.errors import OutputError
from stages.fences import Fences
from tests.fleet.forwarder.place import Place, figure, knows, message, number, place, read
from tests.output.keys import Keys, eventually, stranger


@pytest.fixture
def around() -> Iterator[Place]:
    with place() as made:
        yield made


def test_one_address_has_the_streams_of_all_daemons(around: Place) -> None:
    north, south = around.daemon(), around.daemon()
    forwarder = around.forwarder(north, south)
    subscriber = around.subscriber(forwarder.endpoint, "v1/")
    assert knows(north, "v1/gate/masks")
    assert knows(south, "v1/yard/frame")
    north.send(message("gate", 4))
    assert subscriber.recv_multipart() == message("gate", 4)
    south.send(message("yard", 7, "frame"))
    assert subscriber.recv_multipart() == message("yard", 7, "frame")
    assert eventually(lambda: figure(forwarder, "messages_total") == 2)
    assert (figure(forwarder, "subscribers"), figure(forwarder, "daemons")) == (1, 2)


def test_subscriptions_reach_the_daemons_and_end_there_with_the_last_subscriber(around: Place) -> None:
    """A daemon draws pictures for those only who subscribe to them."""
    daemon = around.daemon()
    forwarder = around.forwarder(daemon)
    masks = around.subscriber(forwarder.endpoint, "v1/gate/masks")
    assert knows(daemon, "v1/gate/masks")
    assert not daemon.wants(b"v1/gate/frame")
    first, second = (around.subscriber(forwarder.endpoint, "v1/gate/frame") for _ in range(2))
    assert knows(daemon, "v1/gate/frame")
    first.close(0)
    assert eventually(lambda: figure(forwarder, "subscribers") == 2)
    assert daemon.wants(b"v1/gate/frame")
    second.unsubscribe("v1/gate/frame")
    assert eventually(lambda: not daemon.wants(b"v1/gate/frame"))
    daemon.send(message("gate", 1))
    assert number(masks.recv_multipart()) == 1
    assert daemon.subscribers == 1


def test_many_topics_all_reach_the_daemons(around: Place) -> None:
    """They are passed on in portions, so that no daemon takes the forwarder for a flood."""
    daemon = around.daemon()
    forwarder = around.forwarder(daemon)
    around.subscriber(forwarder.endpoint, *(f"v1/gate-{n}/masks" for n in range(150)))
    assert all(knows(daemon, f"v1/gate-{n}/masks") for n in range(150))


def test_daemons_come_and_go_while_subscribers_stay(around: Place) -> None:
    old, new = around.daemon(), around.daemon()
    forwarder = around.forwarder(old)
    subscriber = around.subscriber(forwarder.endpoint, "v1/gate/")
    assert knows(old, "v1/gate/masks")
    read(forwarder, new)
    assert knows(new, "v1/gate/masks")
    assert eventually(lambda: old.subscribers == 0)
    old.send(message("gate", 1))
    new.send(message("gate", 2))
    assert number(subscriber.recv_multipart()) == 2


def test_a_daemon_that_comes_back_at_its_address_is_read_again(around: Place, tmp_path) -> None:
    first = around.daemon(f"ipc://{tmp_path}/masks")
    forwarder = around.forwarder(first)
    subscriber = around.subscriber(forwarder.endpoint, "v1/gate/")
    assert knows(first, "v1/gate/masks")
    first.close()
    second = around.daemon(f"ipc://{tmp_path}/masks")
    assert knows(second, "v1/gate/masks")
    second.send(message("gate", 3))
    assert number(subscriber.recv_multipart()) == 3


def test_what_an_older_publisher_sends_is_dropped_from_the_first_newer_message_on(around: Place) -> None:
    old, new = around.daemon(), around.daemon()
    forwarder = around.forwarder(old, new)
    subscriber = around.subscriber(forwarder.endpoint, "v1/")
    assert knows(old, "v1/gate/masks")
    assert knows(new, "v1/gate/masks")
    seen = []
    for n in range(4):  # each waits for the one before: two sockets have no common order
        old.send(message("gate", n, fence=1))
        seen.append(number(subscriber.recv_multipart()))
    new.send(message("gate", 100, "event", fence=2))
    seen.append(number(subscriber.recv_multipart()))
    for n in range(4, 8):
        old.send(message("gate", n, fence=1))
        old.send(message("yard", n, fence=1))  # another stream: not concerned
        seen.append(number(subscriber.recv_multipart()))
        new.send(message("gate", 100 + n, fence=2))
        seen.append(number(subscriber.recv_multipart()))
    assert seen == [0, 1, 2, 3, 100, 4, 104, 5, 105, 6, 106, 7, 107]
    assert figure(forwarder, "dropped_total", reason="fence") == 4


@pytest.mark.parametrize(
    "parts",
    [
        message("gate", 1),
        message("gate", 1, fence=None),
        message("gate", 1, "depth", fence=2),
        [b"v1/gate/masks", b"no JSON"],
        [b"v1/gate/masks", b"[1]"],
        [b"v1/gate/masks"],
        [b"v2/gate/masks", b"{}"],
        message("gate", 1, "masks", fence=5, models={"fence": 1}, thresholds={"fence": 0.3}),
    ],
)
def test_what_has_no_lower_fence_passes_unchanged(parts, around: Place) -> None:
    daemon = around.daemon()
    forwarder = around.forwarder(daemon)
    subscriber = around.subscriber(forwarder.endpoint, "v")
    assert knows(daemon, "v1/gate/masks")
    daemon.send(message("gate", 0, fence=2))
    subscriber.recv_multipart()
    daemon.send(parts)
    assert subscriber.recv_multipart() == parts


def test_a_late_joiner_gets_the_last_status_of_every_stream_at_once(around: Place) -> None:
    """Nothing is published after it has come. The forwarder itself asks the daemons for the status of its streams."""
    daemon = around.daemon()
    forwarder = around.forwarder(daemon, streams=("gate", "yard"))
    assert knows(daemon, "v1/gate/status")
    assert knows(daemon, "v1/yard/status")
    assert not daemon.wants(b"v1/gate/masks")
    for n, (stream, fence) in enumerate([("gate", 1), ("gate", 2), ("gate", 1), ("yard", 1)]):
        daemon.send(message(stream, n, "status", fence=fence))
    assert eventually(lambda: figure(forwarder, "messages_total") == 3)
    everything, gate = (around.subscriber(forwarder.endpoint, topic) for topic in ("v1/", "v1/gate/status"))
    assert {number(everything.recv_multipart()) for _ in range(2)} == {1, 3}
    assert number(gate.recv_multipart()) == 1


def test_what_was_silent_for_long_is_forgotten() -> None:
    fences, joiners = Fences(), LateJoiners()
    assert fences.admits("gate", 7)
    joiners.keep(message("gate", 1, "status"))
    for known in (fences, joiners):
        known.forget(3600)
    assert not fences.admits("gate", 6)
    time.sleep(0.01)
    for known in (fences, joiners):
        known.forget(0.001)
    assert fences.admits("gate", 6)
    joiners.joined(b"v1/")
    assert joiners.due(time.monotonic()) == []


def test_a_subscriber_that_does_not_read_holds_up_nobody(around: Place) -> None:
    daemon = around.daemon()
    forwarder = around.forwarder(daemon, send_hwm=8)
    around.subscriber(forwarder.endpoint, "v1/", hwm=1)
    reader = around.subscriber(forwarder.endpoint, "v1/")
    assert knows(daemon, "v1/gate/masks")
    assert eventually(lambda: figure(forwarder, "subscribers") == 2)
    for n in range(400):
        daemon.send([*message("gate", n), b"x" * 100_000])
        assert number(reader.recv_multipart()) == n


def test_keys_are_asked_for_on_both_sides(around: Place, tmp_path) -> None:
    keys = Keys(tmp_path)
    wall = keys.client("wall")
    keys.client("forwarder")
    daemon = around.daemon(curve_dir=keys.folder)
    own = {"key": tmp_path / "forwarder.key_secret", "server": keys.folder / "server.key"}
    forwarder = around.forwarder(daemon, curve_dir=keys.folder, **own)
    known = around.subscriber(forwarder.endpoint, "v1/gate/", pair=wall, server=keys.server)
    unknown = around.subscriber(forwarder.endpoint, "v1/yard/", pair=stranger(), server=keys.server)
    assert knows(daemon, "v1/gate/masks")
    daemon.send(message("yard", 1))
    daemon.send(message("gate", 2))
    assert number(known.recv_multipart()) == 2
    assert not unknown.poll(300)
    assert not daemon.wants(b"v1/yard/masks")


def test_a_daemon_that_refuses_the_key_is_named_and_tried_again(around: Place, tmp_path, monkeypatch, caplog) -> None:
    monkeypatch.setattr(module, "AGAIN_S", 0.2)
    keys = Keys(tmp_path)
    keys.client("forwarder")
    allowed = keys.folder / "clients" / "forwarder.key"
    allowed.rename(tmp_path / "later.key")
    daemon = around.daemon(curve_dir=keys.folder)
    own = {"key": tmp_path / "forwarder.key_secret", "server": keys.folder / "server.key"}
    forwarder = around.forwarder(daemon, **own)
    subscriber = around.subscriber(forwarder.endpoint, "v1/gate/")
    assert eventually(lambda: figure(forwarder, "refused_total") >= 2)
    (tmp_path / "later.key").rename(allowed)
    assert knows(daemon, "v1/gate/masks")
    daemon.send(message("gate", 5))
    assert number(subscriber.recv_multipart()) == 5
    assert caplog.text.count(f"{daemon.endpoint} refuses the handshake") == 1


def test_an_endpoint_in_use_is_one_clear_line(around: Place) -> None:
    forwarder = around.forwarder()
    with pytest.raises(OutputError, match="is in use"):
        module.Forwarder(forwarder.endpoint)
