"""Types of the values of settings, with validators whose messages tell what is allowed."""

import ipaddress
import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from stages.detection.base import MOST_TILES
from stages.detection.base import Tiles as AnyTiles
from stages.detection.prompts import Prompt, parse_prompts
from stages.errors import ConfigError
from stages.source.address import normalized
from stages.source.rgb.pixel_aspect import parse_pixel_aspect


def _matches(pattern: str, allowed: str) -> AfterValidator:
    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"must be {allowed}")
        return value

    return AfterValidator(check)


def _check_port(value: str) -> str:
    port = value.rpartition(":")[2]
    if port.isdigit() and int(port) > 65535:
        raise ValueError("must have a port from 0 (any free one) to 65535")
    return value


def _positive_amount(value: str) -> str:
    number, percent = float(value.rstrip("%MGiB")), value.endswith("%")
    if number == 0 or (percent and number > 100):
        raise ValueError("must be more than nothing and at most 100%")
    return value


def _tiles(value: Any) -> Any:
    """A number as the environment and flags give it, or what the file has. Raises ValueError for what is neither."""
    number = int(value) if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value) else value
    if number in ("off", "auto") or (type(number) is int and 1 <= number <= MOST_TILES):
        return number
    raise ValueError(f'must be "off", "auto" or a number of tiles from 1 to {MOST_TILES}')


def parsed_prompts(texts: tuple[str, ...]) -> tuple[Prompt, ...]:
    """Parse prompts; a pydantic validator, so ConfigError becomes ValueError."""
    try:
        return parse_prompts(texts)
    except ConfigError as error:
        raise ValueError(f"is wrong: {error}") from None


def opened_address(source: str) -> str:
    """The source as it is opened, special characters in its password encoded. Raises ValueError if it never can be."""
    try:
        return normalized(source)
    except ConfigError as error:
        raise ValueError(f"is wrong: {error}") from None


def _check_pixel_aspect(text: str) -> str:
    try:
        parse_pixel_aspect(text)
    except ConfigError as error:
        raise ValueError(str(error)) from None
    return text


_SECONDS_OF = {"s": 1, "min": 60, "h": 3600, "d": 86400}


def seconds(duration: str) -> float:
    """Seconds of a valid duration, such as "5min"."""
    number, unit = re.fullmatch(r"([0-9.]+)(\w+)", duration).groups()  # type: ignore[union-attr]
    return float(number) * _SECONDS_OF[unit]


def size(text: str) -> int:
    """Bytes of a valid size, such as "200GB"."""
    number, power, binary = re.fullmatch(r"([0-9.]+)([kKMGT])(i?)B", text).groups()  # type: ignore[union-attr]
    return int(float(number) * (1024 if binary else 1000) ** ("kMGT".index(power.replace("K", "k")) + 1))


def _at_least_a_megabyte(value: str) -> str:
    if value and size(value) < 1_000_000:
        raise ValueError("must be at least 1MB, less than that holds no segment")
    return value


def _at_least_a_second(value: str) -> str:
    if value and seconds(value) < 1:
        raise ValueError("must be at least 1s")
    return value


Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Device = Annotated[str, _matches(r"auto|cpu|cuda(:\d+)?", '"auto", "cuda", "cuda:1" or "cpu"')]
Endpoint = Annotated[
    str,
    _matches(r"tcp://(\[[0-9A-Fa-f:.]+\]|[^\s/:\[\]]+):(\d+|\*)|ipc://.+", '"tcp://HOST:PORT" or "ipc://PATH"'),
    AfterValidator(_check_port),
]
Listen = Annotated[
    str,
    _matches(r"(\[[0-9A-Fa-f:.]+\]|[^\s/:\[\]]+):\d+", 'HOST:PORT, as in "127.0.0.1:9109"'),
    AfterValidator(_check_port),
]
Memory = Annotated[
    str,
    _matches(r"\d+(\.\d+)?(%|MiB|GiB)", 'a share or a size, as in "80%" or "12GiB"'),
    AfterValidator(_positive_amount),
]
_DURATION = r"[0-9]{1,9}(\.[0-9]{1,9})?(s|min|h|d)"
_DURATIONS = 'a number with s, min, h or d, as in "90s", "5min" or "7d"'
Span = Annotated[str, _matches(_DURATION, _DURATIONS)]
DurationOrNone = Annotated[str, _matches(f"|{_DURATION}", f'{_DURATIONS}; or ""'), AfterValidator(_at_least_a_second)]
SizeOrNone = Annotated[
    str,
    _matches(r"|[0-9]{1,9}(\.[0-9]{1,9})?[kKMGT]i?B", 'a number with kB, MB, GB or TB, as in "200GB"; or ""'),
    AfterValidator(_at_least_a_megabyte),
]
StreamName = Annotated[
    str,
    _matches(r"\w[\w.-]{0,63}", "1 to 64 letters, digits, dots, dashes and underscores, the first not a dot or dash"),
]
Text = Annotated[str, Field(min_length=1)]
PixelAspect = Annotated[str, AfterValidator(_check_pixel_aspect)]
Tiles = Annotated[AnyTiles, BeforeValidator(_tiles)]
Secret = Annotated[str, Field(repr=False)]
SecretText = Annotated[str, Field(min_length=1, repr=False)]
Source = Annotated[SecretText, AfterValidator(opened_address)]  # may hold a password
EventType = Literal[
    "track_started",
    "track_occluded",
    "track_returned",
    "track_ended",
    "source_up",
    "source_down",
    "epoch",
    "governor",
    "error",
]
if TYPE_CHECKING:
    Prompts = tuple[Prompt, ...]  # the type of the validated value
else:  # the type in the file: a list of texts
    Prompts = Annotated[tuple[str, ...], Field(strict=False), AfterValidator(parsed_prompts)]


def is_loopback(host: str) -> bool:
    """Whether ``host``, a name or an address without brackets, is this machine's loopback."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_local_endpoint(endpoint: str) -> bool:
    """Whether only this machine can reach the ZeroMQ endpoint."""
    host = endpoint.removeprefix("tcp://").rpartition(":")[0]
    return endpoint.startswith("ipc://") or is_loopback(host.strip("[]"))
