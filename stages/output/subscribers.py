"""Who listens to the publishing socket, to what, and who was refused."""

import os
import socket
import stat
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress

import zmq
from zmq.utils.monitor import recv_monitor_message

MAX_TOPICS = 1000  # kept of one subscriber; who has more is taken for one that wants all
AT_ONCE = 500  # messages of subscribers taken in between two of ours, so that a flood of them holds up nobody
FLOOD, FLOOD_S = 10_000, 10.0  # messages of one subscriber, and seconds within which so many cost its connection
_MONITOR = "inproc://monitor"
HANDSHAKE_FAILED = (
    zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)


class Subscribers:
    """The subscriptions of each connection, by its file descriptor.

    XPUB tells of subscriptions but not whose connection ended, the socket's monitor tells of connections but not of
    subscriptions; the descriptor joins the two. A connection counts once, however many topics it has, and a peer that
    connects without subscribing does not.
    """

    def __init__(self, xpub: zmq.Socket[bytes]) -> None:
        self.topics: dict[int, set[bytes]] = {}  # only connections with a subscription
        self.refused = 0  # handshakes
        self._connected: set[int] = set()
        self._said: Counter[int] = Counter()  # messages by descriptor, since the moment below
        self._since = time.monotonic()
        self._wanted: dict[bytes, bool] = {}  # by topic, until somebody comes, goes or changes a subscription
        self._xpub = xpub
        self._monitor = xpub.context.socket(zmq.PAIR)
        self._monitor.set(zmq.RCVHWM, 0)  # libzmq's thread would stand still once the queue is full
        xpub.monitor(_MONITOR, zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED | HANDSHAKE_FAILED)
        self._monitor.connect(_MONITOR)

    def update(self) -> None:
        """Take in what has happened; also lets libzmq see how much room each subscriber has by now."""
        self._stop_floods()
        # In this order: a subscription's own connection is then known, and an older one of the same number forgotten.
        subscriptions = list(self._subscriptions())
        self._connections()
        for descriptor, subscribed, topic in subscriptions:
            if descriptor not in self._connected:
                continue
            self._wanted.clear()
            topics = self.topics.setdefault(descriptor, set())
            topics.add(topic) if subscribed else topics.discard(topic)
            if len(topics) > MAX_TOPICS:
                topics.clear()
                topics.add(b"")
            if not topics:
                del self.topics[descriptor]

    def wants(self, topic: bytes) -> bool:
        """Whether ``topic`` has a subscriber."""
        if topic not in self._wanted:
            self._wanted[topic] = any(topic.startswith(tuple(topics)) for topics in self.topics.values())
        return self._wanted[topic]

    def prefixes(self, topic: bytes) -> set[bytes]:
        """All that the subscribers of ``topic`` have subscribed to."""
        subscribers = (topics for topics in self.topics.values() if topic.startswith(tuple(topics)))
        return set().union(*subscribers)

    def close(self) -> None:
        """Stop watching."""
        self.topics.clear()
        self._wanted.clear()
        self._xpub.disable_monitor()
        self._monitor.close(0)

    def _subscriptions(self) -> Iterable[tuple[int, bool, bytes]]:
        if not int(self._xpub.get(zmq.EVENTS)) & zmq.POLLIN:
            return
        for _ in range(AT_ONCE):
            try:  # not the events again: asking for them makes libzmq take in more, and a flood would outrun us
                frame = self._xpub.recv(zmq.DONTWAIT, copy=False)
            except zmq.Again:
                return
            message = frame.bytes
            try:
                descriptor = frame.get(zmq.SRCFD)
            except zmq.ZMQError:  # made up by libzmq when a connection ended
                continue
            self._said[descriptor] += 1
            if message[:1] in (b"\0", b"\1"):
                yield descriptor, message[0] == 1, message[1:]

    def _stop_floods(self) -> None:
        """libzmq takes in all that comes, without a bound, so who never stops must go."""
        for descriptor, said in self._said.items():
            if said > FLOOD:
                self._cut(descriptor)
        if self._said and (max(self._said.values()) > FLOOD or time.monotonic() - self._since > FLOOD_S):
            self._said.clear()
            self._since = time.monotonic()

    def _cut(self, descriptor: int) -> None:
        """End a connection. Its number may belong to another file by now: one with our address is a subscriber's."""
        with suppress(OSError):  # it may have gone
            copy = os.dup(descriptor)
            if not stat.S_ISSOCK(os.fstat(copy).st_mode):
                os.close(copy)
                return
            with socket.socket(fileno=copy) as connection:
                address = connection.getsockname()
                ours = f":{address[1]}" if isinstance(address, tuple) else f"ipc://{address}"
                if self._xpub.get_string(zmq.LAST_ENDPOINT).endswith(ours):
                    connection.shutdown(socket.SHUT_RDWR)

    def _connections(self) -> None:
        while self._monitor.poll(0):
            event = recv_monitor_message(self._monitor)
            if event["event"] & HANDSHAKE_FAILED:
                self.refused += 1
                continue
            descriptor = int(event["value"])
            if self.topics.pop(descriptor, None):
                self._wanted.clear()
            if event["event"] == zmq.EVENT_ACCEPTED:
                self._connected.add(descriptor)
            else:
                self._connected.discard(descriptor)
