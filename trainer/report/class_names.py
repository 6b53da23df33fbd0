"""Names of classes as a plot can show them: many fonts have no Chinese, Arabic or emoji."""

import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from matplotlib import font_manager

_MAX_LENGTH = 24  # characters
_NO_TEXT = ("emoji", "last resort")  # fonts that matplotlib draws as boxes or not at all


@dataclass(frozen=True, slots=True)
class PlotNames:
    """``names``, one for each class, can be drawn with ``fonts``, names of font families.

    A name that cannot be drawn is the class's number from 1 on, as "#3"; ``numbered`` are the indices of these classes.
    """

    names: tuple[str, ...]
    fonts: tuple[str, ...]
    numbered: tuple[int, ...]


def plot_names(labels: Sequence[str]) -> PlotNames:
    """The names of the classes ``labels`` on a plot, with the fonts of this machine."""
    default = font_manager.FontProperties().get_name()
    fonts, known = [default], _characters(font_manager.findfont(default))
    missing = {character for label in labels for character in label} - known
    installed = _installed(default)
    while missing and (font := next(installed, None)):
        name, characters = font
        if missing & characters:
            fonts.append(name)
            missing -= characters
    numbered = tuple(index for index, label in enumerate(labels) if missing.intersection(label) or _needs_layout(label))
    names = (f"#{i + 1}" if i in numbered else _shorten(label) for i, label in enumerate(labels))
    return PlotNames(tuple(names), tuple(fonts), numbered)


def _needs_layout(label: str) -> bool:
    """Whether the text is written from right to left, or has control characters: matplotlib cannot lay it out."""
    return any(
        unicodedata.bidirectional(character) in ("R", "AL", "AN") or unicodedata.category(character).startswith("C")
        for character in label
    )


def _installed(default: str) -> Iterator[tuple[str, set[str]]]:
    """Family and characters of each upright font of this machine."""
    for font in font_manager.fontManager.ttflist:
        plain = font.style == "normal" and font.name != default and not any(no in font.name.lower() for no in _NO_TEXT)
        if plain and font.weight in (400, "normal", "regular"):
            yield font.name, _characters(font.fname)


def _characters(path: str) -> set[str]:
    with suppress(OSError, RuntimeError):  # a damaged font, or one of pictures
        font = font_manager.get_font(path)
        if font.scalable:
            return {chr(code) for code in font.get_charmap()}
    return set()


def _shorten(name: str) -> str:
    """Cut a long name in the middle, because names with the same start often differ at the end."""
    return name if len(name) <= _MAX_LENGTH else f"{name[: _MAX_LENGTH // 2]}…{name[-_MAX_LENGTH // 2 + 1 :]}"
