"""CURVE on the publishing socket: who subscribes shows a key that stands in the folder, all else is encrypted away."""

from pathlib import Path

import zmq
from zmq.auth.thread import ThreadAuthenticator

from stages.output.curve_keys import allowed_clients, server_secret

_DOMAIN = "maskcast"


class CurveAuth:
    """Answers libzmq's question, at each handshake, whether a key may come in; on a thread of its own.

    The folder is read at each of them, so a new client needs no restart and a removed one does not come in again;
    connections that are open stay. Raises ConfigError when the folder's keys are missing, broken or open to others.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._secret = server_secret(folder)
        self._authenticator: ThreadAuthenticator | None = None

    def guard(self, xpub: zmq.Socket[bytes]) -> None:
        """Make ``xpub``, which is not bound yet, a CURVE server of this gate."""
        self._authenticator = ThreadAuthenticator(xpub.context)
        self._authenticator.configure_curve_callback(_DOMAIN, self)
        self._authenticator.start()
        xpub.set(zmq.CURVE_SERVER, 1)
        xpub.set(zmq.CURVE_SECRETKEY, self._secret)
        xpub.set_string(zmq.ZAP_DOMAIN, _DOMAIN)
        xpub.set(zmq.ZAP_ENFORCE_DOMAIN, 1)  # else everybody comes in while nobody answers, as when it closes

    def callback(self, domain: str, key: bytes) -> bool:  # noqa: ARG002 - the authenticator names it so
        """Whether the owner of the public key, Z85, may come in. Must not raise: that ends the authenticator."""
        try:
            return key in allowed_clients(self._folder)[0]
        except Exception:  # nobody comes in while the folder cannot be read
            return False

    def close(self) -> None:
        """Stop answering. After the socket is closed, before its context ends."""
        if self._authenticator is not None:
            self._authenticator.stop()
            self._authenticator = None
