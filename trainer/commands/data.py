"""Load the data of --data and report the files that cannot be read."""

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainer.data.datasets import Data

MAX_REPORTED = 20  # broken images that are reported one by one


def read_data(source: str, seed: int, quiet: bool = False) -> "Data":
    """``load_data`` that reports skipped files, unless ``quiet``. Raises ConfigError, SourceError."""
    from trainer.data.datasets import load_data

    data = load_data(source, seed, quiet)
    if not quiet:
        for line in data.skipped[:MAX_REPORTED]:
            print(f"maskcast: skipped: {line}", file=sys.stderr)
        if len(data.skipped) > MAX_REPORTED:
            print(f"maskcast: skipped: {len(data.skipped) - MAX_REPORTED} more", file=sys.stderr)
    return data
