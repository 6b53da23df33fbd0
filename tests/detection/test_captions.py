"""The captions that Grounding DINO reads, built from the prompts' tokens."""

import pytest
from transformers import AutoTokenizer
from transformers.models.grounding_dino.modeling_grounding_dino import SPECIAL_TOKENS

from stages.detection.captions import CLS, DELIMITERS, NO_PROMPT, PAD, SEP, STOP, build_captions
from stages.detection.grounding_dino import EMBEDDED
from stages.detection.prompts import Prompt, parse_prompts
from stages.errors import ConfigError


def _prompts(count: int) -> list[Prompt]:
    return [Prompt(f"Thing {i}", f"thing {i}") for i in range(count)]


def test_caption_knows_the_prompt_of_each_token() -> None:
    """A caption is [CLS] phrase . phrase . [SEP], and only the words of a phrase belong to its prompt."""
    (caption,) = build_captions(_prompts(2), [[7], [8, 9]], 16)
    assert caption.input_ids == (CLS, 7, STOP, 8, 9, STOP, SEP)
    assert caption.prompt_of_token == (NO_PROMPT, 0, NO_PROMPT, 1, 1, NO_PROMPT, NO_PROMPT)


def test_prompts_that_do_not_fit_go_into_further_captions() -> None:
    """Each of three hundred prompts is in one caption, whole and in order, and no caption is too long."""
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
    """The ids that separate phrases are those in the code of transformers' Grounding DINO, and padding."""
    assert set(SPECIAL_TOKENS) == DELIMITERS - {PAD}
