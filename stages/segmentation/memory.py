"""The memory that a segmenter attends to when it propagates objects to the next frame."""

from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True, eq=False)
class MemoryTokens:
    """Keys and values of the memory attention for B objects on one frame; M spatial memories, P object pointers."""

    tokens: torch.Tensor  # (B, M * L + P * C / C_mem, C_mem), in the segmenter's dtype
    positions: torch.Tensor  # position encodings, float32, the same shape; (1, ...) where all objects have the same
    pointer_tokens: int  # how many of the last tokens are pointers: they get no rotary encoding
    valid: torch.Tensor | None  # (B, tokens) bool key mask; None where every token counts


@dataclass(frozen=True, slots=True, eq=False)
class StoredMemory:
    """What a memory bank holds of B objects, and the function that makes tokens of it.

    ``read`` is a pure function of ``clock`` and ``rows``. Such functions compare equal when they do the same, so that
    what a segmenter has captured with one stream's memory can be replayed for another stream.
    """

    clock: torch.Tensor  # () int64, the number of the frame on which the objects are looked for
    rows: tuple[torch.Tensor, ...]  # each (B, ...)
    read: Callable[[torch.Tensor, tuple[torch.Tensor, ...]], MemoryTokens]

    @property
    def tokens(self) -> MemoryTokens:
        """The tokens of all B objects."""
        return self.read(self.clock, self.rows)
