"""Contrast phrases: read together with few prompts, never reported, so that other things are not taken for a prompt's.

A detector that reads one phrase alone gives it to much that only resembles it. With other phrases beside it, those
things go to them.
"""

from collections.abc import Callable, Sequence

from stages.detection.prompts import Prompt

FEW = 5  # phrases that a detector reads at least, prompts and contrasts together

# for the embedded model, which knows nothing else; no two neighbours share a word
_SHAPES = ("blue square", "green star", "orange triangle", "purple circle", "yellow square", "red triangle")


def choose_contrasts(prompts: Sequence[Prompt], knows: Callable[[str], bool]) -> tuple[Prompt, ...]:
    """As many contrasts as the prompts are fewer than ``FEW``; none for a model that ``knows`` the words of the world.

    A phrase whose words are all in a prompt, or the other way round, is none: it may name the same thing.
    """
    if knows("person"):  # what contrasts bring such a model has not been measured
        return ()
    asked = [set(prompt.phrase.split()) for prompt in prompts]
    others = [phrase for phrase in _SHAPES if not any(_same(set(phrase.split()), words) for words in asked)]
    return tuple(Prompt(phrase, phrase) for phrase in others[: max(0, FEW - len(asked))])


def _same(words: set[str], others: set[str]) -> bool:
    return words <= others or others <= words
