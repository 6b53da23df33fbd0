"""Addresses of sources: which can be opened at all, which are live, and what of them may be shown."""

import re
from collections.abc import Iterator
from urllib.parse import quote

from stages.errors import ConfigError
from stages.source.local.spelling import bare_address

RTSP = ("rtsp", "rtsps")
HTTP = ("http", "https")
LIVE = (*RTSP, "rtmp", "rtmps", "srt", "udp", "rtp", "tcp")
LOCAL = ("file", "v4l2", "testsrc")
SCHEMES = ("file", *LIVE, *HTTP, "v4l2", "testsrc")
_NEED_PORT = ("srt", "udp", "rtp", "tcp")  # these have no usual one, and may listen without a host
_HOST_PORT = re.compile(r"([\w.-]*|\[[\da-f:.]+(?:%25?[\w.-]+)?\])(?::(\d+))?", re.IGNORECASE)
_SAFE = "%!$&'()*+,;=~"  # in a user or a password, beside letters, digits and "_.-"
_ENCODE = "write # as %23, / as %2F, ? as %3F, @ as %40 and % as %25 in a password"


def normalized(url: str) -> str:
    """``url`` as FFmpeg opens it: special characters in user and password are percent-encoded; paths stay as they are.

    A password may hold "#", "/", "?", "@" and "%" as they are wherever only one reading of the address is possible.
    Raises ConfigError for an address that can never be opened.
    """
    if not url:
        raise ConfigError("the source is empty: give a file's path or a URL")
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.lower() in LOCAL:
        return url
    if scheme.lower() not in SCHEMES:
        raise ConfigError(f"unknown scheme in {redact(url)}: use a file's path or one of {'://, '.join(SCHEMES)}://")
    readings = list(_readings(scheme.lower(), rest))
    if len(readings) != 1:
        raise ConfigError(f"{redact(url)} is not a valid address: {_needed(scheme.lower())}; {_ENCODE}")
    [(user, place)] = readings
    if scheme.lower() in (*RTSP, *HTTP):  # FFmpeg decodes theirs
        user = _encoded(user)
    return f"{scheme}://{user}{place}"


def _readings(scheme: str, rest: str) -> Iterator[tuple[str, str]]:
    """The possible splits of what follows "://" into the user with its "@", and the rest from the host on.

    The standard's reading comes alone where it makes sense (RFC 3986, 3.2).
    """
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    standard = authority.rpartition("@")[2]
    if _is_place(scheme, standard):
        start = len(authority) - len(standard)
        yield rest[:start], rest[start:]
        return
    for at in re.finditer("@", rest):
        place = re.split(r"[/?#]", rest[at.end() :], maxsplit=1)[0]
        if _is_place(scheme, place):
            yield rest[: at.end()], rest[at.end() :]


def _is_place(scheme: str, text: str) -> bool:
    """Whether ``text`` is a host and a port with which the scheme can be opened."""
    match = _HOST_PORT.fullmatch(text)
    if match is None:
        return False
    host, port = match.groups()
    if port is not None and not 0 < int(port) < 65536:
        return False
    return port is not None if scheme in _NEED_PORT else bool(host)


def _needed(scheme: str) -> str:
    if scheme in _NEED_PORT:
        return f"it needs {scheme}://HOST:PORT, the port a number up to 65535"
    return f"it needs {scheme}://HOST/PATH or {scheme}://HOST:PORT/PATH, the port a number up to 65535"


def _encoded(user: str) -> str:
    """User and password, with the "@" that ends them, percent-encoded; what is encoded already stays as it is."""
    if not user:
        return user
    name, colon, password = user.removesuffix("@").partition(":")
    name, password = (quote(re.sub(r"%(?![\da-fA-F]{2})", "%25", text), safe=_SAFE) for text in (name, password))
    return f"{name}{colon}{password}@"


def is_rtsp(url: str) -> bool:
    """Whether ``url`` is a camera's or server's ``rtsp(s)://``."""
    scheme, separator, _ = url.partition("://")
    return bool(separator) and scheme.lower() in RTSP


def is_live(url: str) -> bool:
    """Whether the URL alone shows that the source is live; False for ``http(s)://``, which must be opened to know."""
    scheme, separator, rest = url.partition("://")
    if separator and scheme.lower() == "testsrc":
        return "live=1" in rest.partition("?")[2].split("&")
    return bool(separator) and scheme.lower() in (*LIVE, "v4l2")


def redact(url: str) -> str:
    """A network URL without the parts that may be secret: scheme, host and port remain; a path stays as it is.

    Ambiguous parts are hidden, because a password may contain any of "/?#@".
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return _redact_path(url)
    if scheme.lower() in LOCAL:
        return url
    host, hidden = re.match(r"([^/?#]*)(.*)", rest, re.DOTALL).groups()  # type: ignore[union-attr]
    host = host.rpartition("@")[2]
    if "@" in hidden or not _HOST_PORT.fullmatch(host):
        return f"{scheme}://***"
    return f"{scheme}://{host}{'/***' if hidden else ''}"


def _redact_path(path: str) -> str:
    """``path`` without secrets: a mistyped URL, as in ``rtsp:/host`` or ``user:secret@host/x``, is taken for a path.

    Bytes that are not UTF-8 are shown as \\xNN.
    """
    network = re.match(rf"({'|'.join((*LIVE, *HTTP))}):/?", path, re.IGNORECASE)
    if network:
        return f"{network[0]}***"
    path = path.encode(errors="surrogateescape").decode(errors="backslashreplace")
    before, at, after = path.rpartition("@")
    if at and re.search(r"[a-z][a-z0-9+.-]*:/", before, re.IGNORECASE):
        return f"***@{after}"
    if re.match(r"[^/:@]+:[^/@]*@", path):  # user and password
        return f"***@{after.partition('/')[0]}/***"
    place = bare_address(path)
    return f"{place}/***" if place else path
