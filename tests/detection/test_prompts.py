"""Prompts as people type them, and the captions built from them."""

import pytest
from transformers import AutoTokenizer
from transformers.models.grounding_dino.modeling_grounding_dino import SPECIAL_TOKENS

from stages.detection.grounding_dino import EMBEDDED
from stages.detection.prompts import CLS, DELIMITERS, NO_PROMPT, PAD, SEP, STOP, Prompt, build_captions, parse_prompts
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
        ([], []),
    ],
)
def test_text_becomes_phrases(texts: list[str], phrases: list[str]) -> None:
    """Commas, stops, question marks, semicolons and lines part prompts; case, space and outer punctuation go."""
    assert [prompt.phrase for prompt in parse_prompts(texts)] == phrases


def test_prompts_keep_what_was_written() -> None:
    """Beside the phrase stands the piece as the user typed it."""
    assert parse_prompts(["Red  Circle.", "a Dog, A CAT"]) == (
        Prompt("Red  Circle", "red circle"),
        Prompt("a Dog", "a dog"),
        Prompt("A CAT", "a cat"),
    )


def test_a_phrase_is_looked_for_once() -> None:
    """Of prompts that mean the same phrase the first one stays."""
    assert parse_prompts(["Red Circle", "star", "red circle.", "RED  CIRCLE, star"]) == (
        Prompt("Red Circle", "red circle"),
        Prompt("star", "star"),
    )


@pytest.mark.parametrize("text", ["", "   ", ".", "?!", ", ,", "-", "\N{DOG FACE}", "\u200b"])
def test_a_text_that_names_nothing_is_refused(text: str) -> None:
    """A text without a letter or digit is a one-line ConfigError, also beside good ones."""
    with pytest.raises(ConfigError, match=r"^prompt '.*' names nothing: .*$"):
        parse_prompts(["red circle", text])


def _prompts(count: int) -> list[Prompt]:
    return [Prompt(f"Thing {i}", f"thing {i}") for i in range(count)]


def test_caption_knows_the_prompt_of_each_token() -> None:
    """A caption is [CLS] phrase . phrase . [SEP], and only the words of a phrase belong to its prompt."""
    (caption,) = build_captions(_prompts(2), [[7], [8, 9]], 16)
    assert caption.input_ids == (CLS, 7, STOP, 8, 9, STOP, SEP)
    assert caption.prompt_of_token == (NO_PROMPT, 0, NO_PROMPT, 1, 1, NO_PROMPT, NO_PROMPT)


def test_prompts_that_do_not_fit_go_into_further_captions() -> None:
    """Three hundred prompts stand once each, whole and in order, in captions that are not too long."""
    tokens = [[2000 + i] * (1 + i % 4) for i in range(300)]
    captions = build_captions(_prompts(300), tokens, 48)
    found: dict[int, list[int]] = {}
    for caption in captions:
        assert len(caption.input_ids) == len(caption.prompt_of_token) <= 48
        for token, prompt in zip(caption.input_ids, caption.prompt_of_token, strict=True):
            if prompt == NO_PROMPT:
                assert token in (CLS, STOP, SEP)
            else:
                found.setdefault(prompt, []).append(token)
    assert list(found.values()) == tokens
    assert list(found) == list(range(300))


def test_a_caption_is_filled_to_the_last_token() -> None:
    """A phrase may be as long as a caption allows, three tokens less than the limit; no caption is empty."""
    captions = build_captions(_prompts(3), [[7] * 5, [8] * 5, [9]], 8)
    assert [len(caption.input_ids) for caption in captions] == [8, 8, 4]
    assert build_captions([], [], 8) == []


def test_a_phrase_longer_than_a_caption_is_refused_by_name() -> None:
    """The error names the prompt as written, its length and the limit."""
    with pytest.raises(ConfigError, match=r"^prompt 'Thing 1' is 6 tokens long, the detector reads at most 5: .*$"):
        build_captions(_prompts(2), [[7], [8] * 6], 8)


@pytest.mark.parametrize("tokens", [[], [7, STOP, 8], [7, SEP], [PAD]])
def test_a_phrase_that_would_break_the_caption_is_refused_by_name(tokens: list[int]) -> None:
    """No token at all, or one that the model takes for the end of a phrase, would shift every later prompt."""
    with pytest.raises(ConfigError, match=r"^prompt 'Thing 0' cannot be read by the detector: .*$"):
        build_captions(_prompts(1), [tokens], 48)


def test_captions_are_what_the_tokenizer_makes_of_the_joined_text() -> None:
    """Built from the phrases' tokens, a caption equals the tokenizer's own reading of "phrase. phrase."."""
    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED)
    prompts = parse_prompts(
        ["Red Circle, the blue squares, a green, star", "purple Überraschung", "yellow's t-triangle"]
    )
    tokens = [tokenizer.encode(prompt.phrase, add_special_tokens=False) for prompt in prompts]
    (caption,) = build_captions(prompts, tokens, 64)
    text = ". ".join(prompt.phrase for prompt in prompts) + "."
    assert list(caption.input_ids) == tokenizer.encode(text)


def test_delimiters_are_those_of_the_library() -> None:
    """The ids that part phrases are the ones that transformers' Grounding DINO has in its code, and padding."""
    assert set(SPECIAL_TOKENS) == DELIMITERS - {PAD}
