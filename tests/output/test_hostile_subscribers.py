"""Whatever comes in on the publishing port: the stream does not notice, and a good subscriber loses nothing."""

import random
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import zmq

from stages.output.publisher import Publisher
from tests.output import zmtp
from tests.output.keys import Keys, Pair, eventually, subscriber
from tests.support.program import PATIENCE

TOPIC = b"v1/gate/masks"
Context = zmq.Context[zmq.Socket[bytes]]

GREETINGS = {
    "nothing": b"",
    "http": b"GET / HTTP/1.1\r\nHost: gate\r\n\r\n",
    "tls": bytes.fromhex("16030100c8010000c40303") + bytes(190),
    "zeros": bytes(200),
    "ones": b"\xff" * 200,
    "half a greeting": zmtp.greeting()[:30],
    "a future version": zmtp.greeting(version=b"\x09\x09") + zmtp.ready(),
    "an old version": zmtp.greeting(version=b"\x01\x00"),
    "a mechanism that is none": zmtp.greeting(b"MAGIC") + zmtp.ready(),
    "passwords": zmtp.greeting(b"PLAIN") + zmtp.command(b"HELLO", b"\x04user\x04pass"),
    "a broken hello": zmtp.greeting(b"CURVE") + zmtp.command(b"HELLO", b"short"),
    "a hello of noise": zmtp.greeting(b"CURVE") + zmtp.command(b"HELLO", b"\x01\x00" + bytes(72) + b"\xaa" * 120),
    "another type of socket": zmtp.greeting() + zmtp.ready(b"REQ"),
    "a type of socket that is none": zmtp.greeting() + zmtp.ready(b"\xff\xfe"),
    "metadata that lie about their size": zmtp.greeting() + zmtp.command(b"READY", b"\x0bSocket-Type\xff\xff\xff\xff"),
    "no command": zmtp.greeting() + b"\x04\x00",
    "an endless command": zmtp.greeting() + b"\x06" + struct.pack(">Q", 1 << 62) + b"x" * 100,
    "messages before the handshake": zmtp.greeting() + zmtp.frame(b"\x01v1/") * 3,
}  # fmt: skip

MESSAGES = {
    "no subscription": zmtp.frame(b"hello"),
    "an empty message": zmtp.frame(b"") * 100,
    "many parts": zmtp.frame(b"a", more=True) * 1000 + zmtp.frame(b"\x02"),
    "unsubscribing from what it never had": zmtp.frame(b"\x00v1/other") * 100,
    "the same subscription often": zmtp.frame(b"\x01v1/x") * 5000,
    "commands that are none": zmtp.command(b"NONSENSE", b"x" * 50) * 10,
    "ready again and again": zmtp.ready() * 10,
    "a short ping": zmtp.command(b"PING"),
    "an empty subscribe": zmtp.command(b"SUBSCRIBE") + zmtp.command(b"CANCEL"),
    "flags that are none": b"\xf8\x05hello",
    "a subscription of a megabyte": zmtp.frame(b"\x01" + b"a" * (1 << 20)),
    "the claim of a gigabyte": b"\x02" + struct.pack(">Q", 1 << 30) + b"\x01" * 1000,
    "the claim of half the world": b"\x02" + struct.pack(">Q", 1 << 62) + b"\x01" * 1000,
    "a negative size": b"\x02" + b"\xff" * 8 + b"\x01" * 1000,
}
TOO_LARGE = [name for name in MESSAGES if "mega" in name or "claim" in name or "negative" in name]


class Site:
    """A publisher with one good subscriber."""

    def __init__(self, context: Context, keys: Keys | None) -> None:
        self.publisher = Publisher("tcp://127.0.0.1:0", curve_dir=keys and keys.folder)
        pair: Pair | None = keys.client("good") if keys else None
        self._good = subscriber(context, self.publisher.endpoint, pair, keys.server if keys else b"")
        assert eventually(lambda: self.publisher.subscribers == 1)
        self._sent = 0

    def goes_on(self, messages: int = 10) -> bool:
        """The next messages all reach the good subscriber, and none is said to be lost."""
        numbers = range(self._sent, self._sent + messages)
        self._sent += messages
        for number in numbers:
            assert self.publisher.send([TOPIC, str(number).encode()])
            assert self._good.poll(PATIENCE * 1000)
            assert int(self._good.recv_multipart()[1]) == number
        return True


@pytest.fixture
def context() -> Iterator[Context]:
    context: Context = zmq.Context()
    yield context
    context.destroy(linger=0)


@pytest.fixture(params=["without keys", "with keys"])
def site(request: pytest.FixtureRequest, context: Context, tmp_path: Path) -> Iterator[Site]:
    site = Site(context, Keys(tmp_path) if request.param == "with keys" else None)
    yield site
    site.publisher.close()


@pytest.fixture
def open_site(context: Context) -> Iterator[Site]:
    site = Site(context, None)
    yield site
    site.publisher.close()


@pytest.mark.parametrize("name", GREETINGS)
def test_who_does_not_shake_hands_is_no_subscriber_and_disturbs_nobody(site: Site, name: str) -> None:
    with zmtp.connect(site.publisher.endpoint) as hanging, zmtp.connect(site.publisher.endpoint) as leaving:
        hanging.sendall(GREETINGS[name])
        leaving.sendall(GREETINGS[name])
        assert site.goes_on()
        leaving.close()
        assert site.goes_on()
        assert site.publisher.subscribers == 1


