"""Error messages of the settings, one line each: where the value was set, the key, the value, what is allowed."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

Layer = tuple[str, Mapping[str, Any]]  # name of a source of values (file, environment, command line), and its values
KeyPath = tuple[int | str, ...]  # keys and list indices from the root, as pydantic reports them

_SECRET_KEYS = ("source", "token")  # their values are never shown


def explain(error: ValidationError, model: type[BaseModel], layers: Sequence[Layer]) -> str:
    """The message of the first error and the number of others. Unknown keys come first: they may cause missing ones.

    ``layers``: the sources of values, the one with the highest precedence first.
    """
    problems = sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    line = _explain(problems[0], model, layers)
    return f"{line} (and {len(problems) - 1} more)" if len(problems) > 1 else line


def unknown_variable(model: type[BaseModel], prefix: str, names: Iterable[str]) -> str | None:
    """The message about the first environment variable that looks like a misspelt setting; None if there is none.

    Only names with a double underscore or very similar to a setting count: Kubernetes sets ``MASKCAST_PORT_5555_TCP``.
    """
    known = [prefix + "__".join(path).upper() for path in _setting_paths(model)] + [prefix + "STREAMS"]
    for name in names:
        if not name.startswith(prefix) or name in known:
            continue
        nearest = get_close_matches(name, known, 1, cutoff=0.6)
        if "__" in name or get_close_matches(name, known, 1, cutoff=0.95):
            return f"environment: unknown setting {name}" + (f"; did you mean {nearest[0]}?" if nearest else "")
    return None


def _explain(problem: ErrorDetails, model: type[BaseModel], layers: Sequence[Layer]) -> str:
    path, kind = problem["loc"], problem["type"]
    origin = _origin(path[:-1] if kind == "missing" else path, layers)
    where = f"{origin}: " if origin else ""
    key = _dotted(path, layers)
    if kind == "extra_forbidden":
        return f"{where}unknown setting {key}; {_suggestion(path, model, layers)}"
    if kind == "missing":
        return f"{where}{key} is missing"
    wrong = str(problem["ctx"]["error"]) if kind == "value_error" else _in_toml_terms(problem["msg"])
    value = "" if _may_be_secret(path, problem["input"]) else _value_text(problem["input"])
    return where + f"{key}{value} {wrong}".strip()


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


def _origin(path: KeyPath, layers: Sequence[Layer]) -> str | None:
    """Name of the first layer that sets the value; None for an error that concerns no single key."""
    if not path:
        return None
    return next((name for name, values in layers if _contains(values, path)), None)


def _contains(values: Any, path: KeyPath) -> bool:
    for key in path:
        try:
            values = values[key]
        except (KeyError, IndexError, TypeError):
            return False
    return True


def _dotted(path: KeyPath, layers: Sequence[Layer]) -> str:
    """The key as text, such as ``streams["gate"].detection.every``; a stream without a name is given by its index."""
    if not (len(path) > 1 and path[0] == "streams"):
        return ".".join(map(str, path))
    streams = next(values["streams"] for _, values in layers if "streams" in values)
    try:
        stream = f'streams["{streams[path[1]]["name"]}"]'
    except (KeyError, IndexError, TypeError):
        stream = f"streams[{path[1]}]"
    return ".".join([stream, *map(str, path[2:])])


def _suggestion(path: KeyPath, model: type[BaseModel], layers: Sequence[Layer]) -> str:
    """The most similar key of the same table, else the same key in another table, else all keys of the table."""
    *parents, wrong = (key for key in path if isinstance(key, str))
    siblings = list(_model_at(model, parents).model_fields)
    near = [_dotted((*path[:-1], name), layers) for name in get_close_matches(wrong, siblings, 1)]
    elsewhere = [".".join(setting) for setting in _setting_paths(model) if setting[-1] == wrong]
    suggestions = near + elsewhere
    return f"did you mean {suggestions[0]}?" if suggestions else f"known here: {', '.join(siblings)}"


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
