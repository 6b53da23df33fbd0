"""The file in which the controller keeps its assignments."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.errors import ConfigError
from stages.output.atomic_file import write_atomically

VERSION = 1
KEYS = {"leases", "costs", "streams", "draining"}


def load(path: Path) -> Mapping[str, Any] | None:
    """What was saved, None where nothing was. Raises ConfigError for a file that is no state of a fleet."""
    try:
        saved: dict[str, Any] = json.loads(path.read_bytes())
        version = saved["version"]
        if version == VERSION and not saved.keys() >= KEYS:
            raise KeyError(KEYS)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"fleet.state {path}: cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f"fleet.state {path}: is no state of a fleet; remove it, or name another file") from None
    if version != VERSION:
        raise ConfigError(f"fleet.state {path}: is of version {version}, this is {VERSION}; name another file")
    return saved


def save(path: Path, state: Mapping[str, Any]) -> None:
    """Replace the file in one step. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps({"version": VERSION, **state}).encode())
