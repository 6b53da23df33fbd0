"""Text prompts: what the user typed, split and normalised into phrases that a detector reads."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from stages.errors import ConfigError

# What separates prompts. A full stop or comma between two digits ("3.5 inch disk") belongs to the number.
_SEPARATOR = re.compile(r"[;?\n…。、，；？．]|(?<!\d)[.,]|[.,](?!\d)")  # noqa: RUF001
# Full stops that belong to a word: "U.S. flag", "Mr. Bean", "St. Bernard", "No. 5".
_ABBREVIATION = re.compile(
    r"(?<![^\W_])(?:(?:[^\W\d_]\.){2,}|(?:mrs?|ms|dr|prof|st|mt|jr|sr|vs)\.(?=\s*\w)|no\.(?=\s*\d))", re.IGNORECASE
)
# Sentence ends that are left within a phrase. Grounding DINO splits captions at them, so a phrase must not hold one.
_DELIMITER = re.compile(r"[.?]")
_FIRST_PICTOGRAM = 0x2190  # symbols from here on are arrows, pictograms and emoji; before are signs such as "°"


@dataclass(frozen=True, slots=True)
class Prompt:
    """The text of one class of objects to look for."""

    written: str  # as the user typed it
    phrase: str  # as the model reads it: lower case, one space between words, no full stop or question mark


def parse_prompts(texts: Sequence[str]) -> tuple[Prompt, ...]:
    """Split texts as users type them ("Red Circle", "red circle, blue square.") into prompts, each phrase once.

    Raises ConfigError for a text without a letter or digit.
    """
    prompts: dict[str, Prompt] = {}
    for text in texts:
        pieces = [piece.strip() for piece in _split(text)]
        found = [Prompt(piece, phrase) for piece in pieces if (phrase := _phrase(piece))]
        if not found:
            raise ConfigError(f"prompt {text[:60]!r} names nothing: write what to look for, such as 'red car'")
        for prompt in found:
            prompts.setdefault(prompt.phrase, prompt)
    return tuple(prompts.values())


def _split(text: str) -> list[str]:
    """The text cut at its separators, which are left out."""
    kept = {place for found in _ABBREVIATION.finditer(text) for place in range(*found.span())}
    cuts = [found.start() for found in _SEPARATOR.finditer(text) if found.start() not in kept]
    return [text[first + 1 : last] for first, last in zip([-1, *cuts], [*cuts, len(text)], strict=True)]


def _phrase(piece: str) -> str:
    """Lower case, NFKC-normalised, no emoji, no punctuation at either end; "" if no letter or digit is left."""
    plain = _DELIMITER.sub(" ", unicodedata.normalize("NFKC", piece).lower())
    # the tokenizer knows no emoji, and none of the words that are written together with one
    plain = "".join(" " if _is_emoji(letter) else letter for letter in plain)
    first, last = 0, len(plain)
    while first < last and not plain[first].isalnum():
        first += 1
    while last > first and not _ends_word(plain[last - 1]):
        last -= 1
    return " ".join(plain[first:last].split())


def _ends_word(character: str) -> bool:
    return character.isalnum() or unicodedata.category(character).startswith("M")  # M: marks such as vowel signs


def _is_emoji(character: str) -> bool:
    return unicodedata.category(character) in ("So", "Sk") and ord(character) >= _FIRST_PICTOGRAM
