"""Error messages of the settings, one line each: where the value was set, the key, the value, what is allowed."""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from daemon.settings.toml_lines import KeyPath, contains, lines_of
from stages.errors import ConfigError

_SECRET_KEYS = ("source", "token")  # their values are never shown


class Layer(NamedTuple):
    """A source of values: the environment, the command line, or a file with its text."""

    name: str
    values: Mapping[str, Any]
    text: str = ""


class SettingsError(ConfigError):
    """Wrong settings. ``problems`` has a line for each; the text is the first one and the number of the others."""

    def __init__(self, problems: Sequence[str]) -> None:
        more = f" (and {len(problems) - 1} more; maskcast check lists them)" if len(problems) > 1 else ""
        super().__init__(problems[0] + more)
        self.problems = tuple(problems)


class StreamsError(ValueError):
    """What is wrong with streams as a whole; a validator of pydantic's raises it."""

    def __init__(self, problems: Sequence[tuple[int, str]]) -> None:
        """``problems``: index of the stream, and the message."""
        super().__init__("; ".join(message for _, message in problems))
        self.problems = tuple(problems)


class _Problem(NamedTuple):
    place: KeyPath  # of the value, or of the table that lacks one
    message: str
    unnamed: bool = False  # the place is shown only as a line of a file


def explain(error: ValidationError, model: type[BaseModel], layers: Sequence[Layer]) -> list[str]:
    """The message of each problem. Unknown keys come first: they may cause others.

    ``layers``: the sources of values, the one with the highest precedence first.
    """
    problems = list(_problems(error, model, layers))
    lines = {
        layer.name: lines_of(layer.text, [problem.place for problem in problems]) for layer in layers if layer.text
    }
    return [_where(problem, layers, lines) + problem.message for problem in problems]


def where(path: KeyPath, layers: Sequence[Layer]) -> str:
    """The first layer that sets a value, with the line of a file; "" where none does."""
    lines = {layer.name: lines_of(layer.text, [path]) for layer in layers if layer.text}
    return _where(_Problem(path, ""), layers, lines).removesuffix(": ")


def unknown_variables(model: type[BaseModel], prefix: str, names: Iterable[str]) -> Iterator[str]:
    """A message about each environment variable that looks like a misspelt setting.

    Only names with a double underscore or very similar to a setting count: Kubernetes sets ``MASKCAST_PORT_5555_TCP``.
    """
    known = [prefix + "__".join(path).upper() for path in _setting_paths(model)] + [prefix + "STREAMS"]
    for name in names:
        if not name.startswith(prefix) or name in known:
            continue
        nearest = get_close_matches(name, known, 1, cutoff=0.6)
        if "__" in name or get_close_matches(name, known, 1, cutoff=0.95):
            yield f"environment: unknown setting {name}" + (f"; did you mean {nearest[0]}?" if nearest else "")


def _problems(error: ValidationError, model: type[BaseModel], layers: Sequence[Layer]) -> Iterator[_Problem]:
    by_key = defaultdict[KeyPath, list[ErrorDetails]](list)
    for details in error.errors():
        by_key[_key_path(details, model)].append(details)
    unknown = [path for path, found in by_key.items() if found[0]["type"] == "extra_forbidden"]
    for path in unknown:
        yield _Problem(path, f"unknown setting {_dotted(path, layers)}; {_suggestion(path, model, layers)}")
    for path, found in by_key.items():
        if path in unknown:
            continue
        exception = found[0].get("ctx", {}).get("error")
        if isinstance(exception, StreamsError):
            yield from (_Problem(("streams", index), message, unnamed=True) for index, message in exception.problems)
        elif found[0]["type"] != "missing":
            yield _Problem(path, _wrong_value(path, found, layers))
        elif not any(other[:-1] == path[:-1] and _nearest(other, model) == path[-1] for other in unknown):
            yield _Problem(path[:-1], f"{_dotted(path, layers)} is missing")


def _key_path(details: ErrorDetails, model: type[BaseModel]) -> KeyPath:
    """The keys and list indices of the value, without the names that pydantic gives to the members of a union."""
    path: list[int | str] = []
    table: type[BaseModel] | None = model
    for key in details["loc"]:
        if isinstance(key, str):
            if table is None or (key not in table.model_fields and details["type"] != "extra_forbidden"):
                break
            field = table.model_fields.get(key)
            table = _table_model(field.annotation) if field else None
        path.append(key)
    return tuple(path)


