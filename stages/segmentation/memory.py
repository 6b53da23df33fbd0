"""The memory that a segmenter attends to when it propagates objects to the next frame."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass(frozen=True, slots=True, eq=False)
class MemoryTokens:
    """Keys and values of the memory attention for B objects on one frame; M spatial memories, P object pointers."""

    tokens: torch.Tensor  # (B, M * L + P * C / C_mem, C_mem)
    positions: torch.Tensor  # position encodings, the same shape
    pointer_tokens: int  # how many of the last tokens are pointers: they get no rotary encoding
    valid: torch.Tensor | None  # (B, tokens) bool key mask; None where every token counts

    def rows(self, rows: slice) -> "MemoryTokens":
        """The memory of some of the objects."""
        valid = None if self.valid is None else self.valid[rows]
        return MemoryTokens(self.tokens[rows], self.positions[rows], self.pointer_tokens, valid)

    def padded(self, objects: int) -> "MemoryTokens":
        """The same, padded to ``objects`` with objects whose tokens are zeros."""
        more = (0, 0, 0, 0, 0, objects - len(self.tokens))
        valid = None if self.valid is None else F.pad(self.valid, more[2:], value=True)
        return MemoryTokens(F.pad(self.tokens, more), F.pad(self.positions, more), self.pointer_tokens, valid)
