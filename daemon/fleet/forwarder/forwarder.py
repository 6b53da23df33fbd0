"""The forwarder: one address for the subscribers of many daemons."""

import logging
import threading
import time
from contextlib import suppress
from pathlib import Path

import zmq
from pydantic_core import from_json
from zmq.utils.monitor import recv_monitor_message

from daemon.cli.subscriber_keys import set_curve_keys
from daemon.fleet.forwarder.figures import Figures
from daemon.fleet.forwarder.late_joiners import LateJoiners
from daemon.fleet.forwarder.upstream import Upstream
from stages.fences import Fences
from stages.output.curve_auth import CurveAuth
from stages.output.publisher import bind, publishing_socket
from stages.output.subscribers import HANDSHAKE_FAILED, Subscribers

log = logging.getLogger(__name__)

SEND_HWM = 1000  # messages; a subscriber may read all streams of a fleet, where the publisher's 64 are a few ms
TICK_MS = 20  # longest time in which changes of subscriptions and daemons wait
BURST = 200  # messages that are passed on between two looks at them
CHANGES = 10  # subscriptions passed on in a tick: a daemon disconnects who sends it more than 10,000 in 10 s
FORGET_S = 3600.0  # silence after which a stream's fence and status are forgotten
AGAIN_S = 5.0  # libzmq does not connect again by itself once a daemon has refused a key
_RECONNECT_MS, _CONNECT_TIMEOUT_MS = 1000, 3000


