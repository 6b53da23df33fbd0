"""Prompts as users type them."""

import pytest

from stages.detection.prompts import Prompt, parse_prompts
from stages.errors import ConfigError


@pytest.mark.parametrize(
    ("texts", "phrases"),
    [
        (["Red Circle"], ["red circle"]),
        (["red circle."], ["red circle"]),
        (["red circle, blue square"], ["red circle", "blue square"]),
        (["red circle. blue square."], ["red circle", "blue square"]),
        (["red circle.blue square"], ["red circle", "blue square"]),
        (["red circle", "blue square"], ["red circle", "blue square"]),
        (["  red \t circle  ,, , "], ["red circle"]),
        (["person; car\ndog? cat!"], ["person", "car", "dog", "cat"]),
        (["'red circle'", "(blue square)", "- star"], ["red circle", "blue square", "star"]),
        (["driver's t-shirt"], ["driver's t-shirt"]),
        (["3.5 inch disk, 1,000 people"], ["3 5 inch disk", "1,000 people"]),
        (["ＲＥＤ　Circle。blue，square、"], ["red circle", "blue", "square"]),  # noqa: RUF001
        (["Café", "КРАСНЫЙ круг", "红色圆圈", "हिन्दी"], ["café", "красный круг", "红色圆圈", "हिन्दी"]),
        (["U.S. flag", "the U.S.A. flag, a dog"], ["u s flag", "the u s a flag", "a dog"]),
        (["Mr. Bean. Dr. Who", "St. Bernard dog"], ["mr bean", "dr who", "st bernard dog"]),
        (["a cat. a dog.", "letter a. letter b"], ["a cat", "a dog", "letter a", "letter b"]),
        (["No. 5 shirt", "no.7 bus. no car"], ["no 5 shirt", "no 7 bus", "no car"]),
        (["3.5 mm jack. 2.0 l bottle"], ["3 5 mm jack", "2 0 l bottle"]),
        (["person\N{CONSTRUCTION WORKER}", "\N{FIRE} truck", "30°c sign"], ["person", "truck", "30°c sign"]),
        ([], []),
    ],
)
def test_text_becomes_phrases(texts: list[str], phrases: list[str]) -> None:
    """Commas, stops, question marks, semicolons and line ends separate prompts; case and outer punctuation go."""
    assert [prompt.phrase for prompt in parse_prompts(texts)] == phrases


def test_prompts_keep_what_was_written() -> None:
    """A prompt keeps its text as the user typed it."""
    assert parse_prompts(["Red  Circle.", "a Dog, A CAT"]) == (
        Prompt("Red  Circle", "red circle"),
        Prompt("a Dog", "a dog"),
        Prompt("A CAT", "a cat"),
    )


def test_a_phrase_is_looked_for_once() -> None:
    """Of prompts with the same phrase the first one is kept."""
    assert parse_prompts(["Red Circle", "star", "red circle.", "RED  CIRCLE, star"]) == (
        Prompt("Red Circle", "red circle"),
        Prompt("star", "star"),
    )


@pytest.mark.parametrize("text", ["", "   ", ".", "?!", ", ,", "-", "\N{DOG FACE}", "\u200b"])
def test_a_text_that_names_nothing_is_refused(text: str) -> None:
    """A text without a letter or digit is a one-line ConfigError, also among valid ones."""
    with pytest.raises(ConfigError, match=r"^prompt '.*' names nothing: .*$"):
        parse_prompts(["red circle", text])
