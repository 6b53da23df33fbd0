"""What is wrong with the settings, in one line: where it was set, the key, the value, what is allowed."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

Layer = tuple[str, Mapping[str, Any]]  # where the values come from, and the values
Place = tuple[int | str, ...]

_SECRET = ("source", "token")  # never shown, not even when wrong


def explain(error: ValidationError, model: type[BaseModel], layers: Sequence[Layer]) -> str:
    """The first of the errors, a misspelt key before what it leaves missing.

    ``layers`` are the sources of the values, the strongest first.
    """
    problems = sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    line = _explain(problems[0], model, layers)
    return f"{line} (and {len(problems) - 1} more)" if len(problems) > 1 else line


def unknown_variable(model: type[BaseModel], prefix: str, names: Iterable[str]) -> str | None:
    """A complaint about the first environment variable that was surely meant as a setting, but is none.

    Only names with a double underscore or very close to a setting's: ``MASKCAST_PORT_5555_TCP`` is Kubernetes' own.
    """
    known = [prefix + "__".join(path).upper() for path in _settings(model)] + [prefix + "STREAMS"]
    for name in names:
        if not name.startswith(prefix) or name in known:
            continue
        nearest = get_close_matches(name, known, 1, cutoff=0.6)
        if "__" in name or get_close_matches(name, known, 1, cutoff=0.95):
            return f"environment: unknown setting {name}" + (f"; did you mean {nearest[0]}?" if nearest else "")
    return None


def _explain(problem: ErrorDetails, model: type[BaseModel], layers: Sequence[Layer]) -> str:
    place, kind = problem["loc"], problem["type"]
    origin = _origin(place[:-1] if kind == "missing" else place, layers)
    where = f"{origin}: " if origin else ""
    key = _dotted(place, layers)
    if kind == "extra_forbidden":
        return f"{where}unknown setting {key}; {_advice(place, model, layers)}"
    if kind == "missing":
        return f"{where}{key} is missing"
    wrong = str(problem["ctx"]["error"]) if kind == "value_error" else _plain(problem["msg"])
    value = "" if _may_be_secret(place, problem["input"]) else _shown(problem["input"])
    return where + f"{key}{value} {wrong}".strip()


def _may_be_secret(place: Place, value: Any) -> bool:
    """A source or a token, or text where the table that holds one belongs."""
    if not place or place[-1] in _SECRET:
        return True
    return isinstance(value, str) and (place == ("http",) or (place[0] == "streams" and len(place) < 3))


def _plain(message: str) -> str:
    """Pydantic's message in the words of TOML."""
    message = re.sub(r"dictionary or instance of \w+", "table", message)
    return message.replace("Input should", "should").replace("String should", "should").replace("tuple", "list")


def _shown(value: Any) -> str:
    return f" = {json.dumps(value, ensure_ascii=False)}" if isinstance(value, str | bool | int | float) else ""


def _origin(place: Place, layers: Sequence[Layer]) -> str | None:
    """The strongest layer that sets the value; None for a problem of the whole."""
    if not place:
        return None
    return next((name for name, values in layers if _holds(values, place)), None)


def _holds(values: Any, place: Place) -> bool:
    for key in place:
        try:
            values = values[key]
        except (KeyError, IndexError, TypeError):
            return False
    return True


def _dotted(place: Place, layers: Sequence[Layer]) -> str:
    """``streams["gate"].detection.every``: a stream goes by its name, or by its number where it has none."""
    if not (len(place) > 1 and place[0] == "streams"):
        return ".".join(map(str, place))
    streams = next(values["streams"] for _, values in layers if "streams" in values)
    try:
        stream = f'streams["{streams[place[1]]["name"]}"]'
    except (KeyError, IndexError, TypeError):
        stream = f"streams[{place[1]}]"
    return ".".join([stream, *map(str, place[2:])])


def _advice(place: Place, model: type[BaseModel], layers: Sequence[Layer]) -> str:
    """The nearest valid name: a sibling's, or the same key in another table."""
    *parents, wrong = (key for key in place if isinstance(key, str))
    siblings = list(_table(model, parents).model_fields)
    near = [_dotted((*place[:-1], name), layers) for name in get_close_matches(wrong, siblings, 1)]
    elsewhere = [".".join(path) for path in _settings(model) if path[-1] == wrong]
    suggestions = near + elsewhere
    return f"did you mean {suggestions[0]}?" if suggestions else f"known here: {', '.join(siblings)}"


def _table(model: type[BaseModel], keys: Sequence[str]) -> type[BaseModel]:
    for key in keys:
        model = _inner(model.model_fields[key].annotation) or model
    return model


def _settings(model: type[BaseModel]) -> Iterator[tuple[str, ...]]:
    """The paths of all keys, without those of the streams."""
    for name, field in model.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from ((name, *path) for path in _settings(annotation))
        elif _inner(annotation) is None:
            yield (name,)


def _inner(annotation: Any) -> type[BaseModel] | None:
    """The model that a table, or a list of tables, holds."""
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None
