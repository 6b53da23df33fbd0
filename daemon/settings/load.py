"""Loads the settings from the file, the environment and the flags; nothing else reads these.

Precedence: flag, environment variable (``MASKCAST_DETECTION__EVERY``), TOML file, default.
"""

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_settings import EnvSettingsSource
from pydantic_settings import SettingsError as VariableError

from daemon.settings.errors import Layer, SettingsError, explain, unknown_variables, where
from daemon.settings.schema import PREFIX, SECTIONS_OF_A_STREAM, Settings
from daemon.settings.toml_lines import KeyPath
from stages.errors import ConfigError

DEFAULT_PATH = Path("/etc/maskcast/maskcast.toml")
CONFIG_VARIABLE = "MASKCAST_CONFIG"
COMMAND_LINE, ENVIRONMENT = "command line", "environment"

SettingsT = TypeVar("SettingsT", bound=Settings)


def load(config: Path | None = None, overrides: Mapping[str, Any] | None = None) -> Settings:
    """Settings from the file, the environment and ``overrides``, a nested dict.

    ``config`` is the file. Without it, the file in MASKCAST_CONFIG is read, else /etc/maskcast/maskcast.toml if it
    exists. Raises ConfigError, which tells what is wrong, where it was set, and what is allowed; for wrong values
    SettingsError, a ConfigError that has all of them.
    """
    return load_as(Settings, config or _default_file(), overrides)


def load_as(model: type[SettingsT], path: Path | None, overrides: Mapping[str, Any] | None = None) -> SettingsT:
    """Settings of another ``model`` with the same rules; without ``path`` no file is read. Raises as `load` does."""
    layers = _layers(model, path, overrides)
    merged: dict[str, Any] = {}
    for layer in reversed(layers):
        merged = _merge(merged, layer.values)
    _override_streams(merged, layers)
    try:
        return model(**merged)
    except ValidationError as error:
        raise SettingsError(explain(error, model, layers)) from None


def origin(key: KeyPath, config: Path | None = None, overrides: Mapping[str, Any] | None = None) -> str:
    """Where `load` has a value from: ``FILE:LINE``, "environment" or "command line"; "" for a default."""
    return where(key, _layers(Settings, config or _default_file(), overrides))


def _layers(model: type[Settings], path: Path | None, overrides: Mapping[str, Any] | None) -> list[Layer]:
    """Sources of values, the one with the highest precedence first."""
    layers = [Layer(COMMAND_LINE, dict(overrides or {})), Layer(ENVIRONMENT, _environment(model))]
    return layers if path is None else [*layers, _file(path)]


def _override_streams(merged: dict[str, Any], layers: Sequence[Layer]) -> None:
    """Override keys of single streams too: flags and environment take precedence over the whole file."""
    above_file = [layer.values for layer in layers if layer.name in (COMMAND_LINE, ENVIRONMENT)]
    streams = merged.get("streams")
    if not isinstance(streams, list):
        return
    for number, stream in enumerate(streams):
        for values in reversed(above_file):
            for section in SECTIONS_OF_A_STREAM:
                if isinstance(stream, Mapping) and section in stream and isinstance(values.get(section), Mapping):
                    own = {key: value for key, value in values[section].items() if key in stream[section]}
                    stream = {**stream, section: _merge(stream[section], own)}
        streams[number] = stream


def _default_file() -> Path | None:
    named = os.environ.get(CONFIG_VARIABLE)
    if named:
        return Path(named)
    return DEFAULT_PATH if DEFAULT_PATH.exists() else None


def _file(path: Path) -> Layer:
    try:
        if not path.is_file():
            problem = "is a directory" if path.is_dir() else "no such file"
            raise ConfigError(f"{path}: {problem}; name the configuration with --config or {CONFIG_VARIABLE}")
        text = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")  # editors of Windows add a mark in front
        return Layer(str(path), tomllib.loads(text), text)
    except tomllib.TOMLDecodeError as error:
        message, _, place = str(error).removesuffix(")").partition(" (at ")
        line = re.match(r"line (\d+)", place)
        where = f"{path}:{line[1]}" if line else f"{path}"
        raise ConfigError(f"{where}: not valid TOML: {message} ({place})") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not valid TOML: not a UTF-8 text file") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None


def _environment(model: type[Settings]) -> dict[str, Any]:
    problems = list(unknown_variables(model, PREFIX, [name for name in os.environ if name != CONFIG_VARIABLE]))
    if problems:
        raise SettingsError(problems)
    try:
        return EnvSettingsSource(model)()
    except VariableError as error:
        raise ConfigError(f"environment: {error}; lists and tables are written as JSON") from None


def _merge(base: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with the values of ``overrides``; nested tables are merged too."""
    merged = dict(base)
    for key, value in overrides.items():
        previous = merged.get(key)
        merged[key] = _merge(previous, value) if isinstance(previous, Mapping) and isinstance(value, Mapping) else value
    return merged
