"""Reads the ``masks`` headers of a recording, whose lines may be damaged or gone."""

import json
import math
from pathlib import Path

from stages.output.resume import last_line
from stages.output.wire import Header

LONGEST_LINE = 64 << 20  # bytes


def first_header(lines: Path) -> Header:
    """That of the first frame in a file of them; empty where there is none. Raises OSError."""
    try:
        with lines.open("rb") as file:
            return _header(file.readline(LONGEST_LINE))
    except FileNotFoundError:
        return {}


def last_header(lines: Path) -> Header:
    """That of the last frame in a file of them; empty where there is none. Raises OSError."""
    try:
        return _header(last_line(lines)[0])
    except FileNotFoundError:
        return {}


def captured(header: Header) -> float | None:
    """When the frame was captured, in seconds by the recording's clock; None where it is not said."""
    at = header.get("captured_at")
    try:
        return float(at) if isinstance(at, int | float) and math.isfinite(at) else None
    except OverflowError:
        return None


def _header(line: bytes) -> Header:
    """The header in a ``line``; empty where it is damaged."""
    try:
        header = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return header if isinstance(header, dict) else {}
