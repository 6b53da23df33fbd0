"""Reads the pictures that --data names, and tells of those that cannot be read."""

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainer.data.datasets import Data

NAMED = 20  # broken pictures that are named one by one


def read_pictures(source: str, seed: int, quiet: bool = False) -> "Data":
    """``load_data``; ``quiet`` where another process tells. Raises ConfigError, SourceError."""
    from trainer.data.datasets import load_data

    data = load_data(source, seed, quiet)
    if not quiet:
        for line in data.skipped[:NAMED]:
            print(f"maskcast: skipped: {line}", file=sys.stderr)
        if len(data.skipped) > NAMED:
            print(f"maskcast: skipped: {len(data.skipped) - NAMED} more", file=sys.stderr)
    return data
