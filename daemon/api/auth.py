"""Who may ask for what."""

import hmac
from http.cookies import CookieError, SimpleCookie
from urllib.parse import unquote

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from daemon.api.errors import refusal
from daemon.settings.schema import Http
from daemon.settings.value_types import is_loopback

COOKIE = "maskcast_token"
PAGE = "/web/"


class Rules:
    """The rules that follow from where the server listens and whether there is a token."""

    def __init__(self, http: Http) -> None:
        self.token = http.token
        self.local = is_loopback(http.address[0])  # only this machine can connect

    def needs_token(self, method: str, path: str) -> bool:
        """The page itself is the same everywhere and asks for the token; what it shows needs it."""
        if not self.token:
            return False
        if method not in ("GET", "HEAD"):
            return True
        return not (self.local or path == "/" or path.startswith(PAGE))

    def foreign(self, headers: Headers) -> str | None:
        """Why the request comes from elsewhere: through a name that somebody pointed here, or another site's page."""
        host, origin = headers.get("host", "").lower(), headers.get("origin", "").lower()
        if self.local and host and not is_loopback(_name(host)):
            return f"Host {host[:80]} is not this machine; use http://127.0.0.1, or set http.listen and http.token"
        if (self.local or not self.token) and origin and origin.partition("://")[2] != host:
            return f"Origin {origin[:80]} is another site; open this daemon's own page"
        return None

    def has_token(self, method: str, headers: Headers) -> bool:
        """Changes take the header alone: a browser sends a cookie along whoever asks."""
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return self._is_token(given.strip())
        if method not in ("GET", "HEAD"):
            return False
        return any(self._is_token(value) for value in _cookie(headers.get("cookie", "")))

    def _is_token(self, given: str) -> bool:
        # headers are bytes, which Starlette reads as Latin-1
        return hmac.compare_digest(given.encode("latin-1", "replace"), self.token.encode())


class Auth:
    """Lets through what the rules allow, and answers the rest."""

    def __init__(self, app: ASGIApp, rules: Rules) -> None:
        self._app = app
        self._rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application."""
        headers, method = Headers(scope=scope), scope["method"]
        foreign = self._rules.foreign(headers)
        if foreign:
            answer = refusal(400, foreign)
        elif self._rules.needs_token(method, scope["path"]) and not self._rules.has_token(method, headers):
            answer = refusal(401, "needs the header Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"})
        else:
            await self._app(scope, receive, send)
            return
        await answer(scope, receive, send)


def _name(host: str) -> str:
    """``[::1]:80`` -> ``::1``"""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].rstrip(".")


def _cookie(header: str) -> list[str]:
    """The values that the cookie may mean: as sent, and as a page's encodeURIComponent made it."""
    try:
        cookies = SimpleCookie(header)
    except CookieError:
        return []
    if COOKIE not in cookies:
        return []
    value = cookies[COOKIE].value
    return [value, unquote(value).encode().decode("latin-1")]
