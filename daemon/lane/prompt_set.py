"""The prompts of one stream, which may change while it runs."""

from collections.abc import Sequence

from stages.detection.prompts import Prompt
from stages.errors import ConfigError

MOST = 1000  # different prompts in the life of a stream: each keeps its number


class PromptSet:
    """Any thread asks for prompts; the engine takes them up at the next keyframe.

    Each prompt has a number, by which tracks refer to it; it never changes while the stream runs.
    """

    def __init__(self, prompts: Sequence[Prompt], numbered: Sequence[str] = ()) -> None:
        """``numbered``: the texts, by number, of the stream that this one continues."""
        self.written = list(numbered)  # as the user typed them, by number; the list only grows
        self.asked = tuple(prompts)
        self.prompts: tuple[Prompt, ...] = ()  # what the detector looks for
        self.numbers: tuple[int, ...] = ()  # of ``prompts``, in the same order
        self.take_up()

    @property
    def texts(self) -> tuple[str, ...]:
        """The prompts last asked for, as written."""
        return tuple(prompt.written for prompt in self.asked)

    def ask(self, prompts: Sequence[Prompt]) -> None:
        """Look for these, from the next keyframe on. Raises ConfigError when the stream has had too many."""
        new = [prompt for prompt in prompts if prompt.written not in self.written]
        if len(self.written) + len(new) > MOST:
            raise ConfigError(f"a stream takes {MOST} different prompts in its life; remove it and add it again")
        self.asked = tuple(prompts)

    def number(self, written: str) -> int:
        """The number of a prompt. Raises ConfigError when the stream does not look for it."""
        for prompt, number in zip(self.prompts, self.numbers, strict=True):
            if prompt.written == written:
                return number
        if written in self.texts:
            raise ConfigError(f"prompt {written[:60]!r} counts from the next keyframe on; try again then")
        looking = ", ".join(repr(prompt.written) for prompt in self.prompts) or "nothing"
        raise ConfigError(f"no prompt {written[:60]!r}; the stream looks for {looking}")

    def take_up(self) -> frozenset[int]:
        """Engine only: look for the prompts last asked for; returns the numbers of all other prompts."""
        asked = self.asked
        self.written += [prompt.written for prompt in asked if prompt.written not in self.written]
        self.prompts, self.numbers = asked, tuple(self.written.index(prompt.written) for prompt in asked)
        return frozenset(range(len(self.written))).difference(self.numbers)
