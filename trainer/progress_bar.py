"""Progress of an iteration on stderr: a bar on a terminal, else a line every ten seconds."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.markup import escape
from rich.progress import track

LINE_EVERY = 10.0  # seconds
Item = TypeVar("Item")


def progress_bar(items: Iterable[Item], total: int | None, what: str) -> Iterator[Item]:
    """Yield ``items`` and show the progress; ``total`` None: unknown."""
    console = Console(stderr=True)
    if console.is_terminal:
        yield from track(items, escape(what), total, console=console, transient=True)
        return
    last = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        if time.monotonic() - last >= LINE_EVERY:
            last = time.monotonic()
            of = "" if total is None else f" of {total}"
            print(f"maskcast: {what}: {done}{of}", file=sys.stderr, flush=True)