def _wrong_value(path: KeyPath, found: Sequence[ErrorDetails], layers: Sequence[Layer]) -> str:
    """The message about a value; it has several errors where it fits no member of a union."""
    wrong = [
        str(details["ctx"]["error"]) if details["type"] == "value_error" else _in_toml_terms(details["msg"])
        for details in found
    ]
    value = "" if _may_be_secret(path, found[0]["input"]) else _value_text(found[0]["input"])
    return f"{_dotted(path, layers)}{value} {' or '.join(wrong)}".strip()


def _where(problem: _Problem, layers: Sequence[Layer], lines: Mapping[str, Mapping[KeyPath, int]]) -> str:
    """The first layer that sets the value, with the line of a file."""
    layer = next((layer for layer in layers if problem.place and contains(layer.values, problem.place)), None)
    if layer is None or (problem.unnamed and not layer.text):
        return ""
    line = lines.get(layer.name, {}).get(problem.place)
    return f"{layer.name}:{line}: " if line else f"{layer.name}: "


def _may_be_secret(path: KeyPath, value: Any) -> bool:
    """Whether the value is a source or a token, or text in place of a table that contains one."""
    if not path or path[-1] in _SECRET_KEYS:
        return True
    return isinstance(value, str) and (path == ("http",) or (path[0] == "streams" and len(path) < 3))


def _in_toml_terms(message: str) -> str:
    """Pydantic's message with TOML's names of types."""
    message = re.sub(r"dictionary or instance of \w+", "table", message)
    return message.replace("Input should", "should").replace("String should", "should").replace("tuple", "list")


def _value_text(value: Any) -> str:
    return f" = {json.dumps(value, ensure_ascii=False)}" if isinstance(value, str | bool | int | float) else ""


def _dotted(path: KeyPath, layers: Sequence[Layer]) -> str:
    """The key as text, such as ``streams["gate"].detection.every``; a stream without a name is given by its index."""
    if not (len(path) > 1 and path[0] == "streams"):
        return ".".join(map(str, path))
    streams = next(layer.values["streams"] for layer in layers if "streams" in layer.values)
    try:
        stream = f'streams["{streams[path[1]]["name"]}"]'
    except (KeyError, IndexError, TypeError):
        stream = f"streams[{path[1]}]"
    return ".".join([stream, *map(str, path[2:])])


def _suggestion(path: KeyPath, model: type[BaseModel], layers: Sequence[Layer]) -> str:
    """The most similar key of the same table, else the same key in another table, else all keys of the table."""
    nearest = _nearest(path, model)
    near = [_dotted((*path[:-1], nearest), layers)] if nearest else []
    elsewhere = [".".join(setting) for setting in _setting_paths(model) if setting[-1] == path[-1]]
    suggestions = near + elsewhere
    return f"did you mean {suggestions[0]}?" if suggestions else f"known here: {', '.join(_siblings(path, model))}"


def _nearest(path: KeyPath, model: type[BaseModel]) -> str | None:
    """The key of the same table that is most similar to the last one of ``path``."""
    return next(iter(get_close_matches(str(path[-1]), _siblings(path, model), 1)), None)


def _siblings(path: KeyPath, model: type[BaseModel]) -> list[str]:
    return list(_model_at(model, [key for key in path[:-1] if isinstance(key, str)]).model_fields)


def _model_at(model: type[BaseModel], keys: Sequence[str]) -> type[BaseModel]:
    """The model of the table at ``keys``."""
    for key in keys:
        model = _table_model(model.model_fields[key].annotation) or model
    return model


def _setting_paths(model: type[BaseModel]) -> Iterator[tuple[str, ...]]:
    """Paths of all keys, except those of the streams."""
    for name, field in model.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from ((name, *path) for path in _setting_paths(annotation))
        elif _table_model(annotation) is None:
            yield (name,)


def _table_model(annotation: Any) -> type[BaseModel] | None:
    """The model of a table or of a list of tables; None for other types."""
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None
