"""Streams and their names from the sources and prompts of the command line."""

import re
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any
from urllib.parse import urlsplit

from stages.errors import ConfigError

_MAX_LENGTH = 56  # of 64 allowed characters, which leaves room for suffixes such as "-2"


def streams_of(sources: Sequence[str], prompts: Sequence[str]) -> dict[str, Any]:
    """Settings ``{"streams": [...]}`` with one stream per source, all with the same prompts; {} without sources.

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
    """A name valid in topics and file names: the stem of a file or the host of a URL ("testsrc://shapes": "shapes")."""
    scheme, separator, rest = source.partition("://")
    if not separator:
        return _sanitize(PurePath(source).stem)
    try:
        # remove user and password first: a slash in a password would end the host
        host = urlsplit(f"{scheme}://{rest.rpartition('@')[2]}").hostname
    except ValueError:  # opening the source reports the error
        host = None
    return _sanitize(host or PurePath(rest.rpartition("@")[2]).stem or scheme)


def _sanitize(text: str) -> str:
    return re.sub(r"[^\w.-]+", "-", text).strip("-.")[:_MAX_LENGTH] or "stream"


def unique(names: Sequence[str]) -> list[str]:
    """The names with a number appended to repeated ones: gate, gate-2, gate-3."""
    taken: list[str] = []
    for name in names:
        number, candidate = 1, name
        while candidate in taken:
            number += 1
            candidate = f"{name}-{number}"
        taken.append(candidate)
    return taken
