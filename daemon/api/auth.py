"""Access control: the token, and protection against other sites' pages and DNS rebinding."""

import hmac
from http.cookies import CookieError, SimpleCookie
from urllib.parse import unquote

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from daemon.api.errors import refusal
from daemon.settings.schema import Http
from daemon.settings.value_types import is_loopback

COOKIE = "maskcast_token"
PAGES = ("/", "/docs")
PAGE_FILES = "/web/"  # prefix of the pages' static files


class Rules:
    """Access rules, from the address that the server listens on and whether a token is set."""

    def __init__(self, http: Http) -> None:
        self.token = http.token
        self.local = is_loopback(http.address[0])  # only clients on this machine can connect

    def needs_token(self, method: str, path: str) -> bool:
        """Whether the request needs the token. The pages' files never do: they hold no data, and ask for the token."""
        if not self.token:
            return False
        if method not in ("GET", "HEAD"):
            return True
        return not (self.local or path in PAGES or path.startswith(PAGE_FILES))

    def origin_problem(self, headers: Headers) -> str | None:
        """Why to refuse the request: Host is not this machine (DNS rebinding) or Origin is another site; else None."""
        host, origin = headers.get("host", "").lower(), headers.get("origin", "").lower()
        if self.local and host and not is_loopback(_hostname(host)):
            return f"Host {host[:80]} is not this machine; use http://127.0.0.1, or set http.listen and http.token"
        if (self.local or not self.token) and origin and origin.partition("://")[2] != host:
            return f"Origin {origin[:80]} is another site; open this daemon's own page"
        return None

    def has_token(self, method: str, headers: Headers) -> bool:
        """Whether the token is sent. Changes need the header: browsers add cookies to other sites' requests too."""
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self._is_token(given.strip())
        if method not in ("GET", "HEAD"):
            return False
        return any(self._is_token(value) for value in _cookie_values(headers.get("cookie", "")))

    def _is_token(self, given: str) -> bool:
        # Starlette decodes header bytes as Latin-1
        return hmac.compare_digest(given.encode("latin-1", "replace"), self.token.encode())


class Auth:
    """ASGI middleware that answers 400 or 401 to requests that the rules refuse."""

    def __init__(self, app: ASGIApp, rules: Rules) -> None:
        self._app = app
        self._rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application."""
        headers, method = Headers(scope=scope), scope["method"]
        problem = self._rules.origin_problem(headers)
        if problem:
            answer = refusal(400, problem)
        elif self._rules.needs_token(method, scope["path"]) and not self._rules.has_token(method, headers):
            answer = refusal(401, "needs the header Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"})
        else:
            await self._app(scope, receive, send)
            return
        await answer(scope, receive, send)


def _hostname(host: str) -> str:
    """``[::1]:80`` -> ``::1``"""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].rstrip(".")


def _cookie_values(header: str) -> list[str]:
    """Possible tokens in the Cookie header: the value as sent, and percent-decoded (for encodeURIComponent)."""
    try:
        cookies = SimpleCookie(header)
    except CookieError:
        return []
    if COOKIE not in cookies:
        return []
    value = cookies[COOKIE].value
    return [value, unquote(value).encode().decode("latin-1")]
