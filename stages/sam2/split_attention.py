"""Attention whose keys are split into equal parts that run side by side.

A GPU's kernel gives each block of queries to one multiprocessor. With one object of 4096 queries that is 32 blocks, and
an H200 has 132 multiprocessors. So the keys are split, every part is attended to by itself, and the parts are weighted
with the softmax of their log-sum-exps, which is exact (FlashDecoding; Dao et al., 2023,
https://pytorch.org/blog/flash-decoding/).
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

log = logging.getLogger(__name__)

# (B, H, N, C) queries, keys and values -> what they attend to, and the log-sum-exp (B, H, N, 1) of the scaled products
AttendPart = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]

_BLOCK = 128  # queries that one multiprocessor takes at a time
_MOST_PARTS = 8
_QUERIES, _PLACES = 256, 81  # of the trial; an odd number of keys, as the second conditioning frame gives


@dataclass(frozen=True, slots=True)
class Splitting:
    """When keys are split, and what attends to a part."""

    attend: AttendPart
    multiprocessors: int

    def parts(self, objects: int, queries: int, keys: int) -> int:
        """How many equal parts to split the keys of a batch into: as many as there are multiprocessors for."""
        most = self.multiprocessors // (objects * -(-queries // _BLOCK))
        return max((n for n in range(1, min(most, _MOST_PARTS) + 1) if keys % n == 0), default=1)


def attend_in_parts(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, parts: int, attend: AttendPart
) -> torch.Tensor:
    """Attention of one head: queries (B, 1, N, C), keys (B, 1, P, C), values (B, 1, P, D) -> (B, 1, N, D).

    ``parts`` divides P. The parts take the place of the heads, so that keys and values are not copied.
    """
    keys, values = (x.reshape(len(x), parts, -1, x.shape[-1]) for x in (keys, values))
    out, logsumexp = attend(queries.expand(-1, parts, -1, -1).contiguous(), keys, values)
    return (out * logsumexp.softmax(1)).sum(1, keepdim=True).to(out.dtype)


def attend_with_cudnn(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The kernel that scaled_dot_product_attention chooses on a Hopper GPU; half precision only."""
    out, logsumexp, *_ = torch.ops.aten._scaled_dot_product_cudnn_attention(queries, keys, values, None, True)
    return out, logsumexp.reshape(*out.shape[:-1], 1)  # releases of torch differ in the last dimension


def attend_plainly(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The definition, for any device and precision."""
    products = queries @ keys.mT * queries.shape[-1] ** -0.5
    return products.softmax(-1) @ values, products.logsumexp(-1, keepdim=True)


def splitting_of(device: torch.device, dtype: torch.dtype, channels: int, value_channels: int) -> Splitting | None:
    """How to split keys on a CUDA device; None where the kernel for it does not run or is wrong, with one warning.

    ``channels`` of queries and keys, ``value_channels`` of the values; ``dtype`` must be a half precision.
    """
    splitting = Splitting(attend_with_cudnn, torch.cuda.get_device_properties(device).multi_processor_count)
    reason = why_wrong(splitting.attend, device, dtype, channels, value_channels)
    if reason is None:
        return splitting
    log.warning("segmenter: memory attention runs without cuDNN and without splitting keys, so slower: %s", reason)
    return None


@torch.inference_mode()
def why_wrong(
    attend: AttendPart, device: torch.device, dtype: torch.dtype, channels: int, value_channels: int
) -> str | None:
    """Try ``attend`` on three parts of the keys of two objects against whole attention; None where they agree.

    The queries are large, so that the parts have different weights.
    """
    random = torch.Generator().manual_seed(0)
    shapes = ((_QUERIES, channels), (3 * _PLACES, channels), (3 * _PLACES, value_channels))
    queries, keys, values = (torch.randn(2, 1, *shape, generator=random).to(device, dtype) for shape in shapes)
    queries *= 4
    whole = F.scaled_dot_product_attention(queries.float(), keys.float(), values.float())
    try:
        split = attend_in_parts(queries, keys, values, 3, attend).float()
        off = float((split - whole).abs().max() / whole.abs().max())
    except (AttributeError, RuntimeError, TypeError) as error:  # also from a torch without this operation
        return str(error).partition("\n")[0]
    return None if off < 8 * torch.finfo(dtype).eps else f"its result is off by {off:.2g} of the largest value"
