"""Recall: what a memory bank has stored of some objects becomes the tokens of the memory attention."""

from dataclasses import dataclass

import torch

from stages.segmentation.base import Segmenter
from stages.segmentation.memory import MemoryTokens
from stages.tracking.memory.ring import CONDITIONING, slots_before


@dataclass(frozen=True, slots=True)
class Recall:
    """Reads the rows of a bank; a pure function that compares equal to others with the same fields.

    No read synchronises with the host where ``segmenter`` is static.
    """

    segmenter: Segmenter
    conditioning: int  # conditioning slots that are read
    endless: bool  # as for the bank
    masked: bool  # some slots may be empty, so attention needs a key mask

    def __call__(self, clock: torch.Tensor, rows: tuple[torch.Tensor, ...]) -> MemoryTokens:
        """The memory of B rows of frames before ``clock``; ``rows``: `Ring.stored` of memories, then of pointers."""
        memories, memory_positions, memory_valid = self._memories(clock, *rows[:3])
        pointers, pointer_positions, pointer_valid = self._pointers(clock, *rows[3:])
        if not self.masked and self.conditioning == 1:
            pointer_positions = pointer_positions[:1]  # the pointer of the one conditioning frame is the oldest
        else:
            memory_positions = memory_positions.expand(len(memories), -1, -1)
        tokens = torch.cat([memories, pointers], dim=1)
        positions = torch.cat([memory_positions, pointer_positions], dim=1)
        valid = torch.cat([memory_valid, pointer_valid], dim=1) if self.masked else None
        if valid is not None and not self.segmenter.static and bool(valid.all()):
            valid = None
        return MemoryTokens(tokens, positions, pointers.shape[1], valid)

    def _slots(
        self, clock: torch.Tensor, frames: torch.Tensor, written: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The slots of a ring to read, their ages, and which are valid.

        Where shapes may vary, slots that are valid in no row are left out.
        """
        slots, age, valid = slots_before(clock, frames, written, self.conditioning, self.endless)
        if self.segmenter.static:
            return slots, age, valid
        used = valid.any(0).nonzero()[:, 0]
        return slots[:, used], age[:, used], valid[:, used]

    def _memories(
        self, clock: torch.Tensor, values: torch.Tensor, frames: torch.Tensor, written: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Tokens (B, M * L, C_mem) of the spatial memories, their position encodings, and which are valid.

        The encodings are those of all rows, (1, M * L, C_mem), where memories age by rank.
        """
        slots, age, valid = self._slots(clock, frames, written)
        memories = _take(values, slots).flatten(1, 2).to(self.segmenter.dtype)
        if self.endless:
            slots, age = slots[:1], age[:1]
        places, times = self.segmenter.memory_position_encoding(), self.segmenter.memory_time_encoding()
        time = age.clamp(1, self.segmenter.recent_memories) - 1
        time = torch.where(slots < CONDITIONING, len(times) - 1, time)
        positions = (times[time][:, :, None] + places).flatten(1, 2)
        return memories, positions, valid.repeat_interleave(len(places), dim=1)

    def _pointers(
        self, clock: torch.Tensor, values: torch.Tensor, frames: torch.Tensor, written: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The same of the object pointers, (B, P * C / C_mem, C_mem): a pointer is split into several tokens."""
        slots, age, valid = self._slots(clock, frames, written)
        if self.endless:
            age = age.clamp(max=self.segmenter.recent_pointers)
        positions = self.segmenter.pointer_time_encoding(age.float())
        tokens = self.segmenter.pointer_dim // self.segmenter.memory_dim
        pointers = _take(values, slots).unflatten(2, (tokens, -1)).flatten(1, 2).to(self.segmenter.dtype)
        return pointers, positions.repeat_interleave(tokens, dim=1), valid.repeat_interleave(tokens, dim=1)


def _take(values: torch.Tensor, slots: torch.Tensor) -> torch.Tensor:
    """The values of slots (B, S), (B, S, ...)."""
    return values[torch.arange(len(slots), device=slots.device)[:, None], slots]
