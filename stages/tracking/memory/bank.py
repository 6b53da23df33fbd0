"""The bounded memory of one stream's objects.

Every object has a row: the memories of its first and latest conditioning frame, its recent spatial memories and its
recent object pointers, each with the frame it was made on. All tensors are allocated once, so the bytes held depend on
the capacity, never on time. Rows 0 to ``count`` - 1 are in use. A row is a position, not an identity: when an object is
removed, the last row moves to its row.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from stages.segmentation.base import Segmenter
from stages.segmentation.memory import StoredMemory
from stages.tracking.memory.recall import Recall
from stages.tracking.memory.ring import CONDITIONING, Ring

_MOST_INDICES = 64  # kept: those of the present groups, and of some before


class MemoryBank:
    """``capacity`` rows on the segmenter's device; L positions per memory, channels C_mem and C as in the segmenter.

    ``endless``: the age of a memory is its rank among those stored, not the number of frames that have passed, and
    pointers look no older than the oldest seen in training. Upstream uses the frames passed and drops what is more than
    a few frames old, so an object that is hidden for a while has only its conditioning frames left. ``dtype``: spatial
    memories are stored in it; upstream's is bfloat16.
    """

    def __init__(
        self, segmenter: Segmenter, capacity: int, endless: bool = True, dtype: torch.dtype = torch.bfloat16
    ) -> None:
        self._segmenter = segmenter
        self._endless = endless
        self._dtype = dtype
        self._memories, self._pointers = _new_rings(segmenter, capacity, dtype, segmenter.device)
        # known without a device synchronisation, per row: frames stored at least, and conditioning frames
        self._stored: list[int] = []
        self._conditioning: list[int] = []
        self._indices: dict[tuple[int, ...], torch.Tensor] = {}  # on the device
        self.count = 0

    @property
    def capacity(self) -> int:
        """Number of rows."""
        return min(self._memories.capacity, self._pointers.capacity)  # they differ after a `resize` that failed halfway

    @property
    def nbytes(self) -> int:
        """Bytes held; the same after any number of frames."""
        return self._memories.nbytes + self._pointers.nbytes

    @torch.inference_mode()
    def append(self, frame: int, memories: torch.Tensor, pointers: torch.Tensor) -> None:
        """Add B rows with conditioning frame ``frame``: its memories (B, L, C_mem) and pointers (B, C)."""
        rows = slice(self.count, self.count + len(memories))
        for ring, values in ((self._memories, memories), (self._pointers, pointers)):
            ring.clear(rows)
            ring.write_conditioning(rows, 0, frame, values)
        self._stored += [0] * len(memories)
        self._conditioning += [1] * len(memories)
        self.count += len(memories)

    @torch.inference_mode()
    def set_conditioning(self, row: int, frame: int, memory: torch.Tensor, pointer: torch.Tensor, clear: bool) -> None:
        """Make ``frame`` the row's latest conditioning frame; ``clear`` also drops its recent memories."""
        for ring, value in ((self._memories, memory), (self._pointers, pointer)):
            if clear:
                ring.clear(row)
            ring.write_conditioning(row, CONDITIONING - 1, frame, value)
        self._conditioning[row] = CONDITIONING
        if clear:
            self._stored[row] = 0

    def written(self) -> torch.Tensor:
        """How many frames each row has stored, (count,), on the device."""
        return self._memories.written(self.count)

    def sync_counts(self, written: list[int]) -> None:
        """Take what was read of ``written``; full rows need no key mask in attention."""
        self._stored = written

    @torch.inference_mode()
    def store(self, frame: int, memories: torch.Tensor, pointers: torch.Tensor, rows: torch.Tensor) -> None:
        """Store recent memories (count, L, C_mem) and pointers (count, C) of the rows set in ``rows`` (count,) bool."""
        self._memories.push(frame, memories, rows)
        self._pointers.push(frame, pointers, rows)

    @torch.inference_mode()
    def replace(self, row: int, frame: int, memory: torch.Tensor, pointer: torch.Tensor) -> None:
        """Replace what a row has stored of ``frame``, the last one, as a conditioning or a recent frame."""
        self._memories.replace(row, frame, memory)
        self._pointers.replace(row, frame, pointer)

    def is_conditioned_on(self, row: int, frame: int) -> bool:
        """Whether ``frame`` is one of the row's conditioning frames."""
        return bool((self._memories.frames[row, :CONDITIONING] == frame).any())

    def begins_before(self, row: int, frame: int) -> bool:
        """Whether the row's first conditioning frame is older than ``frame``."""
        return bool(self._memories.frames[row, 0] < frame)

    @torch.inference_mode()
    def copy(self, row: int, other: "MemoryBank", source: int) -> None:
        """Replace a row by row ``source`` of another bank of the same segmenter; row ``count`` is added as the next."""
        self._memories.copy(row, other._memories, source)
        self._pointers.copy(row, other._pointers, source)
        self._stored[row : row + 1] = [other._stored[source]]
        self._conditioning[row : row + 1] = [other._conditioning[source]]
        self.count = max(self.count, row + 1)

    @torch.inference_mode()
    def remove(self, row: int) -> None:
        """Remove a row; the last row moves to its position."""
        self.count -= 1
        self._memories.move(self.count, row)
        self._pointers.move(self.count, row)
        for counts in (self._stored, self._conditioning):
            counts[row] = counts[-1]
            counts.pop()

    @torch.inference_mode()
    def resize(self, capacity: int) -> None:
        """Change the capacity, which must be at least ``count``; memory that is no longer needed is freed."""
        slots = _slot_formats(self._segmenter, self._dtype, self._segmenter.device)
        for ring, like in zip((self._memories, self._pointers), slots, strict=True):
            ring.refit(capacity, self.count, like, lambda values: values)

    @torch.inference_mode()
    def rescale(self, segmenter: Segmenter) -> None:
        """Switch to the same model for another image size; stored memories are resampled to its feature map."""
        before, after = (self._segmenter.side,) * 2, (segmenter.side,) * 2

        def resample(memories: torch.Tensor) -> torch.Tensor:
            maps = memories.float().unflatten(1, before).permute(0, 3, 1, 2)
            return F.interpolate(maps, after, mode="bilinear", antialias=True).flatten(2).transpose(1, 2)

        like = _slot_formats(segmenter, self._dtype, segmenter.device)[0]
        self._memories.refit(self.capacity, self.count, like, resample)
        self._segmenter = segmenter

    def state_dict(self, full: bool) -> dict[str, dict[str, torch.Tensor]]:
        """What is stored of the rows in use, on the host; without ``full`` only the newest of the recent memories."""
        memories = self._segmenter.recent_memories if full else 1
        return {
            "memories": self._memories.state_dict(self.count, memories),
            "pointers": self._pointers.state_dict(self.count, self._segmenter.recent_pointers),
        }

    @torch.inference_mode()
    def load_state_dict(self, state: dict[str, dict[str, torch.Tensor]], origins: Sequence[int]) -> None:
        """Replace all rows by those of a `state_dict` at ``origins``, in this order."""
        self.count, self._stored, self._conditioning = 0, [], []
        self._memories.load_state_dict(state["memories"], origins)
        self._pointers.load_state_dict(state["pointers"], origins)
        conditioning = (self._memories.frames[: len(origins), :CONDITIONING] >= 0).sum(1)
        self._stored, self._conditioning = self._memories.written(len(origins)).tolist(), conditioning.tolist()
        self.count = len(origins)

    def groups(self) -> list[list[int]]:
        """All rows, in groups that are read together.

        Rows whose slots are all valid, as far as the host knows, form a group for each number of conditioning frames;
        their attention needs no key mask. The others, the young rows, form the last group.
        """
        full: dict[int, list[int]] = {}
        young = []
        for row, (stored, conditioning) in enumerate(zip(self._stored, self._conditioning, strict=True)):
            if self._endless and stored >= self._segmenter.recent_pointers:
                full.setdefault(conditioning, []).append(row)
            else:
                young.append(row)
        return [full[conditioning] for conditioning in sorted(full)] + ([young] if young else [])

    def places(self, groups: Sequence[Sequence[int]]) -> slice | torch.Tensor:
        """Where each row is when all ``groups`` stand one after the other, as an index on the device."""
        order = [row for rows in groups for row in rows]
        return self._index(tuple(order.index(row) for row in range(self.count)))

    @torch.inference_mode()
    def stored(self, frame: int, rows: Sequence[int]) -> StoredMemory:
        """What is stored of ``rows``, to be looked for on ``frame``."""
        counts = {self._conditioning[row] for row in rows}
        full = self._endless and all(self._stored[row] >= self._segmenter.recent_pointers for row in rows)
        masked = not full or len(counts) > 1
        # rows with a key mask all have the same shape where shapes are static
        conditioning = CONDITIONING if masked and self._segmenter.static else max(counts)
        index = self._index(tuple(rows))
        clock = torch.full((), frame, device=self._segmenter.device)
        tensors = *self._memories.stored(index), *self._pointers.stored(index)
        return StoredMemory(clock, tensors, Recall(self._segmenter, conditioning, self._endless, masked))

    def _index(self, rows: tuple[int, ...]) -> slice | torch.Tensor:
        """An index of the rows on the device: a slice if they follow each other.

        It is kept, because copying it to a GPU makes the host wait.
        """
        if rows == tuple(range(rows[0], rows[0] + len(rows))):
            return slice(rows[0], rows[0] + len(rows))
        if rows not in self._indices:
            if len(self._indices) == _MOST_INDICES:
                self._indices.clear()
            self._indices[rows] = torch.tensor(rows, device=self._segmenter.device)
        return self._indices[rows]


def bank_bytes(segmenter: Segmenter, capacity: int, dtype: torch.dtype = torch.bfloat16) -> int:
    """The ``nbytes`` of a MemoryBank, computed without allocating one."""
    return sum(ring.nbytes for ring in _new_rings(segmenter, capacity, dtype, torch.device("meta")))


def _new_rings(segmenter: Segmenter, capacity: int, dtype: torch.dtype, device: torch.device) -> tuple[Ring, Ring]:
    """Empty rings of spatial memories and of pointers."""
    memory, pointer = _slot_formats(segmenter, dtype, device)
    return Ring(capacity, segmenter.recent_memories, memory), Ring(capacity, segmenter.recent_pointers, pointer)


def _slot_formats(segmenter: Segmenter, dtype: torch.dtype, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """A tensor like one slot of each ring."""
    memory = torch.zeros(segmenter.side**2, segmenter.memory_dim, dtype=dtype, device=device)
    return memory, torch.zeros(segmenter.pointer_dim, device=device)
