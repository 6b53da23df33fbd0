"""Subscriptions of the publishing socket's connections, refused handshakes and flood protection."""

import os
import socket
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress

import zmq
from zmq.utils.monitor import recv_monitor_message

MAX_TOPICS = 1000  # of one subscriber; one with more is treated as if subscribed to all
MAX_RECEIVED = 500  # messages from subscribers that are read per update, so that a flood does not delay sending
FLOOD, FLOOD_S = 10_000, 10.0  # a subscriber that sends more messages in so many seconds is disconnected
_MONITOR = "inproc://monitor"
HANDSHAKE_FAILED = (
    zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)


class Subscribers:
    """The subscriptions of each connection, by its file descriptor.

    XPUB reports subscriptions but not closed connections; the socket's monitor reports connections but not
    subscriptions; the file descriptor joins the two. A connection counts as one subscriber, however many topics it has;
    a connection without subscriptions does not count.
    """

    def __init__(self, xpub: zmq.Socket[bytes]) -> None:
        self.topics: dict[int, set[bytes]] = {}  # only connections with a subscription
        self.refused = 0  # failed handshakes
        # called by ``update`` with the topic of each new subscription
        self.on_subscribe: Callable[[bytes], None] | None = None
        self._connected: set[int] = set()
        self._received: Counter[int] = Counter()  # messages by descriptor, since ``_counting_since``
        self._counting_since = time.monotonic()
        self._wanted: dict[bytes, bool] = {}  # by topic; a cache, cleared when subscriptions change
        self._xpub = xpub
        self._monitor = xpub.context.socket(zmq.PAIR)
        self._monitor.set(zmq.RCVHWM, 0)  # no limit: a full queue would block libzmq's I/O thread
        xpub.monitor(_MONITOR, zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED | HANDSHAKE_FAILED)
        self._monitor.connect(_MONITOR)

    def update(self) -> None:
        """Process new subscriptions and connections; libzmq also updates the free room of each subscriber's queue."""
        self._stop_floods()
        # read subscriptions before connections: then the connection of each subscription is known, and a closed
        # connection with the same descriptor is removed
        subscriptions = list(self._subscriptions())
        self._connections()
        for descriptor, subscribed, topic in subscriptions:
            if descriptor not in self._connected:
                continue
            self._wanted.clear()
            topics = self.topics.setdefault(descriptor, set())
            topics.add(topic) if subscribed else topics.discard(topic)
            if subscribed and self.on_subscribe is not None:
                self.on_subscribe(topic)
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
        """All subscriptions of the subscribers of ``topic``."""
        subscribers = (topics for topics in self.topics.values() if topic.startswith(tuple(topics)))
        return set().union(*subscribers)

    def close(self) -> None:
        """Stop the monitor. Call it before closing the socket."""
        self.topics.clear()
        self._wanted.clear()
        self._xpub.disable_monitor()
        self._monitor.close(0)

    def _subscriptions(self) -> Iterable[tuple[int, bool, bytes]]:
        if not int(self._xpub.get(zmq.EVENTS)) & zmq.POLLIN:
            return
        for _ in range(MAX_RECEIVED):
            try:  # without polling again: that makes libzmq read more, so a flood would never end
                frame = self._xpub.recv(zmq.DONTWAIT, copy=False)
            except zmq.Again:
                return
            message = frame.bytes
            try:
                descriptor = frame.get(zmq.SRCFD)
            except zmq.ZMQError:  # an unsubscription by libzmq itself, after the connection ended
                continue
            self._received[descriptor] += 1
            if message[:1] in (b"\0", b"\1"):
                yield descriptor, message[0] == 1, message[1:]

    def _stop_floods(self) -> None:
        """Disconnect subscribers that send too many messages: libzmq would queue them without a limit."""
        for descriptor, count in self._received.items():
            if count > FLOOD:
                self._disconnect(descriptor)
        if self._received and (
            max(self._received.values()) > FLOOD or time.monotonic() - self._counting_since > FLOOD_S
        ):
            self._received.clear()
            self._counting_since = time.monotonic()

    def _disconnect(self, descriptor: int) -> None:
        """Shut a connection down. Its descriptor may have been reused: only a socket with our address is cut."""
        with suppress(OSError):  # it may be closed already
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
        while int(self._monitor.get(zmq.EVENTS)) & zmq.POLLIN:  # faster than poll()
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
