"""Nouns in messages."""


def plural(number: float, one: str, many: str = "") -> str:
    """The noun for a number of things: frame, frames; ``many`` where the plural is not ``one`` with an "s"."""
    return one if number == 1 else many or f"{one}s"
