"""The file that keeps changes, so that they come back when the daemon starts again."""

import json
import logging
import os
import time
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from daemon.changes.change import Change, Changes, written
from daemon.settings import value_types as kind
from daemon.settings.schema import StreamSettings
from stages.errors import ConfigError
from stages.output.atomic_file import lock, write_atomically

NAME = "changes.json"
VERSION = 1

log = logging.getLogger(__name__)


class _Entry(BaseModel):
    """A change as it stands in the file: exactly one of its keys."""

    model_config = ConfigDict(extra="forbid", strict=True)

    stream: dict[str, Any] | None = None
    prompts: kind.Prompts | None = None
    removed: bool = False

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if [self.stream is not None, self.prompts is not None, self.removed].count(True) != 1:
            raise ValueError("needs exactly one of stream, prompts and removed")
        return self


class StateFile:
    """``changes.json`` in a folder that no other daemon uses meanwhile. One thread at a time.

    It may hold passwords of cameras, so only its owner may read it.
    """

    def __init__(self, folder: Path) -> None:
        """Make the folder where there is none. Raises ConfigError where it cannot be used."""
        self.path = folder / NAME
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(folder / f"{NAME}.lock", os.O_CREAT | os.O_RDWR, 0o600)
        except OSError as error:
            raise ConfigError(f"state.dir {folder}: {error.strerror}; name a folder that can be written") from None
        try:
            lock(self._lock)
        except BlockingIOError:
            os.close(self._lock)
            raise ConfigError(f"state.dir {folder}: another daemon keeps its changes there; name another one") from None

    def close(self) -> None:
        """Let another daemon use the folder."""
        os.close(self._lock)

    def load(self) -> dict[str, Change]:
        """The kept changes. A file that makes no sense is moved aside, which is logged.

        Raises ConfigError where it cannot be read, or cannot be moved.
        """
        try:
            return _parse(self.path.read_bytes())
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise ConfigError(f"{self.path}: cannot be read: {error.strerror}; give its user access") from None
        except (ValueError, RecursionError) as error:
            why = str(error) or type(error).__name__
        self._move_aside(why)
        return {}

    def save(self, changes: Changes) -> None:
        """Replace the file in one step, on the disk when this returns. Raises OSError."""
        streams = {name: _entry(change) for name, change in changes.items()}
        text = json.dumps({"version": VERSION, "streams": streams}, ensure_ascii=False, indent=1)
        write_atomically(self.path, text.encode(), mode=0o600, sync=True)

    def _move_aside(self, why: str) -> None:
        aside = self.path.with_name(f"{NAME}.{time.strftime('%Y-%m-%dT%H-%M-%SZ', time.gmtime())}")
        number = 1
        while aside.exists():
            number += 1
            aside = aside.with_name(f"{aside.name}-{number}")
        try:
            self.path.rename(aside)
        except OSError as error:
            wrong = f"{self.path}: {why}; it cannot be moved aside: {error.strerror}"
            raise ConfigError(f"{wrong}; mend it or remove it") from None
        told = "%s: %s; it is now %s, and the configuration counts alone"
        log.warning(told, self.path, why, aside.name, extra={"event": "state"})


def _entry(change: Change) -> dict[str, Any]:
    if change.stream is not None:
        return {"stream": written(change.stream)}
    if change.prompts is not None:
        return {"prompts": [prompt.written for prompt in change.prompts]}
    return {"removed": True}


def _parse(content: bytes) -> dict[str, Change]:
    """Raises ValueError and RecursionError for what is no file of this version."""
    try:
        saved = json.loads(content)
    except ValueError:
        raise ValueError("is not valid JSON") from None
    if not isinstance(saved, dict) or saved.keys() != {"version", "streams"} or not isinstance(saved["streams"], dict):
        raise ValueError("is no file of changes")
    if saved["version"] != VERSION:
        raise ValueError(f"has version {str(saved['version'])[:20]}, this maskcast reads {VERSION}")
    return {name: _change(name, entry) for name, entry in saved["streams"].items()}


def _change(name: str, entry: Any) -> Change:
    try:
        parsed = _Entry.model_validate(entry)
        stream = None if parsed.stream is None else StreamSettings.model_validate({**parsed.stream, "name": name})
    except ValidationError as error:
        problem = error.errors()[0]
        wrong = [*map(str, problem["loc"]), problem["msg"].removeprefix("Value error, ")]  # never the value
        raise ValueError(f"stream {name[:60]!r}: {' '.join(wrong)}") from None
    return Change(stream, parsed.prompts)