def test_noise_of_any_kind_disturbs_nobody(site: Site) -> None:
    """Half of it begins as ZeroMQ does."""
    dice = random.Random(0)
    for number in range(200):
        start = zmtp.greeting(dice.choice([b"NULL", b"CURVE"])) if number % 2 else b""
        with zmtp.connect(site.publisher.endpoint) as peer, suppress(ConnectionError):
            peer.sendall(start + dice.randbytes(dice.randrange(1, 2000)))
    assert site.goes_on()
    assert site.publisher.subscribers == 1


def test_a_port_scanner_that_holds_many_connections_disturbs_nobody(site: Site) -> None:
    peers = [zmtp.connect(site.publisher.endpoint) for _ in range(100)]
    assert site.goes_on()
    assert site.publisher.subscribers == 1
    for peer in peers:
        peer.close()
    assert site.goes_on()


@pytest.mark.parametrize("name", MESSAGES)
def test_nonsense_of_a_subscriber_costs_nobody_else_a_message(open_site: Site, name: str) -> None:
    with zmtp.subscribed(open_site.publisher.endpoint, TOPIC) as peer:
        assert eventually(lambda: open_site.publisher.subscribers == 2)
        with suppress(ConnectionError):
            peer.sendall(MESSAGES[name])
        assert open_site.goes_on()
    assert eventually(lambda: open_site.publisher.subscribers == 1)
    assert open_site.goes_on()


@pytest.mark.parametrize("name", TOO_LARGE)
def test_who_sends_more_than_any_topic_takes_is_cut_off(open_site: Site, name: str) -> None:
    with zmtp.subscribed(open_site.publisher.endpoint, b"v1/other") as peer:
        with suppress(ConnectionError):
            peer.sendall(MESSAGES[name])
        assert zmtp.closed_by_the_other(peer)
    assert open_site.goes_on()


def test_the_longest_topic_can_be_subscribed_to(open_site: Site) -> None:
    topic = f"v1/{'𐍈' * 64}/status".encode()
    with zmtp.subscribed(open_site.publisher.endpoint, topic):
        assert eventually(lambda: open_site.publisher.wants(topic) and open_site.publisher.subscribers == 2)


def test_many_thousand_subscriptions_are_one_subscriber_that_gets_what_it_asked_for(
    open_site: Site, context: Context
) -> None:
    greedy = context.socket(zmq.SUB)
    greedy.set(zmq.SNDHWM, 0)
    greedy.set(zmq.RCVTIMEO, PATIENCE * 1000)
    for number in range(5000):
        greedy.subscribe(f"v1/{number:06}/masks")
    greedy.subscribe(TOPIC)
    greedy.connect(open_site.publisher.endpoint)
    assert eventually(lambda: open_site.publisher.subscribers == 2)
    assert open_site.goes_on(100)
    assert greedy.recv_multipart()[0] == TOPIC
    greedy.close()
    assert eventually(lambda: open_site.publisher.subscribers == 1)


def test_topics_of_who_has_many_thousand_are_wanted_until_it_leaves() -> None:
    publisher = Publisher("tcp://127.0.0.1:0")
    topics = [b"v1/%06d/masks" % number for number in range(5000)]
    with zmtp.subscribed(publisher.endpoint, *topics):
        assert eventually(lambda: all(map(publisher.wants, topics)))
    assert eventually(lambda: not any(map(publisher.wants, topics)))
    publisher.close()


def test_who_floods_the_publisher_is_cut_off_and_the_stream_goes_on(open_site: Site) -> None:
    pour = b"".join(zmtp.frame(b"%c" % (number % 2) + b"v1/%d" % (number // 2)) for number in range(2000))

    def flood() -> None:
        """Until the other side has enough."""
        with zmtp.subscribed(open_site.publisher.endpoint) as peer, suppress(ConnectionError):
            while True:
                peer.sendall(pour)

    thread = threading.Thread(target=flood, daemon=True)
    thread.start()
    while thread.is_alive():
        assert open_site.goes_on()
    assert eventually(lambda: open_site.publisher.subscribers == 1)
    assert open_site.goes_on()


def test_only_the_flood_s_own_connection_is_cut(tmp_path: Path, context: Context) -> None:
    """Over a Unix socket, whose connections have no port."""
    publisher = Publisher(f"ipc://{tmp_path}/masks")
    good = subscriber(context, publisher.endpoint)
    assert eventually(lambda: publisher.subscribers == 1)
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(f"{tmp_path}/masks")
        peer.settimeout(0.01)
        peer.sendall(zmtp.greeting() + zmtp.ready())
        assert eventually(lambda: poured(peer, publisher))
    publisher.send([TOPIC, b"still here"])
    assert good.recv_multipart() == [TOPIC, b"still here"]
    publisher.close()


def poured(peer: socket.socket, publisher: Publisher) -> bool:
    """Send some more; whether the connection is gone."""
    assert publisher.subscribers <= 2
    try:
        peer.sendall(zmtp.frame(b"\x01v1/x") * 100)
    except TimeoutError:
        return False
    except ConnectionError:
        return True
    return False
