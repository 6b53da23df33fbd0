"""Streams and their names from the sources and prompts of the command line."""

import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

from stages.errors import ConfigError
from stages.source.address import normalized
from stages.source.stills.listing import exists, is_picture

# Schemes whose path names the camera's stream; that of rtmp:// and srt:// may be a secret key. A name of letters and a
# number is one, as in 101, stream1, main, h264; what is longer or more mixed may be a token.
_WITH_CHANNELS = ("rtsp", "rtsps", "http", "https")
_CHANNEL = re.compile(r"[A-Za-z]{0,10}[-_.]?\d{0,4}")
_MAX_LENGTH = 56  # of 64 allowed characters, which leaves room for suffixes such as "-2"


def streams_of(sources: Sequence[str], prompts: Sequence[str]) -> dict[str, Any]:
    """Settings ``{"streams": [...]}`` with one stream per source, all with the same prompts; {} without sources.

    Raises ConfigError for prompts without a source, and for several single pictures.
    """
    if not sources:
        if prompts:
            raise ConfigError("--prompt needs a SOURCE; the streams of the file have their own prompts")
        return {}
    pictures = sum(is_picture(PurePath(source)) for source in sources)
    if pictures > 1:
        raise ConfigError(
            f"{pictures} pictures are named, and each would be a stream of its own: name their folder, or put the "
            "pattern in quotes, as in 'frames/*.jpg'; `maskcast image` takes single pictures"
        )
    names = unique([stream_name(source) for source in sources])
    return {
        "streams": [
            {"name": name, "source": _as_text(source), "prompts": list(prompts)}
            for name, source in zip(names, sources, strict=True)
        ]
    }


def _as_text(source: str) -> str:
    """``source``; a path that is not UTF-8, which settings cannot hold, as a file:// URL."""
    try:
        source.encode()
    except UnicodeEncodeError:
        return Path(source).absolute().as_uri()
    return source


def stream_name(source: str) -> str:
    """A name valid in topics and file names.

    Of a file it is the stem; of a folder or a pattern of pictures the folder's name; of a URL the host, with the last
    part of the path where that surely holds no secret (rtsp://host/Streaming/Channels/101: "host-101").
    """
    scheme, separator, rest = source.partition("://")
    if not separator:
        # what is no file may be an address without its scheme, with a password
        return _name_of_path(Path(source if exists(Path(source)) else source.rpartition("@")[2]))
    if scheme.lower() == "file":
        return _name_of_path(Path(os.fsdecode(unquote_to_bytes(rest))))
    try:
        address = urlsplit(normalized(source))
        host, path = address.hostname, address.path
    except (ConfigError, ValueError):  # opening the source reports the error
        return _sanitize(scheme)
    if "@" in path:  # of a password that can be read in two ways
        return _sanitize(scheme)
    channel = PurePath(path).stem
    if host and channel and scheme.lower() in _WITH_CHANNELS and _CHANNEL.fullmatch(channel):
        return _sanitize(f"{host}-{channel}")
    return _sanitize(host or PurePath(address.netloc.rpartition("@")[2] + path).stem or scheme)


def _name_of_path(path: Path) -> str:
    if re.search(r"%0?\d*d|[*?]", path.name) and not exists(path):
        path = path.parent
    elif not (exists(path) and path.is_dir()):
        return _sanitize(path.stem)
    return _sanitize(path.name if path.name not in ("", "..") else path.resolve().name)


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
