"""Which words of a prompt the detector's tokenizer knows."""

from typing import Any

from stages.detection.prompts import Prompt
from stages.errors import ConfigError

_ARTICLES = frozenset(("a", "an", "the"))  # name nothing


class Vocabulary:
    """The words of a WordPiece tokenizer (BERT). ``advice``: what to write in place of an unknown word.

    The tokenizer replaces a word by [UNK] when it lacks one of its letters, or when it is longer than 100 letters. It
    spells words of other scripts letter by letter, such as Cyrillic ones; a model that was trained on English has
    learned nothing about them.
    """

    def __init__(self, tokenizer: Any, advice: str) -> None:
        self._tokenizer, self._advice = tokenizer, advice

    def tokens(self, prompt: Prompt) -> list[int]:
        """The ids of the prompt's tokens, without special ones. Raises ConfigError where none of them is known."""
        ids: list[int] = self._tokenizer.encode(prompt.phrase, add_special_tokens=False, verbose=False)
        pieces = self._pieces(prompt.phrase)
        if self._tokenizer.unk_token in pieces and not any(map(self._is_known, pieces)):
            raise ConfigError(
                f"the detector knows no word of {prompt.written[:60]!r}, so it would never find it: {self._advice}"
            )
        return ids

    def doubt(self, prompt: Prompt) -> str | None:
        """A line that names the words of the prompt that are unknown or only spelled; None where there are none."""
        unknown = [word for word in prompt.phrase.split() if not self._knows(word)]
        if not unknown:
            return None
        words = ", ".join(repr(word[:60]) for word in unknown)
        return f"prompt {prompt.written[:60]!r}: the detector does not know {words}; {self._advice}"

    def _pieces(self, text: str) -> list[str]:
        pieces: list[str] = self._tokenizer.tokenize(text, verbose=False)
        return pieces

    def _is_known(self, piece: str) -> bool:
        """Whether the piece of a word says anything: an unknown word, an article or punctuation does not."""
        letters = piece.removeprefix("##")
        return piece != self._tokenizer.unk_token and letters not in _ARTICLES and any(map(str.isalnum, letters))

    def _knows(self, word: str) -> bool:
        pieces = self._pieces(word)
        spelled = all(len(piece.removeprefix("##")) == 1 and not piece.isascii() for piece in pieces)
        return self._tokenizer.unk_token not in pieces and not (spelled and pieces)
