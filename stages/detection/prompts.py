"""Free text -> Grounding DINO captions, and the way back from a token of a caption to its prompt."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from stages.errors import ConfigError

# What parts one prompt from the next. A stop or comma between two digits ("3.5 inch disk") belongs to the number.
_SEPARATOR = re.compile(r"[;?\n…。、，；？．]|(?<!\d)[.,]|[.,](?!\d)")  # noqa: RUF001
# Grounding DINO parts phrases at these, so a phrase must not hold one.
_DELIMITER = re.compile(r"[.?]")

# Ids that transformers' Grounding DINO hard-codes (SPECIAL_TOKENS in modeling_grounding_dino): BERT's [CLS], [SEP], "."
# and "?"; 0 is its padding.
CLS, SEP, STOP, QUESTION, PAD = 101, 102, 1012, 1029, 0
DELIMITERS = frozenset({CLS, SEP, STOP, QUESTION, PAD})
NO_PROMPT = -1


@dataclass(frozen=True, slots=True)
class Prompt:
    """One thing to look for."""

    written: str  # as the user typed it
    phrase: str  # as the model reads it: lower case, one space between words, no full stop


@dataclass(frozen=True, slots=True)
class Caption:
    """One text input of the model: ``[CLS] phrase . phrase . [SEP]``; T tokens."""

    input_ids: tuple[int, ...]  # (T,)
    prompt_of_token: tuple[int, ...]  # (T,) index into the prompts, NO_PROMPT for [CLS], "." and [SEP]


def parse_prompts(texts: Sequence[str]) -> tuple[Prompt, ...]:
    """Split texts as people type them ("Red Circle", "red circle, blue square.") into prompts, each phrase once.

    Raises ConfigError for a text without a letter or digit.
    """
    prompts: dict[str, Prompt] = {}
    for text in texts:
        pieces = [piece.strip() for piece in _SEPARATOR.split(text)]
        found = [Prompt(piece, phrase) for piece in pieces if (phrase := _phrase(piece))]
        if not found:
            raise ConfigError(f"prompt {text[:60]!r} names nothing: write what to look for, such as 'red car'")
        for prompt in found:
            prompts.setdefault(prompt.phrase, prompt)
    return tuple(prompts.values())


def _phrase(piece: str) -> str:
    """Lower case, compatibility characters folded, no punctuation around it; "" if no letter or digit is left."""
    plain = _DELIMITER.sub(" ", unicodedata.normalize("NFKC", piece).lower())
    first, last = 0, len(plain)
    while first < last and not plain[first].isalnum():
        first += 1
    while last > first and not _ends_word(plain[last - 1]):
        last -= 1
    return " ".join(plain[first:last].split())


def _ends_word(character: str) -> bool:
    return character.isalnum() or unicodedata.category(character).startswith("M")  # a vowel sign is part of its letter


def build_captions(prompts: Sequence[Prompt], tokens: Sequence[Sequence[int]], longest: int) -> list[Caption]:
    """Join the prompts' ``tokens`` (ids without special tokens) into captions of at most ``longest`` tokens.

    Every prompt stands in exactly one caption, in order. Raises ConfigError naming a prompt that has no tokens, holds
    a delimiter or is longer than a caption.
    """
    captions: list[Caption] = []
    ids, owners = [CLS], [NO_PROMPT]
    for index, (prompt, phrase) in enumerate(zip(prompts, tokens, strict=True)):
        _check(prompt, phrase, longest)
        if len(ids) + len(phrase) + 2 > longest:
            captions.append(_close(ids, owners))
            ids, owners = [CLS], [NO_PROMPT]
        ids += [*phrase, STOP]
        owners += [index] * len(phrase) + [NO_PROMPT]
    return [*captions, _close(ids, owners)] if len(ids) > 1 else captions


def _check(prompt: Prompt, phrase: Sequence[int], longest: int) -> None:
    shown = repr(prompt.written[:60])
    if not phrase or not DELIMITERS.isdisjoint(phrase):
        raise ConfigError(f"prompt {shown} cannot be read by the detector: write it in plain words")
    if len(phrase) + 3 > longest:
        problem = f"is {len(phrase)} tokens long, the detector reads at most {longest - 3}"
        raise ConfigError(f"prompt {shown} {problem}: shorten it or split it with commas")


def _close(ids: list[int], owners: list[int]) -> Caption:
    return Caption((*ids, SEP), (*owners, NO_PROMPT))
