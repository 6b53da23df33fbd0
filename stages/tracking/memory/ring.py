"""Ring buffers, one per object: the most recent values, and those of the first and the latest conditioning frame."""

import math
from collections.abc import Callable, Sequence

import torch

CONDITIONING = 2  # conditioning slots per row: the first and the latest conditioning frame
_NEVER = -1  # frame of an empty slot


class Ring:
    """``capacity`` rows of ``CONDITIONING`` slots and a ring of ``recent`` + 1 slots.

    The extra slot is for corrections by hand: when the last frame is segmented again, its own value must not be read,
    and the oldest value that was read for it before must still be there.
    """

    def __init__(self, capacity: int, recent: int, like: torch.Tensor) -> None:
        """``like``: a tensor with the shape, dtype and device of one slot."""
        self._length = recent + 1
        slots = CONDITIONING + self._length
        self._values = like.new_zeros(capacity, slots, *like.shape)
        self._compact = False  # after a failed `refit`: _values has only the rows in use, perhaps on the host
        self.frames, self._written = self._empty_index(capacity, like.device)

    @property
    def values(self) -> torch.Tensor:
        """The content of all slots, (capacity, slots, ...)."""
        if self._compact:
            whole = self._values.new_zeros(self.capacity, *self._values.shape[1:], device=self.frames.device)
            whole[: len(self._values)] = self._values
            self._values, self._compact = whole, False
        return self._values

    @property
    def capacity(self) -> int:
        """Number of rows."""
        return len(self.frames)

    def _empty_index(self, capacity: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """For ``capacity`` empty rows: the frame of each slot, and how many frames each row has written."""
        frames = torch.full((capacity, CONDITIONING + self._length), _NEVER, device=device)
        frames[:, 0] = 0  # rows in use always have this slot; attention needs a valid key for the unused ones, too
        return frames, torch.zeros(capacity, dtype=torch.long, device=device)

    @property
    def nbytes(self) -> int:
        """Bytes of tensor memory held."""
        return sum(tensor.numel() * tensor.element_size() for tensor in (self.values, self.frames, self._written))

    def write_conditioning(self, rows: slice | int, slot: int, frame: int, values: torch.Tensor) -> None:
        """Write conditioning slot ``slot`` of some rows."""
        self.values[rows, slot] = values.to(self.values.dtype)
        self.frames[rows, slot] = frame

    def clear(self, rows: slice | int) -> None:
        """Empty all slots of some rows but the first."""
        self.frames[rows, 1:] = _NEVER
        self._written[rows] = 0

    def push(self, frame: int, values: torch.Tensor, store: torch.Tensor) -> None:
        """Write the next slot of those of the first rows that are set in ``store`` (rows,) bool."""
        rows = torch.arange(len(store), device=store.device)
        slots = CONDITIONING + self._written[: len(store)] % self._length
        chosen = store.reshape(-1, *[1] * (values.ndim - 1))
        self.values[rows, slots] = torch.where(chosen, values.to(self.values.dtype), self.values[rows, slots])
        self.frames[rows, slots] = torch.where(store, frame, self.frames[rows, slots])
        self._written[: len(store)] += store

    def replace(self, row: int, frame: int, value: torch.Tensor) -> None:
        """Overwrite the value that the row has for ``frame``, or push it if the row has none."""
        slots = (self.frames[row] == frame).nonzero()[:, 0].tolist()
        if not slots:
            slots = [CONDITIONING + int(self._written[row]) % self._length]
            self._written[row] += 1
        self.values[row, slots[0]], self.frames[row, slots[0]] = value.to(self.values.dtype), frame

    def refit(
        self, capacity: int, rows: int, like: torch.Tensor, convert: Callable[[torch.Tensor], torch.Tensor]
    ) -> None:
        """Change the capacity and the format of a slot, keeping the first ``rows`` rows.

        ``like`` is as for a new ring; ``convert`` maps a row's values (slots, ...) to the new format. A ring that
        shrinks is copied to the host first, so that freeing memory never needs more of it. When anything fails, the
        content stays as it was; values on the host return to the device when they are next used and there is room.
        """
        shape = (capacity, CONDITIONING + self._length, *like.shape)
        old = self._values[:rows]
        if math.prod(shape) < self._values.numel():
            old = old.cpu()
            self._values, self._compact = old, True
            if like.device.type == "cuda":
                torch.cuda.empty_cache()
        values = like.new_zeros(shape)  # allocated first, because it may not fit
        frames, written = self._empty_index(capacity, like.device)
        for row in range(rows):
            values[row] = convert(old[row].to(like.device)).to(like.dtype)
        frames[:rows], written[:rows] = self.frames[:rows], self._written[:rows]
        self._values, self._compact, self.frames, self._written = values, False, frames, written

    def state_dict(self, rows: int, recent: int) -> dict[str, torch.Tensor]:
        """What the first ``rows`` rows hold, on the host: conditioning slots, and the ``recent`` newest of the others.

        ``recent`` is at most what the ring was made for. "frames" (rows, slots) has the recent slots oldest first,
        "values" (V, ...) only what is valid of them, row by row.
        """
        frames, written = self.frames[:rows].cpu(), self._written[:rows].cpu()
        slots = self._slots(written, recent)
        frames = frames.gather(1, slots)
        # row by row, because a copy of all rows may not fit the device
        values = [self._values[row, slots[row, frames[row] != _NEVER]].cpu() for row in range(rows)]
        if recent < self._length - 1:  # then the older slots count as never written
            written = written.clamp(max=recent)
        return {"values": torch.cat([self._values[:0, 0].cpu(), *values]), "frames": frames, "written": written}

    def load_state_dict(self, state: dict[str, torch.Tensor], origins: Sequence[int]) -> None:
        """Replace all rows by those of a `state_dict` at ``origins``, in this order."""
        frames, written = state["frames"], state["written"]
        slots = self._slots(written, frames.shape[1] - CONDITIONING)
        values = state["values"].split((frames != _NEVER).sum(1).tolist())
        new_frames, new_written = self._empty_index(self.capacity, torch.device("cpu"))
        for row, origin in enumerate(origins):
            valid = frames[origin] != _NEVER
            self.values[row, slots[origin, valid]] = values[origin].to(self.values)
            new_frames[row, slots[origin]], new_written[row] = frames[origin], written[origin]
        self.frames, self._written = new_frames.to(self.frames.device), new_written.to(self.frames.device)

    def _slots(self, written: torch.Tensor, recent: int) -> torch.Tensor:
        """The conditioning slots and the ``recent`` newest others, oldest first, of rows that have ``written`` (R,)."""
        newest = CONDITIONING + (written[:, None] + torch.arange(-recent, 0)) % self._length
        return torch.cat([torch.arange(CONDITIONING).expand(len(written), -1), newest], dim=1)

    def written(self, rows: int) -> torch.Tensor:
        """How many frames the first rows have written since they were last cleared, (rows,)."""
        return self._written[:rows]

    def move(self, source: int, target: int) -> None:
        """Copy row ``source`` to row ``target``."""
        for tensor in (self._values, self.frames, self._written):  # _values, compact or not: this cannot fail
            tensor[target] = tensor[source]

    def copy(self, row: int, other: "Ring", source: int) -> None:
        """Replace a row by row ``source`` of a ring whose slots have the same format."""
        self.values[row], self.frames[row] = other.values[source], other.frames[source]
        self._written[row] = other._written[source]

    def stored(self, rows: slice | torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What is stored of R rows: values (R, slots, ...), the frame of each slot (R, slots), frames written (R,).

        ``rows``: a slice, for views, or indices (R,).
        """
        return self.values[rows], self.frames[rows], self._written[rows]


def slots_before(
    clock: torch.Tensor, frames: torch.Tensor, written: torch.Tensor, conditioning: int, by_rank: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The slots of R rows with values of frames before ``clock``; ``frames`` and ``written`` as `Ring.stored` has them.

    First ``conditioning`` conditioning slots, then the recent ones, oldest first. Returns slot numbers (R, conditioning
    + recent), ages in frames, and which slots are valid. Recent slots older than ``recent`` frames are not valid.
    ``by_rank`` instead gives the newest recent slot the age 1, the one before it 2, and so on, and does not limit the
    age.
    """
    length = frames.shape[1] - CONDITIONING
    recent, device, written = length - 1, frames.device, written[:, None]
    newest = frames.gather(1, CONDITIONING + (written - 1) % length)
    order = torch.arange(recent, device=device)
    slots = CONDITIONING + (written + (newest < clock) + order) % length
    slots = torch.cat([torch.arange(conditioning, device=device).expand(len(frames), -1), slots], dim=1)
    frames = frames.gather(1, slots)
    age, valid = clock - frames, frames != _NEVER
    if by_rank:
        age[:, conditioning:] = recent - order
    else:
        valid[:, conditioning:] &= age[:, conditioning:] <= recent
    return slots, age, valid