class Forwarder:
    """Passes the messages of all daemons on to all subscribers, and the subscribers' topics on to all daemons.

    A message whose fence is lower than the highest seen for its stream is dropped. A new subscriber gets the last
    status of each stream that it asked for; all other subscribers to it get that message once more. A subscriber that
    does not keep up loses messages once ``send_hwm`` of them wait for it; the others do not wait. With ``curve_dir``
    only the clients in that folder may subscribe; ``key`` (its own) and ``server`` (the daemons') open the daemons.

    ``run`` and ``close`` belong to one thread, ``set_upstream`` may be called by any. Raises OutputError when it cannot
    listen on ``endpoint``, ConfigError when keys are not valid.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        send_hwm: int = SEND_HWM,
        curve_dir: Path | None = None,
        key: Path | None = None,
        server: Path | None = None,
    ) -> None:
        self.figures = Figures()
        self._upstream = Upstream()
        self._connected: set[str] = set()  # endpoints
        self._refused: dict[str, float] = {}  # endpoints that refused the key; monotonic time of the next attempt
        self._told: set[str] = set()  # endpoints of which the log says that they refuse
        self._passed: set[bytes] = set()  # topics that the daemons know of
        self._looked_at, self._forgot_at = 0.0, time.monotonic()
        self._fences, self._joiners = Fences(), LateJoiners()
        self._auth = None if curve_dir is None else CurveAuth(curve_dir)
        self._context = zmq.Context()
        self._xsub = self._context.socket(zmq.XSUB)
        self._monitor = self._xsub.get_monitor_socket(HANDSHAKE_FAILED)
        self._xpub = publishing_socket(self._context, send_hwm)
        self._subscribers = Subscribers(self._xpub)
        self._subscribers.on_subscribe = self._joiners.joined
        try:
            _set_up(self._xsub)
            set_curve_keys(self._xsub, key, server)
            if self._auth is not None:
                self._auth.secure(self._xpub)
            bind(self._xpub, endpoint)
        except Exception:
            self.close()
            raise
        self.endpoint = self._xpub.get_string(zmq.LAST_ENDPOINT)

    def set_upstream(self, upstream: Upstream) -> None:
        """Read from these daemons from now on, and from no others."""
        self._upstream = upstream

    def run(self, stop: threading.Event) -> None:
        """Forward until ``stop`` is set."""
        while not stop.is_set():
            if time.monotonic() - self._looked_at >= TICK_MS / 1000:
                self._look_at_changes()
            if self._xsub.poll(TICK_MS):
                self._forward()

    def close(self) -> None:
        """Close the sockets; queued messages are delivered for at most one second."""
        self._subscribers.close()
        self._xsub.disable_monitor()
        self._monitor.close(0)
        self._xsub.close(0)
        self._xpub.close()
        if self._auth is not None:
            self._auth.close()
        self._context.term()

    def _forward(self) -> None:
        for _ in range(BURST):
            try:
                parts = self._xsub.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                return
            if self._is_current(parts):
                self._xpub.get(zmq.EVENTS)  # libzmq sees at once which subscribers have room again, not after 1 ms
                self._xpub.send_multipart(parts, zmq.DONTWAIT)
                self.figures.messages.inc()
            else:
                self.figures.fenced.inc()

    def _is_current(self, parts: list[bytes]) -> bool:
        """Whether no newer publisher of the stream was heard. A message that cannot be read is for the subscriber to
        judge, as are those of later versions."""
        version, _, rest = parts[0].partition(b"/")
        stream, _, kind = rest.rpartition(b"/")
        if version != b"v1" or not stream or len(parts) < 2:
            return True
        try:
            header = from_json(parts[1], cache_strings="keys")
            fence = header.get("fence")
        except (ValueError, AttributeError):
            return True
        if not self._fences.admits(stream.decode("utf-8", "replace"), fence):
            return False
        if kind == b"status":
            self._joiners.keep(parts)
        return True

    def _look_at_changes(self) -> None:
        self._looked_at = now = time.monotonic()
        self._subscribers.update()
        self.figures.subscribers.set(len(self._subscribers.topics))
        self._see_refusals(now)
        self._connect(now)
        self._pass_subscriptions()
        for parts in self._joiners.due(now):
            self._xpub.send_multipart(parts, zmq.DONTWAIT)
        if now - self._forgot_at > FORGET_S / 60:
            self._forgot_at = now
            self._fences.forget(FORGET_S)
            self._joiners.forget(FORGET_S)

    def _connect(self, now: float) -> None:
        wanted = set(self._upstream.daemons)
        for endpoint in self._connected - wanted:
            self._disconnect(endpoint)
            self._refused.pop(endpoint, None)
            self._told.discard(endpoint)
        again = {endpoint for endpoint, moment in self._refused.items() if moment <= now}
        for endpoint in again:
            del self._refused[endpoint]
            self._disconnect(endpoint)
        for endpoint in wanted - self._connected:
            self._connected.add(endpoint)
            try:
                self._xsub.connect(endpoint)
            except zmq.ZMQError as error:
                log.error("cannot read from %s: %s", endpoint, error.strerror)
        self.figures.daemons.set(len(self._connected))

    def _disconnect(self, endpoint: str) -> None:
        self._connected.discard(endpoint)
        with suppress(zmq.ZMQError):  # libzmq has given it up already
            self._xsub.disconnect(endpoint)

    def _see_refusals(self, now: float) -> None:
        while self._monitor.poll(0):
            event = recv_monitor_message(self._monitor)
            endpoint = event["endpoint"].decode()
            if endpoint not in self._told:
                self._told.add(endpoint)
                log.warning(
                    "%s refuses the handshake: the forwarder's public key must stand in the daemon's folder, as "
                    "clients/NAME.key, and --server must be that daemon's server.key",
                    endpoint,
                )
            self.figures.refused.inc()
            if event["event"] == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                self._refused[endpoint] = now + AGAIN_S

    def _pass_subscriptions(self) -> None:
        """Tell the daemons which topics are wanted now. libzmq tells them again when a connection was lost."""
        wanted = {f"v1/{stream}/status".encode() for stream in self._upstream.streams}
        wanted.update(*self._subscribers.topics.values())
        changes = [(b"\1", topic) for topic in wanted - self._passed] + [
            (b"\0", topic) for topic in self._passed - wanted
        ]
        for sign, topic in changes[:CHANGES]:
            self._xsub.send(sign + topic)
            self._passed.add(topic) if sign == b"\1" else self._passed.discard(topic)


def _set_up(xsub: "zmq.Socket[bytes]") -> None:
    xsub.set(zmq.LINGER, 0)
    xsub.set(zmq.SNDHWM, 0)  # no limit: a subscription for which there is no room would be lost without a word
    xsub.set(zmq.RECONNECT_IVL_MAX, _RECONNECT_MS)
    xsub.set(zmq.CONNECT_TIMEOUT, _CONNECT_TIMEOUT_MS)  # the kernel would try a machine that is off for two minutes
    # a node whose network comes back is read from after some 10 s on a new connection; TCP alone waits minutes
    keepalive = ((zmq.TCP_KEEPALIVE_IDLE, 5), (zmq.TCP_KEEPALIVE_INTVL, 2), (zmq.TCP_KEEPALIVE_CNT, 3))
    for option, value in ((zmq.TCP_KEEPALIVE, 1), *keepalive):
        xsub.set(option, value)
