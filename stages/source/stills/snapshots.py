"""Snapshots: an HTTP address that gives one picture at each request, as a live source."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from http import HTTPStatus
from typing import TypeVar
from urllib.parse import unquote, urlsplit

import requests
import urllib3
from requests.auth import HTTPBasicAuth, HTTPDigestAuth

from stages.errors import SourceError, SourceStalled
from stages.pictures import decode_picture
from stages.source.container import InputUrl
from stages.types import Clock, Frame, Image

Answer = TypeVar("Answer")

RATE = 1.0  # requests per second where no rate is given
_REPEAT_SECONDS = 10.0  # a picture that does not change is delivered again after this time: the source is alive
_MOST_FAILURES = 3  # requests in a row after which the source counts as lost
_MOST_BYTES = 64 << 20  # of a picture; what sends more does not send single pictures
_TIME_BASE = Fraction(1, 1000)

# urllib3 logs addresses with their secrets; FFmpeg, which opened the address before, does not check certificates either
urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
_messages = logging.getLogger("urllib3")
_messages.addHandler(logging.NullHandler())
_messages.propagate = False


class Snapshots:
    """Requests a picture ``rate`` times per second. A Source (see stages.source.source).

    A picture that equals the one before is left out, but for one every ten seconds. A request that gives no picture
    counts in ``decode_errors`` and as a dropped frame; three in a row end the source with an error. A refused user or
    password does so at once, since some cameras lock out whoever repeats it.
    """

    live, decoder = True, "software"

    def __init__(self, url: InputUrl, rate: float = 0.0) -> None:
        """``rate`` in Hz; 0: one picture per second. Nothing is requested before ``frames``."""
        self.rate = rate or RATE
        self.frames_expected: int | None = None
        self.decode_errors = 0
        self._name, self._timeouts = url.name, url.timeouts
        parts = urlsplit(url.url)
        self._url = parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="").geturl()
        self._login = unquote(parts.username or ""), unquote(parts.password or "")
        self._session = requests.Session()  # keeps the connection open
        self._session.verify = False
        self._failures = 0  # in a row
        self._dropped = 0  # since the last delivered frame
        self._last, self._delivered_at = b"", float("-inf")  # the last delivered picture; monotonic seconds
        self._closed = threading.Event()

    @property
    def patience(self) -> float:
        """Seconds that it may be without a frame before it raises."""
        request = 2 * (self._timeouts.open + self._timeouts.read) + self._timeouts.decode
        return _MOST_FAILURES * (1 / self.rate + request) + _REPEAT_SECONDS

    def single_pictures(self) -> bool:
        """Whether an answer is one picture and no stream: by its media type or its length. Raises SourceError."""
        return self._request(self._is_single)

    def frames(self) -> Iterator[Frame]:
        """The pictures, each with the time at which it had arrived.

        Raises SourceError when the source is lost, SourceStalled when it did not answer in time.
        """
        index, latest = 0, float("-inf")
        started = due = time.monotonic()
        while not self._closed.wait(max(0.0, due - time.monotonic())):
            due = max(due + 1 / self.rate, time.monotonic())
            image = self._next()
            if image is None:
                continue
            dropped, self._dropped = self._dropped, 0
            index, latest = index + dropped, max(latest, time.time())
            pts = round((self._delivered_at - started) / _TIME_BASE)
            yield Frame(index, pts, _TIME_BASE, latest, Clock.ARRIVAL, image, dropped)
            index += 1

    def close(self) -> None:
        """End ``frames``: at once while it waits, else when the picture has come or the request has timed out."""
        self._closed.set()

    def _next(self) -> Image | None:
        """The next picture; None when it is the same as before or did not come. Raises SourceError after too many."""
        try:
            data, kind = self._request(lambda response: (self._body(response), _media_type(response)))
            image = self._decode(data, kind)
        except SourceError as error:
            if self._closed.is_set():
                return None
            self.decode_errors += 1
            self._dropped += 1
            self._failures += 1
            if self._failures >= _MOST_FAILURES or isinstance(error, _AccessDeniedError):
                raise type(error)(f"{self._name} broke off: {error}") from None
            return None
        self._failures = 0
        now = time.monotonic()
        if data == self._last and now - self._delivered_at < _REPEAT_SECONDS:
            return None
        self._last, self._delivered_at = data, now
        return image

    def _decode(self, data: bytes, kind: str) -> Image:
        if not data:
            raise SourceError("it sent an empty answer; check the address")
        try:
            return decode_picture(data)
        except SourceError as error:
            raise SourceError(f"it sent {kind}: {error}; check the address") from None

    def _request(self, read: Callable[[requests.Response], Answer]) -> Answer:
        """What ``read`` returns of the answer. Raises SourceError, whose text does not name the source."""
        failure: SourceError
        try:
            with self._get() as response:
                _check_status(response.status_code)
                return read(response)
        except requests.Timeout:
            failure = SourceStalled("no answer in time; check the address and that the camera is running")
        except requests.RequestException:
            failure = SourceError("the connection failed; check host and port and that the camera is running")
        raise failure  # outside of "except": the library's error contains the address, it must not be its context

    def _is_single(self, response: requests.Response) -> bool:
        single = _media_type(response).startswith("image/") or "Content-Length" in response.headers
        if single:
            self._body(response)  # else the connection could not be used again
        return single

    def _get(self) -> requests.Response:
        """Send the request; once more with user and password, in the way that the server asks for."""
        response = self._send()
        if response.status_code == HTTPStatus.UNAUTHORIZED and self._session.auth is None and any(self._login):
            response.close()
            user, password = self._login
            if "digest" in response.headers.get("WWW-Authenticate", "").lower():
                self._session.auth = HTTPDigestAuth(user, password)
            else:
                self._session.auth = HTTPBasicAuth(user.encode(), password.encode())
            response = self._send()
        return response

    def _send(self) -> requests.Response:
        timeout = (self._timeouts.open, self._timeouts.read)
        try:
            return self._session.get(self._url, timeout=timeout, stream=True)
        except requests.Timeout:
            raise
        except requests.ConnectionError:  # the server has closed the connection that was kept open
            return self._session.get(self._url, timeout=timeout, stream=True)

    def _body(self, response: requests.Response) -> bytes:
        started, data = time.monotonic(), b""
        if _media_type(response).startswith("multipart/"):
            raise SourceError("it sends a stream now, no single pictures")
        # some cameras announce a length that is too large: decoding shows whether the picture is whole
        response.raw.enforce_content_length = False
        for part in response.iter_content(1 << 16):
            data += part
            if len(data) > _MOST_BYTES or time.monotonic() - started > self._timeouts.decode:
                raise SourceStalled("a picture did not end in time; check what the camera sends")
        return data


class _AccessDeniedError(SourceError):
    """The user or the password is wrong."""


def _check_status(status: int) -> None:
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        raise _AccessDeniedError("access denied; check user and password")
    if status == HTTPStatus.NOT_FOUND:
        raise SourceError("the server does not have it; check the path")
    if status != HTTPStatus.OK:
        raise SourceError(f"it answered with status {status}; check that the camera is not busy")


def _media_type(response: requests.Response) -> str:
    """For example "image/jpeg"; what is not well-formed may be anything, and is not shown."""
    text = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    kind, _, rest = text.partition("/")
    return (
        text if kind.isalpha() and rest.replace("-", "").replace("+", "").replace(".", "").isalnum() else "other data"
    )
