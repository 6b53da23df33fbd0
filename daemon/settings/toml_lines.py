"""Lines of keys in a TOML file: the standard library's parser does not tell them."""

import tomllib
from collections.abc import Collection
from typing import Any

KeyPath = tuple[int | str, ...]  # keys and list indices from the root


def lines_of(text: str, paths: Collection[KeyPath]) -> dict[KeyPath, int]:
    """The line, from 1 on, where each of ``paths`` begins; without those that ``text``, a valid TOML file, lacks.

    The file is parsed up to each line in turn. A key begins on the line after the last part without it: a part that
    ends inside of a value cannot be parsed.
    """
    lines, found = text.split("\n"), dict[KeyPath, int]()
    start = 1
    for end in range(1, len(lines) + 1):
        try:
            values = tomllib.loads("\n".join(lines[:end]))
        except tomllib.TOMLDecodeError:
            continue
        found |= {path: start for path in paths if path not in found and contains(values, path)}
        start = end + 1
    return found


def contains(values: Any, path: KeyPath) -> bool:
    """Whether the nested ``values`` have a value at ``path``."""
    for key in path:
        try:
            values = values[key]
        except (KeyError, IndexError, TypeError):
            return False
    return True
