"""Parts of a message to its header. The contract is the maskcast repository's tests/golden."""

import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from maskcast_client.errors import MessageError, VersionError

VERSION = 1
LATER = tuple(f"v{number}/" for number in range(VERSION + 1, VERSION + 9))  # topics of versions to come
_SCHEMA = re.compile(r"maskcast/v(\d+)/(\w+)")
_ENVELOPE = ("stream", "session", "seq")


class Message(NamedTuple):
    """One message: its kind is masks, frame, event or status, or one that this version does not know."""

    kind: str
    header: dict[str, Any]
    blob: bytes | None


def topics(streams: Sequence[str] | None, kinds: Sequence[str]) -> list[str]:
    """What to subscribe to. ZeroMQ compares prefixes, so that all streams means all kinds of messages."""
    if streams is None:
        return [f"v{VERSION}/"]
    return [f"v{VERSION}/{stream}/{kind}" for stream in streams for kind in kinds]


def unpack(parts: Sequence[bytes]) -> Message:
    """The message in the parts received. Raises MessageError, VersionError."""
    if len(parts) < 2:
        raise MessageError(f"a message of {len(parts)} part(s) instead of topic and header: is this a maskcast daemon?")
    kind, header = parts[0].rpartition(b"/")[2].decode("utf-8", "replace"), read_header(parts[1])
    if header["schema"].rpartition("/")[2] != kind:
        raise MessageError(f"a message on the topic {parts[0][:80]!r} has a header of {header['schema'][:80]!r}")
    blob = bytes(parts[2]) if len(parts) > 2 else None
    if kind == "frame" and blob is None:
        raise MessageError("a frame message has no picture: parts of it were lost")
    return Message(kind, header, blob)


def read_header(text: bytes) -> dict[str, Any]:
    """The header in a message or a line of a recording. Raises MessageError, VersionError."""
    try:
        header = json.loads(text)
    except (ValueError, RecursionError):
        header = None
    found = _SCHEMA.fullmatch(str(header.get("schema"))) if isinstance(header, dict) else None
    if not isinstance(header, dict) or found is None:
        raise MessageError(f"not a message of maskcast: {bytes(text[:40])!r}; is this a maskcast daemon?")
    if int(found[1]) != VERSION:
        raise too_new(int(found[1]))
    if any(key not in header for key in _ENVELOPE):
        raise MessageError(f"a {found[2]} message without {', '.join(_ENVELOPE)}: it is damaged")
    return header


def too_new(version: int) -> VersionError:
    """The error of a daemon that speaks another version."""
    return VersionError(
        f"the daemon speaks version {version} of the mask stream, this package version {VERSION}: "
        "install the maskcast-client that belongs to the daemon"
    )
