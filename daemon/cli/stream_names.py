"""Sources and prompts on the command line -> streams."""

import re
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any
from urllib.parse import urlsplit

from stages.errors import ConfigError

_LONGEST = 56  # leaves room for "-2" in a name of 64


def streams_of(sources: Sequence[str], prompts: Sequence[str]) -> dict[str, Any]:
    """The settings ``{"streams": [...]}``, one stream a source, all with the same prompts; {} without sources.

    Raises ConfigError for prompts without a source.
    """
    if not sources:
        if prompts:
            raise ConfigError("--prompt needs a SOURCE before it; the streams of the file have their own prompts")
        return {}
    names = unique([stream_name(source) for source in sources])
    return {
        "streams": [
            {"name": name, "source": source, "prompts": list(prompts)}
            for name, source in zip(names, sources, strict=True)
        ]
    }


def stream_name(source: str) -> str:
    """A name that fits topics and file names: the stem of a file, the host of a URL ("testsrc://shapes": "shapes")."""
    scheme, separator, rest = source.partition("://")
    if not separator:
        return _safe(PurePath(source).stem)
    try:
        # a password may hold a slash, which would end the host
        host = urlsplit(f"{scheme}://{rest.rpartition('@')[2]}").hostname
    except ValueError:  # the source's own error says what is wrong with it
        host = None
    return _safe(host or PurePath(rest.rpartition("@")[2]).stem or scheme)


def _safe(text: str) -> str:
    return re.sub(r"[^\w.-]+", "-", text).strip("-.")[:_LONGEST] or "stream"


def unique(names: Sequence[str]) -> list[str]:
    """A number behind every name that came before: gate, gate-2, gate-3."""
    taken: list[str] = []
    for name in names:
        number, candidate = 1, name
        while candidate in taken:
            number += 1
            candidate = f"{name}-{number}"
        taken.append(candidate)
    return taken
