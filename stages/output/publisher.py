"""ZeroMQ XPUB publisher of the mask stream: counts its subscribers and detects the messages that they lose."""

import errno
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import zmq

from stages.errors import OutputError
from stages.output.curve_auth import CurveAuth
from stages.output.subscribers import Subscribers

LINGER_MS = 1000  # time that close() spends delivering queued messages
RETRY_S = 0.002  # between two attempts to send to a full subscriber
POLL_S = 0.02  # between two checks for new subscribers
MAX_MESSAGE = 1024  # bytes of a message from a subscriber; the longest topic and a handshake are far shorter


class Publisher:
    """Sends multipart messages to every subscriber of their topic. Thread-safe.

    Each subscriber has a queue of ``send_hwm`` messages. When it is full, ``when_full="drop"`` drops messages for that
    subscriber only; ``"wait"`` blocks until there is room. With ``curve_dir``, a folder of keys, only the clients in it
    may subscribe, and the connection is encrypted. Raises OutputError when it cannot listen on ``endpoint``
    (``tcp://HOST:PORT``, port 0 for a free one, or ``ipc://PATH``), ConfigError when the keys are not valid.
    """

    def __init__(
        self,
        endpoint: str,
        send_hwm: int = 64,
        when_full: Literal["drop", "wait"] = "drop",
        curve_dir: Path | None = None,
    ) -> None:
        self._auth = None if curve_dir is None else CurveAuth(curve_dir)
        self._when_full = when_full
        self._lock = threading.Lock()
        self._closed = False
        self._context = zmq.Context()
        self._socket = publishing_socket(self._context, send_hwm)
        self._socket.set(zmq.XPUB_NODROP, 1)
        self._socket.copy_threshold = 0  # so that also a short last part has a MessageTracker
        self._subscribers = Subscribers(self._socket)
        self._drops = _DropDetector(send_hwm)
        try:
            if self._auth is not None:
                self._auth.secure(self._socket)
            bind(self._socket, endpoint)
        except OutputError:
            self.close()
            raise
        self.endpoint = self._socket.get_string(zmq.LAST_ENDPOINT)

    @property
    def subscribers(self) -> int:
        """Number of connections with at least one subscription."""
        with self._lock:
            if not self._closed:
                self._subscribers.update()
            return len(self._subscribers.topics)

    @property
    def refused(self) -> int:
        """Number of failed handshakes so far: no key, a wrong key, not ZeroMQ. A client may retry and count again."""
        with self._lock:
            if not self._closed:
                self._subscribers.update()
            return self._subscribers.refused

    def wants(self, topic: bytes) -> bool:
        """Whether ``topic`` has a subscriber."""
        with self._lock:
            if not self._closed:
                self._subscribers.update()
            return self._subscribers.wants(topic)

    def wait_for(self, count: int, stop: threading.Event) -> bool:
        """Block until there are ``count`` subscribers; returns False when ``stop`` is set before that."""
        while self.subscribers < count:
            if stop.wait(POLL_S):
                return False
        return True

    def send(
        self,
        parts: Sequence[bytes],
        stop: threading.Event | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> bool:
        """Send one message whose first part is its topic; returns False when a subscriber lost it, or when closed.

        ``check`` is called right before each attempt to send; what it raises is raised here, and nothing is sent.
        With ``when_full="wait"`` this blocks while a subscriber is full, until ``stop`` is set; then it drops.
        libzmq reports the first message that a full subscriber loses, but not the next ones. Those are inferred: when
        the subscriber is about to recover, False may be returned for messages that reach it. The gaps in ``seq`` that
        the subscriber sees are the exact count.
        """
        while True:
            with self._lock:
                if self._closed:
                    return False
                missed = self._drops.is_dropped(parts[0])  # before the update, after which libzmq may send again
                self._subscribers.update()
                check()
                if self._send_to_all(parts):
                    return not missed
                if self._when_full == "drop" or (stop is not None and stop.is_set()):
                    self._send_to_some(parts)
                    return False
            time.sleep(RETRY_S)

    def close(self) -> None:
        """Close the socket; queued messages are delivered for at most one second."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._subscribers.close()
            self._socket.close()
        if self._auth is not None:
            self._auth.close()
        self._context.term()

    def _send_to_all(self, parts: Sequence[bytes]) -> bool:
        """Send to all subscribers of the topic; returns False, with nothing sent, when one of them is full."""
        try:
            for part in parts[:-1]:
                self._socket.send(part, zmq.DONTWAIT | zmq.SNDMORE)
            tracker = self._socket.send(parts[-1], zmq.DONTWAIT, copy=False, track=True)
        except zmq.Again:
            return False
        self._drops.record_sent(parts[0], tracker)
        return True

    def _send_to_some(self, parts: Sequence[bytes]) -> None:
        """Send to all subscribers of the topic that are not full."""
        self._drops.record_full(self._subscribers.prefixes(parts[0]))
        self._socket.set(zmq.XPUB_NODROP, 0)
        try:
            self._socket.send_multipart(parts, zmq.DONTWAIT)
        finally:
            self._socket.set(zmq.XPUB_NODROP, 1)


class _DropDetector:
    """Infers which messages a full subscriber loses.

    libzmq silently skips a full subscriber until it has read half of its queue. libzmq frees a message once it has been
    sent to every subscriber, so the number of messages that are not freed shows when this ends.
    """

    def __init__(self, send_hwm: int) -> None:
        self._send_hwm = send_hwm
        self._recent: dict[bytes, deque[zmq.MessageTracker]] = {}  # the last ``send_hwm`` messages of each topic
        self._unsent: set[zmq.MessageTracker] = set()  # that a full subscriber may have in its queue
        self._prefixes: tuple[bytes, ...] = ()  # subscriptions of the full subscribers

    def record_sent(self, topic: bytes, tracker: zmq.MessageTracker) -> None:
        """Record a message that all subscribers with room were sent."""
        if topic not in self._recent:
            self._remove_idle_topics()
            self._recent[topic] = deque(maxlen=self._send_hwm)
        self._recent[topic].append(tracker)

    def _remove_idle_topics(self) -> None:
        """Remove topics whose messages are all freed: they may belong to streams that no longer exist."""
        self._recent = {
            topic: trackers for topic, trackers in self._recent.items() if not all(tracker.done for tracker in trackers)
        }

    def record_full(self, prefixes: set[bytes]) -> None:
        """Record that a subscriber to one of ``prefixes`` is full."""
        self._prefixes = (*self._prefixes, *prefixes.difference(self._prefixes))
        for topic, trackers in self._recent.items():
            if topic.startswith(self._prefixes):
                self._unsent.update(trackers)

    def is_dropped(self, topic: bytes) -> bool:
        """Whether libzmq would skip a full subscriber for a message on ``topic``."""
        self._unsent = {tracker for tracker in self._unsent if not tracker.done}
        if len(self._unsent) <= self._send_hwm // 2:
            self._unsent, self._prefixes = set(), ()
        return topic.startswith(self._prefixes)


def publishing_socket(context: zmq.Context[zmq.Socket[bytes]], send_hwm: int) -> zmq.Socket[bytes]:
    """An XPUB socket, not yet bound, with a queue of ``send_hwm`` messages for each of its subscribers."""
    xpub = context.socket(zmq.XPUB)
    xpub.set(zmq.SNDHWM, send_hwm)
    xpub.set(zmq.LINGER, LINGER_MS)
    xpub.set(zmq.MAXMSGSIZE, MAX_MESSAGE)
    xpub.set(zmq.XPUB_VERBOSER, 1)
    # detects hosts that have gone; not ZMQ_HEARTBEAT, which also disconnects subscribers that are only slow
    for option, value in ((zmq.TCP_KEEPALIVE, 1), (zmq.TCP_KEEPALIVE_IDLE, 30), (zmq.TCP_KEEPALIVE_INTVL, 10)):
        xpub.set(option, value)
    return xpub


def bind(xpub: zmq.Socket[bytes], endpoint: str) -> None:
    """Listen on ``endpoint``. Raises OutputError when that is not possible."""
    path = endpoint.removeprefix("ipc://")
    try:
        # without this check, libzmq silently takes over a path on which another program listens
        if path != endpoint and Path(path).is_socket():
            with socket.socket(socket.AF_UNIX) as probe:
                if probe.connect_ex(path) == 0:
                    raise zmq.ZMQError(errno.EADDRINUSE)
        xpub.bind(endpoint)
    except zmq.ZMQError as error:
        if error.errno == errno.EADDRINUSE:
            advice = "the address is in use: stop the program that has it or choose another"
        else:
            advice = f"{zmq.strerror(error.errno or 0).lower()}: use tcp://HOST:PORT or ipc://PATH"
        raise OutputError(f"cannot publish on {endpoint}, {advice}") from None
