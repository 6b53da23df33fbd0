"""The bounded memory of one stream's objects.

Every object has a row: its conditioning memories (the first and the latest), its last spatial memories and its last
object pointers, each with the frame it was made on. All of it is allocated once, so the bytes held depend on the
capacity, never on time. Rows 0 to ``count`` - 1 are in use; a row is a place, not an identity: removing an object moves
the last row into its place.
"""

import torch
import torch.nn.functional as F

from stages.segmentation.base import Segmenter
from stages.segmentation.memory import MemoryTokens
from stages.tracking.memory_ring import CONDITIONING, Ring


class MemoryBank:
    """``capacity`` rows on the segmenter's device; L places per memory, channels C_mem and C as in the segmenter.

    ``endless``: what an object remembers ages by the frames that it remembered, not by those that passed, and no
    pointer looks older than the oldest that training saw; upstream forgets what is more than a few frames old, so an
    object that hides for a while is left with its conditioning frames alone. ``dtype``: what spatial memories are
    rounded to; upstream stores bfloat16.
    """

    def __init__(
        self, segmenter: Segmenter, capacity: int, endless: bool = True, dtype: torch.dtype = torch.bfloat16
    ) -> None:
        self._segmenter = segmenter
        self._endless = endless
        self._dtype = dtype
        self._memories, self._pointers = _rings(segmenter, capacity, dtype, segmenter.device)
        # per row, what the host knows without asking the device: frames surely stored, and conditioning frames
        self._stored: list[int] = []
        self._conditioned: list[int] = []
        self._places, self._ages = segmenter.memory_places(), segmenter.memory_ages()
        self.count = 0

    @property
    def capacity(self) -> int:
        """Rows that there is room for."""
        return min(self._memories.capacity, self._pointers.capacity)  # they differ where one could not be resized

    @property
    def nbytes(self) -> int:
        """Bytes held; the same after any number of frames."""
        return self._memories.nbytes + self._pointers.nbytes

    @torch.inference_mode()
    def append(self, frame: int, memories: torch.Tensor, pointers: torch.Tensor) -> None:
        """Give B new objects rows, with the conditioning memories (B, L, C_mem) and pointers (B, C) of ``frame``."""
        rows = slice(self.count, self.count + len(memories))
        for ring, values in ((self._memories, memories), (self._pointers, pointers)):
            ring.forget(rows)
            ring.condition(rows, 0, frame, values)
        self._stored += [0] * len(memories)
        self._conditioned += [1] * len(memories)
        self.count += len(memories)

    @torch.inference_mode()
    def recondition(self, row: int, frame: int, memory: torch.Tensor, pointer: torch.Tensor, forget: bool) -> None:
        """Make ``frame`` the row's latest conditioning frame; ``forget`` drops the recent memories, which drifted."""
        for ring, value in ((self._memories, memory), (self._pointers, pointer)):
            if forget:
                ring.forget(row)
            ring.condition(row, CONDITIONING - 1, frame, value)
        self._conditioned[row] = CONDITIONING
        if forget:
            self._stored[row] = 0

    def settle(self) -> None:
        """Ask the device how many frames the rows have stored: with a key mask for none, attention is faster."""
        self._stored = self._memories.written(self.count)

    @torch.inference_mode()
    def remember(self, frame: int, memories: torch.Tensor, pointers: torch.Tensor, store: torch.Tensor) -> None:
        """Write recent memories (count, L, C_mem) and pointers (count, C) in the rows that ``store`` (count,) names."""
        self._memories.push(frame, memories, store)
        self._pointers.push(frame, pointers, store)

    @torch.inference_mode()
    def amend(self, row: int, frame: int, memory: torch.Tensor, pointer: torch.Tensor) -> None:
        """Replace what a row remembers of ``frame``, the last one, be it as a conditioning frame or a recent one."""
        self._memories.amend(row, frame, memory)
        self._pointers.amend(row, frame, pointer)

    def conditioned_on(self, row: int, frame: int) -> bool:
        """Whether ``frame`` is one of the row's conditioning frames."""
        return bool((self._memories.frames[row, :CONDITIONING] == frame).any())

    @torch.inference_mode()
    def remove(self, row: int) -> None:
        """Free a row; the last row takes its place."""
        self.count -= 1
        self._memories.move(self.count, row)
        self._pointers.move(self.count, row)
        for known in (self._stored, self._conditioned):
            known[row] = known[-1]
            known.pop()

    @torch.inference_mode()
    def resize(self, capacity: int) -> None:
        """Make room for ``capacity`` rows, at least as many as are in use; memory that is no longer needed is freed."""
        slots = _slots(self._segmenter, self._dtype, self._segmenter.device)
        for ring, like in zip((self._memories, self._pointers), slots, strict=True):
            ring.refit(capacity, self.count, like, lambda kept: kept)

    @torch.inference_mode()
    def rescale(self, segmenter: Segmenter) -> None:
        """Go on with the same model for pictures of another size; what is remembered is resampled to its places."""
        before, after = (self._segmenter.side,) * 2, (segmenter.side,) * 2

        def resampled(memories: torch.Tensor) -> torch.Tensor:
            maps = memories.float().unflatten(1, before).permute(0, 3, 1, 2)
            return F.interpolate(maps, after, mode="bilinear", antialias=True).flatten(2).transpose(1, 2)

        like, places = _slots(segmenter, self._dtype, segmenter.device)[0], segmenter.memory_places()
        self._memories.refit(self.capacity, self.count, like, resampled)
        self._segmenter, self._places = segmenter, places

    @torch.inference_mode()
    def recall(self, frame: int) -> MemoryTokens:
        """All that the rows remember of frames before ``frame``."""
        memories, memory_positions, memory_valid = self._recall_memories(frame)
        pointers, pointer_positions, pointer_valid = self._recall_pointers(frame)
        valid = None if self._all_full() else torch.cat([memory_valid, pointer_valid], dim=1)
        if valid is not None and not self._segmenter.static and bool(valid.all()):
            valid = None
        tokens, positions = (
            torch.cat([memories, pointers], dim=1),
            torch.cat([memory_positions, pointer_positions], dim=1),
        )
        return MemoryTokens(tokens, positions, pointers.shape[1], valid)

    def _all_full(self) -> bool:
        """Whether every slot of every row that is read counts, as far as the host knows."""
        enough = self._segmenter.recent_pointers
        same = len(set(self._conditioned)) == 1
        return self._endless and same and all(n >= enough for n in self._stored)

    def _slots(self, ring: Ring, frame: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The slots of a ring to read, their ages, and which of them count; on a CPU only those that any row uses."""
        conditioning = max(self._conditioned, default=1)
        slots, age, valid = ring.before(frame, self.count, conditioning, self._endless)
        if self._segmenter.static:  # so that shapes never change
            return slots, age, valid
        used = valid.any(0).nonzero()[:, 0]
        return slots[:, used], age[:, used], valid[:, used]

    def _recall_memories(self, frame: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        slots, age, valid = self._slots(self._memories, frame)
        code = age.clamp(1, self._segmenter.recent_memories) - 1
        code = torch.where(slots < CONDITIONING, len(self._ages) - 1, code)
        positions = (self._ages[code][:, :, None] + self._places).flatten(1, 2)
        memories = self._memories.read(slots).flatten(1, 2).float()
        return memories, positions, valid.repeat_interleave(len(self._places), dim=1)

    def _recall_pointers(self, frame: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        slots, age, valid = self._slots(self._pointers, frame)
        if self._endless:
            age = age.clamp(max=self._segmenter.recent_pointers)
        positions = self._segmenter.pointer_ages(age.float())
        # a pointer is longer than a memory's channels: it is read as several tokens
        tokens = self._segmenter.pointer_dim // self._segmenter.memory_dim
        pointers = self._pointers.read(slots).unflatten(2, (tokens, -1)).flatten(1, 2)
        return pointers, positions.repeat_interleave(tokens, dim=1), valid.repeat_interleave(tokens, dim=1)


def bank_bytes(segmenter: Segmenter, capacity: int, dtype: torch.dtype = torch.bfloat16) -> int:
    """The ``nbytes`` of a MemoryBank, without making one."""
    return sum(ring.nbytes for ring in _rings(segmenter, capacity, dtype, torch.device("meta")))


def _rings(segmenter: Segmenter, capacity: int, dtype: torch.dtype, device: torch.device) -> tuple[Ring, Ring]:
    """Empty rings of spatial memories and of pointers."""
    memory, pointer = _slots(segmenter, dtype, device)
    return Ring(capacity, segmenter.recent_memories, memory), Ring(capacity, segmenter.recent_pointers, pointer)


def _slots(segmenter: Segmenter, dtype: torch.dtype, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """What a slot of each ring holds."""
    memory = torch.zeros(segmenter.side**2, segmenter.memory_dim, dtype=dtype, device=device)
    return memory, torch.zeros(segmenter.pointer_dim, device=device)
