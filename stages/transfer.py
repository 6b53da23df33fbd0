"""Copies from a device to the host for which only those wait who read them."""

from dataclasses import dataclass

import torch

_HALF_MAX = torch.finfo(torch.float16).max


def to_half(logits: torch.Tensor) -> torch.Tensor:
    """Mask logits in half precision; those that it cannot hold become its largest numbers.

    Where such masks are enlarged, about one pixel in 55,000 is another one, at the masks' borders.
    """
    return logits.clamp(-_HALF_MAX, _HALF_MAX).half()


@dataclass(frozen=True, slots=True, eq=False)
class Transfer:
    """A tensor on its way to the host. Any thread may wait for it."""

    _host: torch.Tensor
    _arrived: torch.cuda.Event | None  # None: it is there

    @classmethod
    def begin(cls, values: torch.Tensor) -> "Transfer":
        """Start to copy ``values``. On the CPU nothing is copied.

        On a GPU the copy goes into pinned memory, behind the work that the current stream has been given; later work of
        that stream may overwrite ``values``. PyTorch's allocator of pinned memory gives a block to the next copy only
        when no tensor refers to it any more and no copy into it is under way.
        """
        if values.device.type != "cuda":
            return cls(values.cpu(), None)
        host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        host.copy_(values, non_blocking=True)
        arrived = torch.cuda.Event(blocking=True)  # who waits sleeps and leaves the core to others
        arrived.record(torch.cuda.current_stream(values.device))
        return cls(host, arrived)

    @property
    def shape(self) -> torch.Size:
        """The tensor's shape; nothing is waited for."""
        return self._host.shape

    def part(self, index: int) -> "Transfer":
        """The part of the tensor at ``index`` of its first dimension."""
        return Transfer(self._host[index], self._arrived)

    def wait(self) -> torch.Tensor:
        """The tensor on the host, once it is there. Raises RuntimeError when the GPU has failed."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._host
