"""The bounded memory of one stream's objects.

Every object has a row: its conditioning memories (the first and the latest), its last ``recent_memories`` spatial
memories and its last ``recent_pointers`` object pointers, each with the frame it was made on. All of it is allocated
once, so the bytes held depend on the capacity, never on time. Rows 0 to ``count`` - 1 are in use; a row is a place, not
an identity: removing an object moves the last row into its place.
"""

import torch

from stages.sam2_model import Segmenter
from stages.sam2_streaming import Recollection

CONDITIONING = 2  # conditioning frames kept per object
_NEVER = -1


class MemoryBank:
    """``capacity`` rows on the segmenter's device; L places per memory, channels C_mem and C as in the segmenter."""

    def __init__(self, segmenter: Segmenter, capacity: int, clamp_pointer_ages: bool = True) -> None:
        self._segmenter = segmenter
        self._clamp = clamp_pointer_ages
        self._recent, self._pointers_kept = segmenter.recent_memories, segmenter.recent_pointers
        device, places = segmenter.device, segmenter.side**2
        memories, pointers = CONDITIONING + self._recent, CONDITIONING + self._pointers_kept
        # bfloat16 as upstream stores them
        self._memories = torch.zeros(
            capacity, memories, places, segmenter.memory_dim, dtype=torch.bfloat16, device=device
        )
        self._pointers = torch.zeros(capacity, pointers, segmenter.pointer_dim, device=device)
        self._memory_frames = torch.full((capacity, memories), _NEVER, device=device)
        self._pointer_frames = torch.full((capacity, pointers), _NEVER, device=device)
        self._written = torch.zeros(capacity, dtype=torch.long, device=device)
        self._places, self._ages = segmenter.memory_places(), segmenter.memory_ages()
        self.capacity, self.count = capacity, 0

    @property
    def nbytes(self) -> int:
        """Bytes held; the same after any number of frames."""
        held = (self._memories, self._pointers, self._memory_frames, self._pointer_frames, self._written)
        return sum(tensor.numel() * tensor.element_size() for tensor in held)

    @torch.inference_mode()
    def append(self, frame: int, memories: torch.Tensor, pointers: torch.Tensor) -> None:
        """Give B new objects rows, with the conditioning memories (B, L, C_mem) and pointers (B, C) of ``frame``."""
        rows = slice(self.count, self.count + len(memories))
        self._memory_frames[rows] = self._pointer_frames[rows] = _NEVER
        self._written[rows] = 0
        self._memories[rows, 0], self._pointers[rows, 0] = memories.to(torch.bfloat16), pointers.float()
        self._memory_frames[rows, 0] = self._pointer_frames[rows, 0] = frame
        self.count += len(memories)

    @torch.inference_mode()
    def recondition(self, row: int, frame: int, memory: torch.Tensor, pointer: torch.Tensor, forget: bool) -> None:
        """Make ``frame`` the row's latest conditioning frame; ``forget`` drops the recent memories, which drifted."""
        self._memories[row, 1], self._pointers[row, 1] = memory.to(torch.bfloat16), pointer.float()
        self._memory_frames[row, 1] = self._pointer_frames[row, 1] = frame
        if forget:
            self._memory_frames[row, CONDITIONING:] = self._pointer_frames[row, CONDITIONING:] = _NEVER

    @torch.inference_mode()
    def remember(self, frame: int, memories: torch.Tensor, pointers: torch.Tensor, store: torch.Tensor) -> None:
        """Write recent memories (count, L, C_mem) and pointers (count, C) in the rows that ``store`` (count,) names."""
        rows = torch.arange(self.count, device=store.device)
        slot = CONDITIONING + self._written[: self.count] % self._recent
        kept = self._memories[rows, slot]
        self._memories[rows, slot] = torch.where(store[:, None, None], memories.to(torch.bfloat16), kept)
        self._memory_frames[rows, slot] = torch.where(store, frame, self._memory_frames[rows, slot])
        slot = CONDITIONING + self._written[: self.count] % self._pointers_kept
        self._pointers[rows, slot] = torch.where(store[:, None], pointers.float(), self._pointers[rows, slot])
        self._pointer_frames[rows, slot] = torch.where(store, frame, self._pointer_frames[rows, slot])
        self._written[: self.count] += store

    @torch.inference_mode()
    def remove(self, row: int) -> None:
        """Free a row; the last row takes its place."""
        self.count -= 1
        for tensor in (self._memories, self._pointers, self._memory_frames, self._pointer_frames, self._written):
            tensor[row] = tensor[self.count]

    @torch.inference_mode()
    def appearances(self) -> torch.Tensor:
        """The pointer of each row's first conditioning frame, (count, C)."""
        return self._pointers[: self.count, 0]

    @torch.inference_mode()
    def recall(self, frame: int) -> Recollection:
        """All that the rows remember, as seen from ``frame``."""
        memories, memory_positions, memory_valid = self._recall_memories(frame)
        pointers, pointer_positions, pointer_valid = self._recall_pointers(frame)
        valid = torch.cat([memory_valid, pointer_valid], dim=1)
        everything = self._segmenter.device.type == "cpu" and bool(valid.all())  # on a GPU the question would stall
        return Recollection(
            torch.cat([memories, pointers], dim=1),
            torch.cat([memory_positions, pointer_positions], dim=1),
            pointers.shape[1],
            None if everything else valid,
        )

    def _recall_memories(self, frame: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        frames = self._memory_frames[: self.count]
        age = frame - frames
        valid = frames != _NEVER
        valid[:, CONDITIONING:] &= age[:, CONDITIONING:] <= self._recent
        code = age.clamp(1, self._recent) - 1
        code[:, :CONDITIONING] = len(self._ages) - 1
        used = self._used(valid)
        memories = self._memories[: self.count, used].flatten(1, 2).float()
        positions = (self._ages[code[:, used]][:, :, None] + self._places).flatten(1, 2)
        return memories, positions, valid[:, used].repeat_interleave(len(self._places), dim=1)

    def _recall_pointers(self, frame: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        frames = self._pointer_frames[: self.count]
        age = frame - frames
        valid = frames != _NEVER
        valid[:, CONDITIONING:] &= age[:, CONDITIONING:] <= self._pointers_kept
        if self._clamp:
            age = age.clamp(max=self._pointers_kept)
        used = self._used(valid)
        positions = self._segmenter.pointer_ages(age[:, used].float())
        # a pointer is longer than a memory's channels: it is read as several tokens
        tokens = self._segmenter.pointer_dim // self._segmenter.memory_dim
        pointers = self._pointers[: self.count, used].unflatten(2, (tokens, -1)).flatten(1, 2)
        return pointers, positions.repeat_interleave(tokens, dim=1), valid[:, used].repeat_interleave(tokens, dim=1)

    def _used(self, valid: torch.Tensor) -> torch.Tensor | slice:
        """The slots that any row uses; on a GPU all of them, so that shapes never change."""
        return valid.any(0).nonzero()[:, 0] if valid.device.type == "cpu" else slice(None)
