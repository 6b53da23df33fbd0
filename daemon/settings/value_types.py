"""The kinds of values that settings have, each with what is allowed said in words."""

import ipaddress
import re
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, Field

from stages.detection.prompts import Prompt, parse_prompts
from stages.errors import ConfigError


def _matching(pattern: str, allowed: str) -> AfterValidator:
    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"must be {allowed}")
        return value

    return AfterValidator(check)


def _with_port(value: str) -> str:
    port = value.rpartition(":")[2]
    if port.isdigit() and int(port) > 65535:
        raise ValueError("must have a port from 0 (any free one) to 65535")
    return value


def _some(value: str) -> str:
    number, share = float(value.rstrip("%MGiB")), value.endswith("%")
    if number == 0 or (share and number > 100):
        raise ValueError("must be more than nothing and at most 100%")
    return value


def parsed_prompts(texts: tuple[str, ...]) -> tuple[Prompt, ...]:
    """Texts as prompts; a validator."""
    try:
        return parse_prompts(texts)
    except ConfigError as error:
        raise ValueError(f"is wrong: {error}") from None


Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Device = Annotated[str, _matching(r"auto|cpu|cuda(:\d+)?", '"auto", "cuda", "cuda:1" or "cpu"')]
Endpoint = Annotated[
    str,
    _matching(r"tcp://(\[[0-9A-Fa-f:.]+\]|[^\s/:\[\]]+):(\d+|\*)|ipc://.+", '"tcp://HOST:PORT" or "ipc://PATH"'),
    AfterValidator(_with_port),
]
Listen = Annotated[
    str,
    _matching(r"(\[[0-9A-Fa-f:.]+\]|[^\s/:\[\]]+):\d+", 'HOST:PORT, as in "127.0.0.1:9109"'),
    AfterValidator(_with_port),
]
Memory = Annotated[
    str,
    _matching(r"\d+(\.\d+)?(%|MiB|GiB)", 'a share or a size, as in "80%" or "12GiB"'),
    AfterValidator(_some),
]
StreamName = Annotated[
    str,
    _matching(r"\w[\w.-]{0,63}", "1 to 64 letters, digits, dots, dashes and underscores, the first not a dot or dash"),
]
Text = Annotated[str, Field(min_length=1)]
Secret = Annotated[str, Field(repr=False)]
SecretText = Annotated[str, Field(min_length=1, repr=False)]
if TYPE_CHECKING:
    Prompts = tuple[Prompt, ...]  # what the program gets
else:  # what is written: a list of texts
    Prompts = Annotated[tuple[str, ...], Field(strict=False), AfterValidator(parsed_prompts)]


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def stays_here(endpoint: str) -> bool:
    """Whether nothing beyond this machine reaches the endpoint."""
    host = endpoint.removeprefix("tcp://").rpartition(":")[0]
    return endpoint.startswith("ipc://") or is_loopback(host.strip("[]"))
