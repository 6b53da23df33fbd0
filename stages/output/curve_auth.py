"""CURVE encryption and authentication of subscribers on the publishing socket."""

from pathlib import Path

import zmq
from zmq.auth.thread import ThreadAuthenticator

from stages.output.curve_keys import allowed_clients, server_secret

_DOMAIN = "maskcast"


class CurveAuth:
    """A CURVE authenticator: decides at each handshake whether the client's key is allowed, on its own thread.

    It reads the folder at each handshake: a new client needs no restart, and a removed client is refused at its next
    handshake; open connections stay open. Raises ConfigError when the folder's keys are missing, broken or accessible
    to other users.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._secret = server_secret(folder)
        self._authenticator: ThreadAuthenticator | None = None

    def secure(self, xpub: zmq.Socket[bytes]) -> None:
        """Make ``xpub``, before it is bound, a CURVE server that uses this authenticator."""
        self._authenticator = ThreadAuthenticator(xpub.context)
        self._authenticator.configure_curve_callback(_DOMAIN, self)
        self._authenticator.start()
        xpub.set(zmq.CURVE_SERVER, 1)
        xpub.set(zmq.CURVE_SECRETKEY, self._secret)
        xpub.set_string(zmq.ZAP_DOMAIN, _DOMAIN)
        xpub.set(zmq.ZAP_ENFORCE_DOMAIN, 1)  # else all clients are accepted while no authenticator runs, as at close

    def callback(self, domain: str, key: bytes) -> bool:  # noqa: ARG002 - the authenticator names it so
        """Whether the client with this public key, Z85, is allowed. Must not raise: that ends the authenticator."""
        try:
            return key in allowed_clients(self._folder)[0]
        except Exception:  # refuse all while the folder cannot be read
            return False

    def close(self) -> None:
        """Stop the authenticator. Call it after closing the socket and before terminating its context."""
        if self._authenticator is not None:
            self._authenticator.stop()
            self._authenticator = None
