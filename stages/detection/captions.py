"""Captions, the text inputs of Grounding DINO: several phrases in one text, and the prompt that each token is from."""

from collections.abc import Sequence
from dataclasses import dataclass

from stages.detection.prompts import Prompt
from stages.errors import ConfigError

# Token ids that transformers' Grounding DINO hard-codes (SPECIAL_TOKENS in modeling_grounding_dino): BERT's [CLS],
# [SEP], "." and "?". PAD is the padding.
CLS, SEP, STOP, QUESTION, PAD = 101, 102, 1012, 1029, 0
DELIMITERS = frozenset({CLS, SEP, STOP, QUESTION, PAD})  # must not occur within a phrase
NO_PROMPT = -1


@dataclass(frozen=True, slots=True)
class Caption:
    """One text input of the model, ``[CLS] phrase . phrase . [SEP]``, of T tokens."""

    input_ids: tuple[int, ...]  # (T,)
    prompt_of_token: tuple[int, ...]  # (T,) index into the prompts, NO_PROMPT for [CLS], "." and [SEP]


def build_captions(prompts: Sequence[Prompt], tokens: Sequence[Sequence[int]], longest: int) -> list[Caption]:
    """Join the prompts' ``tokens`` (ids without special tokens) into captions of at most ``longest`` tokens.

    Every prompt is in exactly one caption, in order. Raises ConfigError naming a prompt that has no tokens, contains a
    delimiter or is longer than a caption.
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
