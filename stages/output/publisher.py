"""The publishing end of the mask stream: one ZeroMQ XPUB socket that knows who listens and who loses what."""

import errno
import socket
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import zmq

from stages.errors import OutputError
from stages.output.curve_auth import CurveAuth
from stages.output.subscribers import Subscribers

LINGER_MS = 1000  # how long close() goes on delivering
RETRY_S = 0.002  # between two attempts to send to a full subscriber
POLL_S = 0.02  # between two looks at who has subscribed
MAX_MESSAGE = 1024  # bytes of what a subscriber may send; the longest topic and a handshake are far shorter


class Publisher:
    """Sends multipart messages to every subscriber of their topic. Safe to share between threads.

    ``send_hwm`` messages may wait for each subscriber. When that is full, ``when_full="drop"`` lets that subscriber
    alone lose messages, ``"wait"`` blocks until it has room. With ``curve_dir``, a folder of keys, only the clients
    in it get in, and all is encrypted. Raises OutputError when it cannot listen on ``endpoint`` (``tcp://HOST:PORT``,
    port 0 for a free one, or ``ipc://PATH``), ConfigError when the keys are not as they should be.
    """

    def __init__(
        self,
        endpoint: str,
        send_hwm: int = 64,
        when_full: Literal["drop", "wait"] = "drop",
        curve_dir: Path | None = None,
    ) -> None:
        self._gate = None if curve_dir is None else CurveAuth(curve_dir)
        self._when_full = when_full
        self._lock = threading.Lock()
        self._closed = False
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.XPUB)
        self._socket.set(zmq.SNDHWM, send_hwm)
        self._socket.set(zmq.LINGER, LINGER_MS)
        self._socket.set(zmq.MAXMSGSIZE, MAX_MESSAGE)
        self._socket.set(zmq.XPUB_VERBOSER, 1)
        self._socket.set(zmq.XPUB_NODROP, 1)
        # Finds hosts that vanished. Not ZMQ_HEARTBEAT: that also cuts off subscribers that are merely slow.
        for option, value in ((zmq.TCP_KEEPALIVE, 1), (zmq.TCP_KEEPALIVE_IDLE, 30), (zmq.TCP_KEEPALIVE_INTVL, 10)):
            self._socket.set(option, value)
        self._socket.copy_threshold = 0  # so that even a short last part can be tracked
        self._audience = Subscribers(self._socket)
        self._laggards = _Laggards(send_hwm)
        try:
            if self._gate is not None:
                self._gate.guard(self._socket)
            _bind(self._socket, endpoint)
        except OutputError:
            self.close()
            raise
        self.endpoint = self._socket.get_string(zmq.LAST_ENDPOINT)

    @property
    def subscribers(self) -> int:
        """Connections that have subscribed to something."""
        with self._lock:
            if not self._closed:
                self._audience.update()
            return len(self._audience.topics)

    @property
    def refused(self) -> int:
        """Handshakes that failed so far: no key, a wrong one, no ZeroMQ. Who is refused may try again and again."""
        with self._lock:
            if not self._closed:
                self._audience.update()
            return self._audience.refused

    def wants(self, topic: bytes) -> bool:
        """Whether some subscriber has asked for ``topic``."""
        with self._lock:
            if not self._closed:
                self._audience.update()
            return self._audience.wants(topic)

    def wait_for(self, count: int, stop: threading.Event) -> bool:
        """Block until ``count`` subscribers are there; False when ``stop`` was set before."""
        while self.subscribers < count:
            if stop.wait(POLL_S):
                return False
        return True

    def send(self, parts: Sequence[bytes], stop: threading.Event | None = None) -> bool:
        """Send one message, its topic first; False when a subscriber lost it, or when closed.

        With ``when_full="wait"`` this blocks while a subscriber is full, until ``stop`` is set; then it drops.
        libzmq reports the first message that a full subscriber loses, but not the next ones: those are inferred, and
        close to its recovery False may be said of messages that reach it. Its ``seq`` holes are the exact count.
        """
        while True:
            with self._lock:
                if self._closed:
                    return False
                missed = self._laggards.miss(parts[0])  # before the update, which may end it
                self._audience.update()
                if self._send_to_all(parts):
                    return not missed
                if self._when_full == "drop" or (stop is not None and stop.is_set()):
                    self._send_to_some(parts)
                    return False
            time.sleep(RETRY_S)

    def close(self) -> None:
        """Stop listening; what waits for subscribers is delivered for at most one second."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._audience.close()
            self._socket.close()
        if self._gate is not None:
            self._gate.close()
        self._context.term()

    def _send_to_all(self, parts: Sequence[bytes]) -> bool:
        """False, and nothing sent, when a subscriber of the topic is full."""
        try:
            for part in parts[:-1]:
                self._socket.send(part, zmq.DONTWAIT | zmq.SNDMORE)
            tracker = self._socket.send(parts[-1], zmq.DONTWAIT, copy=False, track=True)
        except zmq.Again:
            return False
        self._laggards.sent(parts[0], tracker)
        return True

    def _send_to_some(self, parts: Sequence[bytes]) -> None:
        self._laggards.overflowed(self._audience.prefixes(parts[0]))
        self._socket.set(zmq.XPUB_NODROP, 0)
        try:
            self._socket.send_multipart(parts, zmq.DONTWAIT)
        finally:
            self._socket.set(zmq.XPUB_NODROP, 1)


class _Laggards:
    """Which topics a full subscriber misses.

    libzmq passes over a full subscriber, without a word, until it has read half of what waits for it. It frees a
    message once that has left for every subscriber, so what is not yet freed tells when that is over.
    """

    def __init__(self, send_hwm: int) -> None:
        self._send_hwm = send_hwm
        self._recent: dict[bytes, deque[zmq.MessageTracker]] = {}  # by topic, a full queue of each
        self._waiting: set[zmq.MessageTracker] = set()
        self._prefixes: tuple[bytes, ...] = ()

    def sent(self, topic: bytes, tracker: zmq.MessageTracker) -> None:
        """A message was sent to all that have room."""
        if topic not in self._recent:
            self._forget_the_freed()
            self._recent[topic] = deque(maxlen=self._send_hwm)
        self._recent[topic].append(tracker)

    def _forget_the_freed(self) -> None:
        """Streams come and go: where nothing waits any more, their topics may be those of streams that have gone."""
        self._recent = {
            topic: trackers for topic, trackers in self._recent.items() if not all(tracker.done for tracker in trackers)
        }

    def overflowed(self, prefixes: set[bytes]) -> None:
        """A subscriber among those who subscribed to ``prefixes`` is full."""
        self._prefixes = (*self._prefixes, *prefixes.difference(self._prefixes))
        for topic, trackers in self._recent.items():
            if topic.startswith(self._prefixes):
                self._waiting.update(trackers)

    def miss(self, topic: bytes) -> bool:
        """Whether a message on ``topic`` passes over a full subscriber."""
        self._waiting = {tracker for tracker in self._waiting if not tracker.done}
        if len(self._waiting) <= self._send_hwm // 2:
            self._waiting, self._prefixes = set(), ()
        return topic.startswith(self._prefixes)


def _bind(xpub: zmq.Socket[bytes], endpoint: str) -> None:
    path = endpoint.removeprefix("ipc://")
    try:
        # libzmq takes a path from the program that listens on it, without an error.
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
