"""Training batches, drawn by worker processes where there are any."""

from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

T = TypeVar("T")


class _Steps(IterableDataset[T]):
    """What ``draw`` gives for each step from ``first`` to before ``last``; of n workers each takes every n-th step."""

    def __init__(self, draw: Callable[[int], T], first: int, last: int) -> None:
        self._draw, self._first, self._last = draw, first, last

    def __iter__(self) -> Iterator[T]:
        worker = get_worker_info()
        number, count = (worker.id, worker.num_workers) if worker else (0, 1)
        for step in range(self._first + number, self._last, count):
            yield self._draw(step)


def batches(draw: Callable[[int], T], first: int, last: int, workers: int) -> Iterator[T]:
    """``draw(step)`` for each step in order. It must be picklable, and depend on nothing but the step."""
    if workers:  # else each tensor on its way holds an open file, and there may be 1024
        torch.multiprocessing.set_sharing_strategy("file_system")
    return iter(DataLoader(_Steps(draw, first, last), batch_size=None, num_workers=workers))
