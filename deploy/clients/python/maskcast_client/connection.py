"""The ZeroMQ socket of one subscription."""

import logging
import math
import os
import re
import time
from collections.abc import Sequence

import zmq
from zmq.utils.monitor import recv_monitor_message

from maskcast_client import wire
from maskcast_client.errors import KeysError, MaskcastError
from maskcast_client.keys import Keys
from maskcast_client.sequence import Fences

log = logging.getLogger("maskcast_client")

_RECEIVE_HWM = 64  # messages; a longer queue would only add delay
_HINT_AFTER = 3.0  # seconds without any message
_HANDSHAKE_FAILED = (
    zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)


class Connection:
    """Subscribes to ``topics`` at once, and connects again by itself when the daemon was away.

    One thread at a time may use it, and only the process that made it. Raises MaskcastError for a wrong endpoint.
    """

    def __init__(self, endpoint: str, topics: Sequence[str], keys: Keys | None) -> None:
        self._endpoint, self._keys, self._process = endpoint, keys, os.getpid()
        self.refusal = ""  # why the daemon does not let us in, as far as one can tell
        self._later: int | None = None  # a later version that was heard
        self._hint_at = time.monotonic() + _HINT_AFTER  # infinite once a message has come
        self._fences = Fences()
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.set(zmq.LINGER, 0)
        self._socket.set(zmq.RCVHWM, _RECEIVE_HWM)
        # a daemon whose machine has gone sends no goodbye
        for option, value in ((zmq.TCP_KEEPALIVE, 1), (zmq.TCP_KEEPALIVE_IDLE, 30), (zmq.TCP_KEEPALIVE_INTVL, 10)):
            self._socket.set(option, value)
        if keys is not None:
            self._socket.curve_serverkey = keys.server.encode()
            self._socket.curve_publickey = keys.public.encode()
            self._socket.curve_secretkey = keys.secret.encode()
        self._monitor = self._socket.get_monitor_socket(_HANDSHAKE_FAILED)
        for topic in (*wire.LATER, *topics):
            self._socket.subscribe(topic)
        try:
            self._socket.connect(endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise MaskcastError(
                f"cannot subscribe to {endpoint}: {(error.strerror or str(error)).lower()}; "
                "write it as in tcp://gpu-host:5555"
            ) from None

    def receive(self, timeout: float | None) -> wire.Message | None:
        """The next message; None after ``timeout`` seconds. A hint is logged when nothing comes at all.

        A message of a daemon that the stream was taken from since is left out.

        Raises MessageError, KeysError, and VersionError when only messages of a later version come.
        """
        if os.getpid() != self._process:
            raise MaskcastError("a subscription cannot be used in a forked process: call subscribe there")
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        while True:
            if not self._wait(min(deadline, self._hint_at)):
                self._silent()
                if time.monotonic() >= deadline:
                    return None
            elif self._monitor.poll(0):
                self._handshake_failed(recv_monitor_message(self._monitor)["event"])
            elif self._socket.poll(0):
                parts = self._socket.recv_multipart()
                later = re.match(rb"v(\d+)/", parts[0])
                if later is None or int(later[1]) == wire.VERSION:
                    self._hint_at = math.inf
                    message = wire.unpack(parts)
                    if self._fences.admits(message.header):
                        return message
                else:
                    self._heard_later(int(later[1]))

    def close(self) -> None:
        """Close the socket; what is queued is lost."""
        if os.getpid() == self._process:
            self._socket.disable_monitor()
            self._monitor.close(0)
            self._socket.close(0)
            self._context.term()

    def _wait(self, until: float) -> bool:
        """Whether there is a message, or news of the handshake, before the monotonic time ``until``."""
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._monitor, zmq.POLLIN)
        return bool(poller.poll(None if until == math.inf else max(0, math.ceil((until - time.monotonic()) * 1000))))

    def _silent(self) -> None:
        """Say what may be wrong when nothing has come until now."""
        if self._hint_at < math.inf and self._later is not None:
            raise wire.too_new(self._later)
        if time.monotonic() >= self._hint_at:
            self._hint_at = math.inf
            if not self.refusal:
                log.warning("nothing from %s yet; does maskcast run publish there?", self._endpoint)

    def _heard_later(self, version: int) -> None:
        """Hear no more of later versions: the daemon may publish this version beside them."""
        if self._later is None:
            self._later = version
            for topic in wire.LATER:
                self._socket.unsubscribe(topic)

    def _handshake_failed(self, event: int) -> None:
        if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:  # libzmq does not try again after that
            raise KeysError(
                f"{self._endpoint} refuses this key: its public half must stand in the daemon's folder of keys, as "
                "clients/NAME.key"
            )
        if not self.refusal:
            hint = (
                "does it want keys? then give keys=Keys.read('NAME.key_secret', 'server.key')"
                if self._keys is None
                else "is the server key that of this daemon, and has it keys at all?"
            )
            self.refusal = f"{self._endpoint} does not let us in: {hint}"
            log.warning("%s", self.refusal)
