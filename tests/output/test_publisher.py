"""The publishing socket, against real subscribers over TCP and Unix sockets."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
import zmq

from stages.errors import OutputError
from stages.output.publisher import Publisher
from tests.output.keys import eventually
from tests.support.program import PATIENCE, wait_until

BIG = b"x" * 200_000  # large enough to fill the kernel's buffers after a few
TOPIC = b"v1/gate/masks"


@pytest.fixture
def context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    context = zmq.Context()
    yield context
    context.destroy(linger=0)


@pytest.fixture
def drop() -> Iterator[Publisher]:
    publisher = Publisher("tcp://127.0.0.1:0", send_hwm=8)
    yield publisher
    publisher.close()


@pytest.fixture
def wait() -> Iterator[Publisher]:
    publisher = Publisher("tcp://127.0.0.1:0", send_hwm=8, when_full="wait")
    yield publisher
    publisher.close()


Subscribe = Callable[..., zmq.Socket[bytes]]


@pytest.fixture
def subscribe(context: zmq.Context[zmq.Socket[bytes]]) -> Subscribe:
    """Connect a SUB socket with ``topics`` and a queue of ``hwm`` messages (0: without end)."""
    kept = []  # a socket that nothing refers to is closed

    def connect(publisher: Publisher, *topics: bytes, hwm: int = 0) -> zmq.Socket[bytes]:
        before = publisher.subscribers
        subscriber = context.socket(zmq.SUB)
        subscriber.set(zmq.RCVHWM, hwm)
        if hwm:
            subscriber.set(zmq.RCVBUF, 64 * 1024)
        for topic in topics or (b"",):
            subscriber.subscribe(topic)
        subscriber.connect(publisher.endpoint)
        kept.append(subscriber)
        assert reaches(publisher, before + 1)
        return subscriber

    return connect


def reaches(publisher: Publisher, count: int) -> bool:
    """Whether the publisher comes to have exactly ``count`` subscribers."""
    return eventually(lambda: publisher.subscribers == count)


def message(number: int, topic: bytes = TOPIC) -> list[bytes]:
    return [topic, str(number).encode(), BIG]


def received(subscriber: zmq.Socket[bytes], expected: Iterable[int], topic: bytes = TOPIC) -> list[int]:
    """The numbers of the messages of ``topic``: all ``expected`` ones, then until none has come for 0.3 seconds."""
    numbers: list[int] = []
    missing = set(expected)
    while subscriber.poll(1000 * PATIENCE if missing.difference(numbers) else 300):
        parts = subscriber.recv_multipart()
        if parts[0] == topic:
            numbers.append(int(parts[1]))
    return numbers


def fill(publisher: Publisher, fast: zmq.Socket[bytes]) -> list[bool]:
    """Send at the pace of ``fast`` until another subscriber has lost 20 messages in a row: what each send returned."""
    sent: list[bool] = []
    while any(sent[-20:]) or len(sent) < 20:
        sent.append(publisher.send(message(len(sent))))
        assert int(fast.recv_multipart()[1]) == len(sent) - 1
    return sent


def complete(sent: list[bool]) -> set[int]:
    """The numbers of the messages that no subscriber lost."""
    return {number for number, whole in enumerate(sent) if whole}


def test_a_subscriber_gets_every_part_of_the_topics_that_it_asked_for(drop: Publisher, subscribe: Subscribe) -> None:
    subscriber = subscribe(drop, b"v1/gate/")
    assert drop.send([b"v1/yard/frame", b"{}", b"jpeg"])
    assert drop.send([b"v1/gate/frame", b"{}", b"jpeg"])
    assert subscriber.recv_multipart() == [b"v1/gate/frame", b"{}", b"jpeg"]
    assert not subscriber.poll(100)


def test_port_zero_is_resolved_to_the_port_that_was_bound(drop: Publisher) -> None:
    assert int(drop.endpoint.rsplit(":", 1)[1]) > 0


def test_ipc_endpoints_work(tmp_path: Path, subscribe: Subscribe) -> None:
    publisher = Publisher(f"ipc://{tmp_path}/masks")
    subscriber = subscribe(publisher)
    assert publisher.send([TOPIC, b"{}"])
    assert subscriber.recv_multipart() == [TOPIC, b"{}"]
    subscriber.close()
    assert reaches(publisher, 0)
    publisher.close()


def test_a_port_in_use_is_one_clear_line(drop: Publisher) -> None:
    with pytest.raises(OutputError, match=f"{drop.endpoint}, the address is in use") as raised:
        Publisher(drop.endpoint)
    assert "\n" not in str(raised.value)


def test_a_unix_socket_in_use_is_not_taken_away(tmp_path: Path, subscribe: Subscribe) -> None:
    publisher = Publisher(f"ipc://{tmp_path}/masks")
    with pytest.raises(OutputError, match="the address is in use"):
        Publisher(f"ipc://{tmp_path}/masks")
    assert subscribe(publisher)
    publisher.close()


@pytest.mark.process
def test_a_unix_socket_left_by_a_dead_program_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "masks"
    script = "import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])"
    subprocess.run([sys.executable, "-c", script, path], check=True)
    assert path.is_socket()
    Publisher(f"ipc://{path}").close()


@pytest.mark.parametrize("endpoint", ["nonsense", "foo://x", "tcp://127.0.0.1", "ipc:///no/such/folder/masks"])
def test_an_endpoint_that_cannot_be_is_one_clear_line(endpoint: str) -> None:
    with pytest.raises(OutputError, match=f"cannot publish on {endpoint}, .*: use tcp://HOST:PORT") as raised:
        Publisher(endpoint)
    assert "\n" not in str(raised.value)


def test_a_subscriber_of_several_topics_counts_once(drop: Publisher, subscribe: Subscribe) -> None:
    assert drop.subscribers == 0
    first = subscribe(drop, b"v1/gate/masks", b"v1/gate/event", b"v1/yard")
    subscribe(drop, b"v1/gate/masks")
    assert drop.subscribers == 2
    first.unsubscribe(b"v1/yard")
    first.close()
    assert reaches(drop, 1)


def test_a_connection_counts_only_while_it_has_a_subscription(drop: Publisher, subscribe: Subscribe) -> None:
    subscriber = subscribe(drop, b"v1/gate", b"v1/yard")
    subscriber.unsubscribe(b"v1/gate")
    subscriber.unsubscribe(b"v1/yard")
    assert reaches(drop, 0)
    subscriber.subscribe(b"v1/gate")
    assert reaches(drop, 1)


def test_a_topic_is_wanted_while_somebody_has_subscribed_to_it_or_to_what_it_begins_with(
    drop: Publisher, subscribe: Subscribe
) -> None:
    topics = (b"v1/gate/masks", b"v1/gate/frame", b"v1/yard/frame")
    assert not any(map(drop.wants, topics))
    masks, gate = subscribe(drop, b"v1/gate/masks", b"nothing"), subscribe(drop, b"v1/gate/")
    assert [drop.wants(topic) for topic in topics] == [True, True, False]
    gate.close()
    assert reaches(drop, 1)
    assert [drop.wants(topic) for topic in topics] == [True, False, False]
    masks.subscribe(b"")
    assert eventually(lambda: all(map(drop.wants, topics)))
    drop.close()
    assert not any(map(drop.wants, topics))


@pytest.mark.process
def test_a_killed_subscriber_stops_counting_and_its_successors_count_anew(drop: Publisher) -> None:
    script = """
