"""Rows of slots that keep the last few of something, and its first and latest conditioning frame for ever."""

import math
from collections.abc import Callable

import torch

CONDITIONING = 2  # conditioning frames kept per row
_NEVER = -1


class Ring:
    """``CONDITIONING`` slots, then as many as are recalled and one more, for ``capacity`` rows.

    The one more is for corrections: while the last frame is segmented anew it must not count itself, nor have pushed
    out the oldest frame that it was segmented with before.
    """

    def __init__(self, capacity: int, recent: int, like: torch.Tensor) -> None:
        """``like``: what one slot holds, of its shape and dtype and where."""
        self._recent, self._length = recent, recent + 1
        slots = CONDITIONING + self._length
        self._kept = like.new_zeros(capacity, slots, *like.shape)
        self._aside = False  # after a change of size that failed: only rows in use, perhaps on the host
        self.frames, self._written = self._empty(capacity, like.device)

    @property
    def kept(self) -> torch.Tensor:
        """What the slots hold, (capacity, slots, ...)."""
        if self._aside:
            whole = self._kept.new_zeros(self.capacity, *self._kept.shape[1:], device=self.frames.device)
            whole[: len(self._kept)] = self._kept
            self._kept, self._aside = whole, False
        return self._kept

    @property
    def capacity(self) -> int:
        return len(self.frames)

    def _empty(self, capacity: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """The frames of ``capacity`` rows, and how many each has stored."""
        frames = torch.full((capacity, CONDITIONING + self._length), _NEVER, device=device)
        frames[:, 0] = 0  # every row in use has one; for those that are not, attention needs some key, too
        return frames, torch.zeros(capacity, dtype=torch.long, device=device)

    @property
    def nbytes(self) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in (self.kept, self.frames, self._written))

    def condition(self, rows: slice | int, slot: int, frame: int, values: torch.Tensor) -> None:
        """Write a conditioning slot."""
        self.kept[rows, slot] = values.to(self.kept.dtype)
        self.frames[rows, slot] = frame

    def forget(self, rows: slice | int) -> None:
        """Empty all slots but the first."""
        self.frames[rows, 1:] = _NEVER
        self._written[rows] = 0

    def push(self, frame: int, values: torch.Tensor, store: torch.Tensor) -> None:
        """Write the next slot of those of the first rows that ``store`` (rows,) bool names."""
        rows = torch.arange(len(store), device=store.device)
        slots = CONDITIONING + self._written[: len(store)] % self._length
        chosen = store.reshape(-1, *[1] * (values.ndim - 1))
        self.kept[rows, slots] = torch.where(chosen, values.to(self.kept.dtype), self.kept[rows, slots])
        self.frames[rows, slots] = torch.where(store, frame, self.frames[rows, slots])
        self._written[: len(store)] += store

    def amend(self, row: int, frame: int, value: torch.Tensor) -> None:
        """Write ``value`` over what the row keeps of ``frame``, or as its newest where it keeps nothing of it."""
        held = (self.frames[row] == frame).nonzero()[:, 0].tolist()
        if not held:
            held = [CONDITIONING + int(self._written[row]) % self._length]
            self._written[row] += 1
        self.kept[row, held[0]], self.frames[row, held[0]] = value.to(self.kept.dtype), frame

    def refit(
        self, capacity: int, rows: int, like: torch.Tensor, change: Callable[[torch.Tensor], torch.Tensor]
    ) -> None:
        """Keep the first rows in a ring for ``capacity``, whose slots are as ``like``: ``change`` of (slots, ...) each.

        A ring that shrinks goes by way of the host, so that giving memory back never takes more of it first. Where
        anything fails all is kept as it was; what went to the host returns once it is asked for and there is room.
        """
        shape = (capacity, CONDITIONING + self._length, *like.shape)
        held = self._kept[:rows]
        if math.prod(shape) < self._kept.numel():
            held = held.cpu()
            self._kept, self._aside = held, True
            if like.device.type == "cuda":
                torch.cuda.empty_cache()
        kept = like.new_zeros(shape)  # the first, since it is what may not fit
        frames, written = self._empty(capacity, like.device)
        for row in range(rows):
            kept[row] = change(held[row].to(like.device)).to(like.dtype)
        frames[:rows], written[:rows] = self.frames[:rows], self._written[:rows]
        self._kept, self._aside, self.frames, self._written = kept, False, frames, written

    def written(self, rows: int) -> list[int]:
        """How many frames the first rows have stored since they were last emptied."""
        return [int(n) for n in self._written[:rows].tolist()]

    def move(self, source: int, target: int) -> None:
        for tensor in (self._kept, self.frames, self._written):  # which never fails, wherever they are
            tensor[target] = tensor[source]

    def before(
        self, frame: int, rows: int, conditioning: int, by_rank: bool
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Where the first rows keep frames before ``frame``: ``conditioning`` slots, then the recent, oldest first.

        Returns the slots (rows, conditioning + recent), their ages in frames, and which of them count. Of the recent
        ones those older than ``recent`` frames don't; ``by_rank`` takes the newest to be one frame old, the one before
        it two, and so on, and all of them count.
        """
        device, written = self.frames.device, self._written[:rows, None]
        every = torch.arange(rows, device=device)[:, None]
        newest = self.frames[every, CONDITIONING + (written - 1) % self._length]
        order = torch.arange(self._recent, device=device)
        recent = CONDITIONING + (written + (newest < frame) + order) % self._length
        slots = torch.cat([torch.arange(conditioning, device=device).expand(rows, -1), recent], dim=1)
        frames = self.frames[every, slots]
        age, valid = frame - frames, frames != _NEVER
        if by_rank:
            age[:, conditioning:] = self._recent - order
        else:
            valid[:, conditioning:] &= age[:, conditioning:] <= self._recent
        return slots, age, valid

    def read(self, slots: torch.Tensor) -> torch.Tensor:
        """What some slots (rows, S) of the first rows hold, (rows, S, ...)."""
        return self.kept[torch.arange(len(slots), device=slots.device)[:, None], slots]