import sys, time, zmq
subscriber = zmq.Context().socket(zmq.SUB)
subscriber.subscribe(b"v1/gate/masks")
subscriber.subscribe(b"v1/gate/event")
subscriber.connect(sys.argv[1])
time.sleep(60)
"""
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", script, drop.endpoint]) as process:
            assert reaches(drop, 1)
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            assert reaches(drop, 0)


def test_wait_for_returns_once_enough_subscribers_can_receive(drop: Publisher, subscribe: Subscribe) -> None:
    arrived: list[bool] = []
    waiting = threading.Thread(target=lambda: arrived.append(drop.wait_for(2, threading.Event())))
    waiting.start()
    first = subscribe(drop)
    assert waiting.is_alive()
    second = subscribe(drop)
    waiting.join(PATIENCE)
    assert arrived == [True]
    drop.send(message(0))
    assert received(first, [0]) == received(second, [0]) == [0]


def test_wait_for_gives_up_when_told_to_stop(drop: Publisher) -> None:
    stop = threading.Event()
    stop.set()
    assert drop.wait_for(1, stop) is False


def test_dropping_costs_the_slow_subscriber_alone_and_every_loss_is_reported(
    drop: Publisher, subscribe: Subscribe
) -> None:
    slow, fast = subscribe(drop, b"v1/gate/", hwm=1), subscribe(drop, TOPIC)
    sent = fill(drop, fast)
    assert not drop.send(message(0, b"v1/gate/frame"))
    assert drop.send(message(0, b"v1/yard/masks")), "the slow subscriber did not ask for it"
    arrived = received(slow, complete(sent))
    assert complete(sent) <= set(arrived)
    assert len(arrived) < len(sent)


def test_a_slow_subscriber_that_has_caught_up_loses_no_more(drop: Publisher, subscribe: Subscribe) -> None:
    slow, fast = subscribe(drop, hwm=1), subscribe(drop)
    sent = fill(drop, fast)
    received(slow, complete(sent))
    assert drop.send(message(1000))
    assert received(slow, [1000]) == received(fast, [1000]) == [1000]


def test_a_stuck_subscriber_that_leaves_loses_no_more(drop: Publisher, subscribe: Subscribe) -> None:
    stuck, fast = subscribe(drop, hwm=1), subscribe(drop)
    fill(drop, fast)
    stuck.close()
    assert eventually(lambda: drop.send(message(1000)))


def test_waiting_loses_nothing_with_a_slow_subscriber(wait: Publisher, subscribe: Subscribe) -> None:
    slow, fast = subscribe(wait, hwm=1), subscribe(wait)
    sent: list[bool] = []
    sending = threading.Thread(target=lambda: sent.extend(wait.send(message(number)) for number in range(150)))
    sending.start()
    assert slow.poll(1000 * PATIENCE)
    time.sleep(0.3)
    assert sending.is_alive(), "the sender is held back"
    assert received(slow, range(150)) == received(fast, range(150)) == list(range(150))
    sending.join()
    assert sent == [True] * 150


def test_waiting_ends_when_told_to_stop_and_costs_the_stuck_subscriber_alone(
    wait: Publisher, subscribe: Subscribe
) -> None:
    stuck, fast = subscribe(wait, hwm=1), subscribe(wait)
    stop = threading.Event()
    sent: list[bool] = []

    def send() -> None:
        while not sent or sent[-1]:
            sent.append(wait.send(message(len(sent)), stop))

    sending = threading.Thread(target=send)
    sending.start()
    time.sleep(0.5)
    stop.set()
    sending.join(PATIENCE)
    assert not sending.is_alive()
    assert sent == [True] * (len(sent) - 1) + [False]
    assert received(fast, range(len(sent))) == list(range(len(sent)))
    assert received(stuck, range(len(sent) - 1)) == list(range(len(sent) - 1))


def test_what_may_not_be_sent_any_more_while_a_subscriber_is_waited_for_is_not_sent(
    wait: Publisher, subscribe: Subscribe
) -> None:
    """The check comes before each attempt: its error reaches the sender, and nobody gets the message."""
    stuck = subscribe(wait, hwm=1)
    forbidden = threading.Event()
    sent: list[int] = []
    errors: list[Exception] = []

    def check() -> None:
        if forbidden.is_set():
            raise PermissionError

    def send() -> None:
        try:
            while wait.send(message(len(sent)), check=check):
                sent.append(len(sent))
        except PermissionError as error:
            errors.append(error)

    sending = threading.Thread(target=send)
    sending.start()
    assert eventually(lambda: len(sent) > 1)
    time.sleep(0.3)
    forbidden.set()
    sending.join(PATIENCE)
    assert len(errors) == 1
    assert received(stuck, range(len(sent))) == sent
    wait.send(message(len(sent)))
    assert received(stuck, [len(sent)]) == [len(sent)], "and not before"


def test_closing_frees_whoever_waits_for_a_stuck_subscriber(wait: Publisher, subscribe: Subscribe) -> None:
    subscribe(wait, hwm=1)
    sent: list[bool] = []

    def send() -> None:
        while not sent or sent[-1]:
            sent.append(wait.send(message(0)))

    sending = threading.Thread(target=send)
    sending.start()
    time.sleep(0.3)
    wait.close()
    sending.join(PATIENCE)
    assert not sending.is_alive()
    assert sent[-1] is False


def test_closing_delivers_what_is_on_its_way(subscribe: Subscribe) -> None:
    publisher = Publisher("tcp://127.0.0.1:0")
    subscriber = subscribe(publisher)
    for number in range(50):
        assert publisher.send(message(number))
    publisher.close()
    assert received(subscriber, range(50)) == list(range(50))


def test_threads_may_share_a_publisher(wait: Publisher, subscribe: Subscribe) -> None:
    subscriber = subscribe(wait)
    topics = [f"v1/stream{n}/masks".encode() for n in range(4)]

    def send(topic: bytes) -> None:
        for number in range(100):
            wait.send([topic, str(number).encode()])

    threads = [threading.Thread(target=send, args=(topic,)) for topic in topics]
    for thread in threads:
        thread.start()
    arrived: dict[bytes, list[int]] = {topic: [] for topic in topics}
    for _ in range(400):
        topic, number = subscriber.recv_multipart()
        arrived[topic].append(int(number))
    for thread in threads:
        thread.join()
    assert all(numbers == list(range(100)) for numbers in arrived.values())


def test_topics_of_streams_that_have_gone_are_forgotten_once_their_messages_have_left(drop, subscribe):
    subscribe(drop)
    for number in range(100):
        topic = b"v1/camera-%d/masks" % number
        assert drop.send([topic, b"{}"])
        wait_until(lambda: all(t.done for trackers in drop._drops._recent.values() for t in trackers))
    assert len(drop._drops._recent) == 1
